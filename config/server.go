package config

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// platformName is the data directory of the built-in configuration that holds
// the log and the snapshots.
const platformName = "PLATFORM"

// LoadServer reads everything. environ is os.Environ(); it and fs are the only
// inputs beside the files they name. With an error, which joins all Faults, the
// rest of the Server is what could be read: enough for the EULA gate and the log.
func LoadServer(fs *pflag.FlagSet, environ []string) (Server, error) {
	f := load(serverRows, fs, environ, "")
	s := Server{Common: f.common()}
	host := f.hostname()
	var effective []Setting
	if file := f.text("config"); file != "" {
		s.ConfigFile = file
		effective = f.fromFile(&s, file, host)
	} else {
		effective = f.builtIn(&s, host)
	}
	s.Bind = f.bind("bind")
	if f.text("group-bind") == "" {
		f.lay(map[string]value{"group-bind": {s.Bind, originDefault}})
	}
	s.GroupBind = f.bind("group-bind")
	s.Failover = f.failover()
	f.reach(&s)
	s.ManagementPort = f.managementPort()
	s.ManagementAsked = f.origin["management-port"] != originDefault
	s.MemoryMayExceed = f.oneOf("memory-check", "refuse", "warn") == "warn"
	s.Durability = f.durability(s.Stripe.DataDirectories)
	s.TrustedKeys = f.trustedKeys(executable())
	s.Password = f.password()
	s.MaxConnections = f.number("max-connections", 1, 1_000_000)
	s.MaxValue = int(f.size("max-value-size", 1<<10, wire.DefaultMaxValue))
	s.Notes = f.notes
	s.Settings = append(effective, f.listed()...)
	return s, f.err()
}

// builtIn makes the configuration that the images have without a file: one
// server, or with tc-server1 and tc-server2 a pair.
func (f *floors) builtIn(s *Server, host string) []Setting {
	root := f.dataRoot()
	s.Stripe = wire.StripeConfig{
		Servers:          f.builtInServers(host),
		OffheapResources: f.builtInOffheap(),
		FailoverPriority: availability,
		ReconnectWindow:  wire.DefaultReconnectWindow,
		BackupLocation:   f.text("backup-location"),
	}
	dirs, dirSettings := f.builtInDirectories(root, f.origin["data-root"])
	s.Stripe.DataDirectories = dirs
	f.pickSelf(s, host)
	list := []Setting{}
	for _, srv := range s.Stripe.Servers {
		origin := f.origin["hostname"]
		if len(s.Stripe.Servers) > 1 {
			origin = joined(f.origin["tc-server1"], f.origin["tc-server2"])
		}
		list = append(list, Setting{"server", describeServer(srv), origin})
	}
	list = append(list, f.offheapSettings(s.Stripe.OffheapResources)...)
	list = append(list, dirSettings...)
	return append(list,
		Setting{"backup-location", s.Stripe.BackupLocation, f.origin["backup-location"]},
		Setting{"failover-priority", availability, originDefault},
		Setting{"client-reconnect-window", s.Stripe.ReconnectWindow.String(), originDefault})
}

// homeData is the data root below the home folder where the images' one is not there.
const homeData = "terracotta/server-data"

// dataRoot returns the folder of the data directories and settles its origin.
// Outside of a container there is hardly a folder /data that a user may write.
func (f *floors) dataRoot() string {
	home := f.env["HOME"]
	if f.origin["data-root"] == originDefault && f.env["TERRACOTTA_CONTAINER"] != "1" && path.IsAbs(home) && !isDir(f.text("data-root")) {
		f.lay(map[string]value{"data-root": {path.Join(home, homeData), originDefault}})
	}
	root := f.text("data-root")
	if !path.IsAbs(root) && !filepath.IsAbs(root) {
		f.bad("data-root", "is not an absolute path")
	}
	return root
}

// builtInDirectories names the data directories below root, whose origin is given.
func (f *floors) builtInDirectories(root, origin string) ([]wire.DataDirectory, []Setting) {
	var dirs []wire.DataDirectory
	var list []Setting
	for _, key := range []string{"data-resource1", "data-resource2", ""} {
		name, nameOrigin := platformName, originDefault
		if key != "" {
			name, nameOrigin = f.text(key), f.origin[key]
			if problem := checkName(name); problem != "" {
				f.bad(key, problem)
			}
			if slices.ContainsFunc(dirs, func(d wire.DataDirectory) bool { return d.Name == name }) || name == platformName {
				f.bad(key, "names a data directory that is there already")
			}
		}
		d := wire.DataDirectory{Name: name, Path: path.Join(root, name), Platform: name == platformName}
		dirs = append(dirs, d)
		list = append(list, Setting{"data-directory", describeDir(d), joined(nameOrigin, origin)})
	}
	return dirs, list
}

func (f *floors) offheapSettings(resources []wire.OffheapResource) []Setting {
	var list []Setting
	for i, r := range resources {
		key := fmt.Sprintf("offheap-resource%d-", i+1)
		list = append(list, Setting{"offheap-resource", r.Name + " " + formatSize(r.Size),
			joined(f.origin[key+"name"], f.origin[key+"unit"], f.origin[key+"size"])})
	}
	return list
}

func (f *floors) builtInServers(host string) []wire.ServerConfig {
	one, two := f.text("tc-server1"), f.text("tc-server2")
	hosts := []string{one, two}
	switch {
	case one == "" || two == "":
		if one+two != "" {
			f.note("only one of TC_SERVER1 and TC_SERVER2 is set: this is a single server")
		}
		hosts = []string{host}
		if name := f.text("name"); name != "" {
			return []wire.ServerConfig{{Name: name, Host: host, Port: wire.DefaultPort, GroupPort: wire.DefaultGroupPort}}
		}
	case one == two:
		f.bad("tc-server2", "names the same server as tc-server1")
	}
	var servers []wire.ServerConfig
	for i, h := range hosts {
		if problem := checkHost(h); problem != "" && len(hosts) > 1 {
			f.bad([]string{"tc-server1", "tc-server2"}[i], problem)
		}
		servers = append(servers, wire.ServerConfig{Name: h, Host: h, Port: wire.DefaultPort, GroupPort: wire.DefaultGroupPort})
	}
	return servers
}

func (f *floors) builtInOffheap() []wire.OffheapResource {
	var list []wire.OffheapResource
	for _, n := range []string{"1", "2"} {
		key := "offheap-resource" + n + "-"
		name, number, unit := f.text(key+"name"), f.text(key+"size"), f.text(key+"unit")
		size, err := parseSize("1", unit)
		if err != nil {
			f.bad(key+"unit", "is none of B, kB, MB, GB, TB, PB")
		} else if size, err = parseSize(number, unit); err != nil {
			f.bad(key+"size", err.Error())
		} else if size == 0 && n == "2" {
			continue
		} else if size == 0 {
			f.bad(key+"size", "is not at least 1")
		}
		if problem := checkName(name); problem != "" {
			f.bad(key+"name", problem)
		}
		if len(list) > 0 && list[0].Name == name {
			f.bad(key+"name", "names both off-heap resources")
		}
		list = append(list, wire.OffheapResource{Name: name, Size: size})
	}
	return list
}

// fromFile reads the stripe from a tc-config.xml.
func (f *floors) fromFile(s *Server, file, host string) []Setting {
	doc, err := readLimited(file, maxTCConfig)
	if err != nil {
		f.bad("config", err.Error())
		return nil
	}
	tc, faults := parseTC(file, doc, variables(host, f.env, f.props))
	f.faults = append(f.faults, faults...)
	f.notes = append(f.notes, tc.notes...)
	for _, r := range f.rows {
		if r.builtin && f.origin[r.key] != originDefault && f.text(r.key) != r.def && !(tc.old && forOld(r.key)) {
			f.note("%s (%s) is not used: %s replaces the built-in configuration", r.key, f.origin[r.key], file)
		}
	}
	if len(faults) > 0 {
		return tc.settings
	}
	s.Stripe = tc.stripe
	if s.Stripe.Security {
		f.fault("security", "", tc.securityAt, "TLS and authentication by files, LDAP or certificates are not in this version; a shared secret is", "TC_PASSWORD_FILE=/run/secrets/terracotta")
	}
	f.pickSelf(s, host)
	i := slices.IndexFunc(s.Stripe.Servers, func(o wire.ServerConfig) bool { return o == s.Self })
	if tc.old {
		f.completeOld(&tc, max(i, 0))
		s.Stripe = tc.stripe
	}
	if i >= 0 {
		f.lower("bind", tc.binds[i], tc.serversAt[i])
		f.lower("group-bind", tc.groupBinds[i], tc.serversAt[i])
		f.lower("tsa-port", strconv.Itoa(s.Self.Port), tc.serversAt[i])
		f.lower("tsa-group-port", strconv.Itoa(s.Self.GroupPort), tc.serversAt[i])
	}
	return tc.settings
}

// forOld reports whether a setting of the built-in configuration counts beside a
// file of 4.x, too.
func forOld(key string) bool {
	return strings.HasPrefix(key, "offheap-resource") || strings.HasPrefix(key, "data-r") || key == "backup-location"
}

// pickSelf finds this server among those of the stripe: by its name where one is
// given, else the only one, else the one called like this host.
func (f *floors) pickSelf(s *Server, host string) {
	name := f.text("name")
	var names []string
	var same []wire.ServerConfig
	for _, srv := range s.Stripe.Servers {
		names = append(names, srv.Name)
		if srv.Name == name || name == "" && (srv.Name == host || srv.Host == host) {
			same = append(same, srv)
		}
	}
	all := strings.Join(names, ", ")
	switch {
	case len(same) == 1:
		s.Self = same[0]
	case name != "" && len(names) > 0:
		f.bad("name", "is none of the configured servers: "+all)
	case len(names) == 1:
		s.Self = s.Stripe.Servers[0]
	case len(names) > 1:
		f.fault("name", "", "", fmt.Sprintf("which server is this? The host is called %s, the configured servers are %s", quoted(host), all), "-n "+names[0])
	}
	if problem := checkName(s.Self.Name); problem != "" && name != "" && len(same) == 1 {
		f.bad("name", problem)
	}
}

func (f *floors) bind(key string) string {
	bind := f.text(key)
	if problem := checkHost(bind); problem != "" {
		f.bad(key, problem)
	}
	return bind
}

// failover reads failover-timers. The bounds keep out what no network and no
// scheduler can do, and what nobody would wait for.
func (f *floors) failover() (t FailoverTimers) {
	text := f.text("failover-timers")
	switch text {
	case "safe":
		return FailoverTimers{}
	case "fast":
		return FailoverTimers{Heartbeat: 150 * time.Millisecond, Election: 150 * time.Millisecond, Lease: 125 * time.Millisecond}
	}
	parts := strings.Split(text, "/")
	if len(parts) != 3 && len(parts) != 4 {
		f.bad("failover-timers", "is none of safe, fast and HEARTBEAT/ELECTION/LEASE or HEARTBEAT/ELECTION/LEASE/ALONE")
		return t
	}
	for i, d := range []*time.Duration{&t.Heartbeat, &t.Election, &t.Lease, &t.Alone}[:len(parts)] {
		var err error
		if *d, err = time.ParseDuration(parts[i]); err != nil || *d < 5*time.Millisecond || *d > time.Minute {
			f.bad("failover-timers", "holds a time that is not between 5ms and 1m")
			return FailoverTimers{}
		}
	}
	if t.Heartbeat < 50*time.Millisecond || t.Lease > t.Heartbeat || t.Election < t.Heartbeat {
		f.bad("failover-timers", "must have a heartbeat of at least 50ms, an election of at least that, and a lease of at most it")
		return FailoverTimers{}
	}
	if len(parts) == 4 && t.Alone < 3*t.Heartbeat/2 {
		f.bad("failover-timers", "must have a time alone of at least one and a half heartbeats")
		return FailoverTimers{}
	}
	return t
}

// reach settles how others reach this server: ports and advertised host. A
// single server's stripe follows; servers of a larger stripe must all run the
// same one, so their ports belong into the file.
func (f *floors) reach(s *Server) {
	if len(s.Stripe.Servers) == 0 {
		return
	}
	port := f.number("tsa-port", 0, 65535)
	group := 0
	if f.text("tsa-group-port") != "" {
		group = f.number("tsa-group-port", 0, 65535)
	} else if port > 0 {
		group = port + wire.DefaultGroupPort - wire.DefaultPort
		f.lay(map[string]value{"tsa-group-port": {strconv.Itoa(group), originDefault}})
		if group > 65535 {
			f.bad("tsa-group-port", "tsa-port + 20 is no port")
		}
	}
	if group == port && port != 0 {
		f.bad("tsa-group-port", "is tsa-port too")
	}
	several := len(s.Stripe.Servers) > 1
	if several && s.Self.Name != "" {
		if port != s.Self.Port {
			f.bad("tsa-port", "differs from the stripe's configuration, which all its servers share; write it there")
		}
		if group != s.Self.GroupPort {
			f.bad("tsa-group-port", "differs from the stripe's configuration, which all its servers share; write it there")
		}
	}
	if s.Self.Name == "" {
		return // said already
	}
	s.Self.Port, s.Self.GroupPort = port, group
	if host := f.text("advertised-host"); host != "" {
		if problem := checkHost(host); problem != "" {
			f.bad("advertised-host", problem)
		}
		s.Self.Host = host
	} else {
		f.lay(map[string]value{"advertised-host": {s.Self.Host, originDefault}})
	}
	if !several {
		s.Stripe.Servers[0] = s.Self
	}
}

func (f *floors) managementPort() int {
	if f.text("management-port") == "off" {
		return NoManagement
	}
	return f.number("management-port", 0, 65535)
}

// durability returns one of the constants; without a data directory there is
// only one choice.
func (f *floors) durability(dirs []wire.DataDirectory) string {
	if f.text("durability") == "" {
		text, origin := EveryWrite, originDefault
		if len(dirs) == 0 {
			text, origin = MemoryOnly, "no data directory is configured"
		}
		f.lay(map[string]value{"durability": {text, origin}})
	}
	d := f.oneOf("durability", EveryWrite, EverySecond, MemoryOnly)
	if len(dirs) == 0 && d != MemoryOnly && len(f.faults) == 0 {
		f.bad("durability", "needs a data directory, and none is configured")
	}
	return d
}

func describeServer(s wire.ServerConfig) string {
	return fmt.Sprintf("%s %s:%d", s.Name, s.Host, s.Port)
}

func describeDir(d wire.DataDirectory) string {
	text := d.Name + " " + d.Path
	if d.Platform {
		text += " (platform)"
	}
	return text
}

// joined names all origins that are not the default, once each.
func joined(origins ...string) string {
	var list []string
	for _, o := range origins {
		if o != originDefault && !slices.Contains(list, o) {
			list = append(list, o)
		}
	}
	if len(list) == 0 {
		return originDefault
	}
	return strings.Join(list, ", ")
}
