package config

// row is one setting with its name on every floor.
type row struct {
	key      string // flag name and key in a settings file
	short    string // one-letter flag, "" = none
	env      string // environment variable
	property string // of JAVA_OPTS, "" = none
	arg      string // what stands for the value in help texts
	def      string // default, "" = none or computed
	example  string // a value that works
	help     string
	noFlag   bool // secrets stand in no process list
	secret   bool // the value is never shown
	noFile   bool // may not stand in a settings file
	builtin  bool // only shapes the built-in configuration, which --config replaces
	port     bool // a container link may set the variable of this name to tcp://...
}

var commonRows = []row{
	{key: "settings", env: "TC_SETTINGS", property: "terracotta.settings", arg: "FILE", noFile: true,
		example: "/configs/settings.yaml", help: "settings file (YAML, TOML or JSON): the keys of this table with their values"},
	{key: "log-level", env: "LOG_LEVEL", property: "terracotta.log-level", arg: "LEVEL", def: "info",
		example: "debug", help: "debug, info, warn or error"},
	{key: "log-format", env: "LOG_FORMAT", property: "terracotta.log-format", arg: "FORMAT", def: "text",
		example: "json", help: "text or json"},
	{key: "password-file", env: "TC_PASSWORD_FILE", property: "terracotta.password-file", arg: "FILE",
		example: "/run/secrets/terracotta", help: "file with the shared secret of the cluster"},
	{key: "password", env: "TC_PASSWORD", noFlag: true, noFile: true, secret: true,
		example: "(a secret)", help: "shared secret of the cluster; a file is better: an environment is easily seen"},
}

var trustedRow = row{key: "trusted-keys", env: "TC_TRUSTED_KEYS", property: "terracotta.trusted-keys", arg: "DIR",
	example: "/etc/terracotta/trusted", help: "directory of the public keys (*.pem) whose licences are accepted; default /etc/terracotta/trusted, else license/trusted in the kit"}

var serverRows = append([]row{
	{key: "config", short: "f", env: "TC_CONFIG", property: "terracotta.config", arg: "FILE",
		example: "/configs/tc-config.xml", help: "tc-config.xml; it replaces the built-in configuration"},
	{key: "name", short: "n", env: "TC_SELF_NAME", property: "terracotta.name", arg: "NAME",
		example: "terracotta-1", help: "which of the configured servers this is; default: the only one, or the one called like this host"},
	{key: "hostname", env: "HOSTNAME", property: "terracotta.hostname", arg: "HOST",
		example: "terracotta-1", help: "name of this host; default: what the system says"},
	{key: "offheap-resource1-name", env: "OFFHEAP_RESOURCE1_NAME", property: "terracotta.offheap-resource1-name", arg: "NAME", def: "offheap-1", builtin: true,
		example: "offheap-1", help: "name of the first off-heap resource"},
	{key: "offheap-resource1-unit", env: "OFFHEAP_RESOURCE1_UNIT", property: "terracotta.offheap-resource1-unit", arg: "UNIT", def: "MB", builtin: true,
		example: "GB", help: "B, kB, MB, GB, TB or PB; 1 kB is 1024 B"},
	{key: "offheap-resource1-size", env: "OFFHEAP_RESOURCE1_SIZE", property: "terracotta.offheap-resource1-size", arg: "NUMBER", def: "512", builtin: true,
		example: "512", help: "size of the first off-heap resource, in its unit"},
	{key: "offheap-resource2-name", env: "OFFHEAP_RESOURCE2_NAME", property: "terracotta.offheap-resource2-name", arg: "NAME", def: "offheap-2", builtin: true,
		example: "offheap-2", help: "name of the second off-heap resource"},
	{key: "offheap-resource2-unit", env: "OFFHEAP_RESOURCE2_UNIT", property: "terracotta.offheap-resource2-unit", arg: "UNIT", def: "MB", builtin: true,
		example: "GB", help: "as for the first"},
	{key: "offheap-resource2-size", env: "OFFHEAP_RESOURCE2_SIZE", property: "terracotta.offheap-resource2-size", arg: "NUMBER", def: "512", builtin: true,
		example: "512", help: "size of the second off-heap resource, in its unit; 0 leaves it out"},
	{key: "data-resource1", env: "DATA_RESOURCE1", property: "terracotta.data-resource1", arg: "NAME", def: "dataroot-1", builtin: true,
		example: "dataroot-1", help: "name of the first data directory, a folder in the data root"},
	{key: "data-resource2", env: "DATA_RESOURCE2", property: "terracotta.data-resource2", arg: "NAME", def: "dataroot-2", builtin: true,
		example: "dataroot-2", help: "name of the second data directory"},
	{key: "data-root", env: "TC_DATA_ROOT", property: "terracotta.data-root", arg: "DIR", def: "/data/dataroots", builtin: true,
		example: "/data/dataroots", help: "folder of the data directories, the platform's one (PLATFORM) among them; where this default does not exist and it is no container, terracotta/server-data in the home folder"},
	{key: "backup-location", env: "TC_BACKUP_LOCATION", property: "terracotta.backup-location", arg: "DIR", def: "/data/backups", builtin: true,
		example: "/data/backups", help: "folder of the backups"},
	{key: "tc-server1", env: "TC_SERVER1", property: "terracotta.tc-server1", arg: "HOST", builtin: true,
		example: "terracotta-1", help: "with tc-server2: two servers, active and passive; name and host of the first"},
	{key: "tc-server2", env: "TC_SERVER2", property: "terracotta.tc-server2", arg: "HOST", builtin: true,
		example: "terracotta-2", help: "name and host of the second server"},
	{key: "bind", env: "TC_BIND", property: "terracotta.bind", arg: "ADDRESS", def: "0.0.0.0",
		example: "127.0.0.1", help: "address to listen on"},
	{key: "group-bind", env: "TC_GROUP_BIND", property: "terracotta.group-bind", arg: "ADDRESS",
		example: "10.0.0.7", help: "address to listen on for other servers of the stripe; default: bind"},
	{key: "failover-timers", env: "TC_FAILOVER_TIMERS", property: "terracotta.failover-timers", arg: "WORD", def: "safe",
		example: "fast", help: "how soon servers of a stripe notice that the active one is gone: safe, fast (for machines with cores to spare), or heartbeat/election/lease such as 300ms/300ms/250ms, with a fourth time after which the passive of a pair goes on alone, such as 600ms/600ms/500ms/1s; the same on all of them"},
	{key: "advertised-host", env: "TC_ADVERTISED_HOST", property: "terracotta.advertised-host", arg: "HOST",
		example: "cache.example.org", help: "host by which clients and servers reach this one; default: the configured host"},
	{key: "tsa-port", env: "TC_TSA_PORT", property: "terracotta.tsa-port", arg: "PORT", def: "9410", port: true,
		example: "9410", help: "port for clients and tools; 0 = any free one"},
	{key: "tsa-group-port", env: "TC_TSA_GROUP_PORT", property: "terracotta.tsa-group-port", arg: "PORT", port: true,
		example: "9430", help: "port for other servers; default: tsa-port + 20"},
	{key: "management-port", env: "TC_MANAGEMENT_PORT", property: "terracotta.management-port", arg: "PORT", def: "9540", port: true,
		example: "9540", help: "port for HTTP management (/health, /ready, /metrics); 0 = any free one, off = none"},
	{key: "durability", env: "TC_DURABILITY", property: "terracotta.durability", arg: "WHEN",
		example: "every-write", help: "every-write (acknowledged means on disk), every-second (a crash of the machine may lose the last second) or memory-only; default every-write, or memory-only where no data directory is configured"},
	{key: "memory-check", env: "TC_MEMORY_CHECK", property: "terracotta.memory-check", arg: "WORD", def: "refuse",
		example: "warn", help: "what to do when the off-heap resources are larger than the memory of the container or machine: refuse to start, or warn"},
	{key: "max-connections", env: "TC_MAX_CONNECTIONS", property: "terracotta.max-connections", arg: "NUMBER", def: "10000",
		example: "10000", help: "connections at a time, 1 to 1000000"},
	{key: "max-value-size", env: "TC_MAX_VALUE_SIZE", property: "terracotta.max-value-size", arg: "SIZE", def: "8MB",
		example: "1MB", help: "largest value of an attribute, 1kB to 8MB"},
	trustedRow,
}, commonRows...)

var toolRows = append([]row{
	{key: "license-url", env: "LICENSE_URL", property: "terracotta.license-url", arg: "URL", noFlag: true,
		example: "https://server/license.xml", help: "where configure fetches the licence"},
	{key: "license-file", env: "LICENSE_FILE", property: "terracotta.license-file", arg: "FILE", def: "/licenses/license.xml", noFlag: true,
		example: "/licenses/license.xml", help: "the default licence; a fetched one goes there"},
	{key: "license-sha256", env: "LICENSE_SHA256", property: "terracotta.license-sha256", arg: "HEX", noFlag: true,
		example: "the output of sha256sum license.xml", help: "SHA-256 that the fetched licence must have"},
	{key: "license-ca", env: "LICENSE_CA", property: "terracotta.license-ca", arg: "FILE", noFlag: true,
		example: "/licenses/ca.pem", help: "PEM file of a certification authority to trust besides the well-known ones"},
	{key: "license-allow-http", env: "LICENSE_ALLOW_HTTP", property: "terracotta.license-allow-http", arg: "Y", noFlag: true,
		example: "Y", help: "Y allows http: in license-url"},
	{key: "license-token-file", env: "LICENSE_TOKEN_FILE", property: "terracotta.license-token-file", arg: "FILE", noFlag: true,
		example: "/run/secrets/license-token", help: "file with a bearer token for license-url"},
	{key: "license-client-cert", env: "LICENSE_CLIENT_CERT", property: "terracotta.license-client-cert", arg: "FILE", noFlag: true,
		example: "/licenses/client.pem", help: "PEM file of a client certificate for license-url"},
	{key: "license-client-key", env: "LICENSE_CLIENT_KEY", property: "terracotta.license-client-key", arg: "FILE", noFlag: true,
		example: "/licenses/client-key.pem", help: "PEM file of its key"},
	trustedRow,
}, commonRows...)

var cartRows = append([]row{
	{key: "listen", env: "CART_LISTEN", property: "terracotta.cart.listen", arg: "ADDRESS", def: ":8080",
		example: ":8080", help: "host:port to listen on"},
	{key: "context-paths", env: "CART_CONTEXT_PATHS", property: "terracotta.cart.context-paths", arg: "LIST", def: "/cart,/Cart",
		example: "/cart,/Cart", help: "paths of the shop, separated by commas; / leads to the first"},
	{key: "color", env: "CART_COLOR", property: "terracotta.cart.color", arg: "COLOR",
		example: "goldenrod", help: "colour of the box: goldenrod or darkseagreen; default by the parity of the port or of the server's name"},
	{key: "peer-port", env: "CART_PEER_PORT", property: "terracotta.cart.peer-port", arg: "PORT", port: true,
		example: "9082", help: "port, as the browser sees it, of the other server for the switch link; default none"},
	{key: "server-name", env: "CART_SERVER_NAME", property: "terracotta.cart.server-name", arg: "NAME",
		example: "shop-1", help: "what the page calls this server; default: hostname"},
	{key: "hostname", env: "HOSTNAME", property: "terracotta.cart.hostname", arg: "HOST",
		example: "shop-1", help: "name of this host; default: what the system says"},
}, commonRows...)
