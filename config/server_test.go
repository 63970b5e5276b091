package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// loadServer loads with flags args in a quiet environment, on a host called box.
func loadServer(t *testing.T, args []string, environ ...string) (Server, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	ServerFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return LoadServer(fs, append(environ, "HOSTNAME=box"))
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// The defaults, those of docs/settings.md.
func TestServerDefaults(t *testing.T) {
	s, err := loadServer(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	self := wire.ServerConfig{Name: "box", Host: "box", Port: 9410, GroupPort: 9430}
	settings := s.Settings
	s.Settings = nil
	equal(t, s, Server{
		Common:         Common{LogLevel: "info", LogFormat: "text"},
		Self:           self,
		Bind:           "0.0.0.0",
		GroupBind:      "0.0.0.0",
		ManagementPort: 9540,
		Stripe: wire.StripeConfig{
			Servers:          []wire.ServerConfig{self},
			OffheapResources: []wire.OffheapResource{{Name: "offheap-1", Size: 512 << 20}, {Name: "offheap-2", Size: 512 << 20}},
			DataDirectories: []wire.DataDirectory{
				{Name: "dataroot-1", Path: "/data/dataroots/dataroot-1"},
				{Name: "dataroot-2", Path: "/data/dataroots/dataroot-2"},
				{Name: "PLATFORM", Path: "/data/dataroots/PLATFORM", Platform: true},
			},
			FailoverPriority: "availability",
			ReconnectWindow:  120 * time.Second,
			BackupLocation:   "/data/backups",
		},
		Durability:     EveryWrite,
		TrustedKeys:    s.TrustedKeys, // depends on the machine: TestTrustedKeys
		MaxConnections: 10000,
		MaxValue:       8 << 20,
	})
	for _, x := range settings {
		if x.Origin != originDefault && x.Origin != "environment HOSTNAME" {
			t.Errorf("%+v is not a default", x)
		}
	}
	if dir, ok := s.Platform(); !ok || dir.Name != "PLATFORM" {
		t.Errorf("platform directory %+v", dir)
	}
}

// Every variable of docs/settings.md reaches the struct.
func TestEveryServerVariable(t *testing.T) {
	keys := t.TempDir()
	s, err := loadServer(t, nil, "ACCEPT_EULA=Y", "TERRACOTTA_CONTAINER=1",
		"OFFHEAP_RESOURCE1_NAME=hot", "OFFHEAP_RESOURCE1_UNIT=gb", "OFFHEAP_RESOURCE1_SIZE=2",
		"OFFHEAP_RESOURCE2_NAME=cold", "OFFHEAP_RESOURCE2_UNIT=kB", "OFFHEAP_RESOURCE2_SIZE=3",
		"DATA_RESOURCE1=d1", "DATA_RESOURCE2=d2", "TC_DATA_ROOT=/mnt", "TC_BACKUP_LOCATION=/back",
		"TC_BIND=127.0.0.1", "TC_ADVERTISED_HOST=cache.example.org", "TC_TSA_PORT=9510", "TC_MANAGEMENT_PORT=0", "TC_SELF_NAME=first",
		"TC_DURABILITY=every second", "TC_MAX_CONNECTIONS=5", "TC_MAX_VALUE_SIZE=1 mb", "TC_TRUSTED_KEYS="+keys,
		"TC_GROUP_BIND=127.0.0.2", "TC_FAILOVER_TIMERS=200ms/300ms/100ms", "TC_MEMORY_CHECK=warn", "LOG_LEVEL=DEBUG", "LOG_FORMAT=json", "TC_PASSWORD=s")
	if err != nil {
		t.Fatal(err)
	}
	self := wire.ServerConfig{Name: "first", Host: "cache.example.org", Port: 9510, GroupPort: 9530}
	s.Settings = nil
	equal(t, s, Server{
		Common:         Common{InContainer: true, EULA: true, LogLevel: "debug", LogFormat: "json"},
		Self:           self,
		Bind:           "127.0.0.1",
		GroupBind:      "127.0.0.2",
		Failover:       FailoverTimers{Heartbeat: 200 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 100 * time.Millisecond},
		ManagementPort: 0, ManagementAsked: true, MemoryMayExceed: true,
		Stripe: wire.StripeConfig{
			Servers:          []wire.ServerConfig{self},
			OffheapResources: []wire.OffheapResource{{Name: "hot", Size: 2 << 30}, {Name: "cold", Size: 3 << 10}},
			DataDirectories: []wire.DataDirectory{
				{Name: "d1", Path: "/mnt/d1"}, {Name: "d2", Path: "/mnt/d2"}, {Name: "PLATFORM", Path: "/mnt/PLATFORM", Platform: true},
			},
			FailoverPriority: "availability",
			ReconnectWindow:  120 * time.Second,
			BackupLocation:   "/back",
		},
		Durability:     EverySecond,
		TrustedKeys:    keys,
		Password:       "s",
		MaxConnections: 5,
		MaxValue:       1 << 20,
	})
}

func TestManagementCanBeOff(t *testing.T) {
	if s, err := loadServer(t, []string{"--management-port", "off"}); err != nil || s.ManagementPort != NoManagement {
		t.Errorf("port %d: %v", s.ManagementPort, err)
	}
	if _, err := loadServer(t, []string{"--management-port", "no"}); err == nil || !strings.Contains(err.Error(), "management-port") {
		t.Errorf("no port: %v", err)
	}
}

func TestEULACountsOnlyAsExactlyY(t *testing.T) {
	for text, accepted := range map[string]bool{"Y": true, "y": false, "yes": false, " Y": false, "": false, "true": false} {
		s, err := loadServer(t, []string{"--bind", "x y"}, "ACCEPT_EULA="+text)
		if s.EULA != accepted || err == nil {
			t.Errorf("ACCEPT_EULA=%q: accepted %t, also with a fault elsewhere: %v", text, s.EULA, err)
		}
	}
}

func TestPairByEnvironment(t *testing.T) {
	for _, test := range []struct {
		name    string
		args    []string
		environ []string
		self    string // "" = refused
		says    string
	}{
		{"first", nil, []string{"TC_SERVER1=box", "TC_SERVER2=other"}, "box", ""},
		{"second", nil, []string{"TC_SERVER1=other", "TC_SERVER2=box"}, "box", ""},
		{"by name", []string{"-n", "b"}, []string{"TC_SERVER1=a", "TC_SERVER2=b"}, "b", ""},
		{"neither", nil, []string{"TC_SERVER1=a", "TC_SERVER2=b"}, "", `The host is called "box", the configured servers are a, b; example: -n a`},
		{"wrong name", []string{"-n", "c"}, []string{"TC_SERVER1=a", "TC_SERVER2=b"}, "", "is none of the configured servers: a, b"},
		{"the same twice", nil, []string{"TC_SERVER1=box", "TC_SERVER2=box"}, "", "names the same server"},
		{"a port", nil, []string{"TC_SERVER1=box", "TC_SERVER2=other:9410"}, "", "only the host belongs here"},
		{"another port", []string{"--tsa-port", "9999"}, []string{"TC_SERVER1=box", "TC_SERVER2=other"}, "", "which all its servers share"},
	} {
		s, err := loadServer(t, test.args, test.environ...)
		switch {
		case test.self == "" && (err == nil || !strings.Contains(err.Error(), test.says)):
			t.Errorf("%s: %v, want %q", test.name, err, test.says)
		case test.self != "" && (err != nil || s.Self.Name != test.self || s.Self.Host != test.self || len(s.Stripe.Servers) != 2):
			t.Errorf("%s: %+v: %v", test.name, s.Self, err)
		}
	}
	s, err := loadServer(t, nil, "TC_SERVER1=a")
	if err != nil || len(s.Stripe.Servers) != 1 || s.Self.Name != "box" || len(s.Notes) != 1 {
		t.Errorf("one of two: %+v %q: %v", s.Self, s.Notes, err)
	}
	// What only this server says must not make the stripe differ from the other's.
	one, err := loadServer(t, nil, "TC_SERVER1=box", "TC_SERVER2=other", "TC_ADVERTISED_HOST=192.0.2.1")
	two, err2 := loadServer(t, []string{"-n", "other"}, "TC_SERVER1=box", "TC_SERVER2=other")
	if err != nil || err2 != nil || one.Self.Host != "192.0.2.1" {
		t.Fatal(one.Self, err, err2)
	}
	equal(t, one.Stripe, two.Stripe)
}

func TestBuiltInFaults(t *testing.T) {
	for given, says := range map[string]string{
		"OFFHEAP_RESOURCE1_SIZE=0":                    "is not at least 1",
		"OFFHEAP_RESOURCE1_SIZE=-1":                   "is not a whole number",
		"OFFHEAP_RESOURCE1_SIZE=99999999999999999":    "is too large",
		"OFFHEAP_RESOURCE1_SIZE=99999999999999999999": "is too large",
		"OFFHEAP_RESOURCE1_NAME=a b":                  "has characters other than",
		"OFFHEAP_RESOURCE1_NAME=offheap-2":            "names both off-heap resources",
		"DATA_RESOURCE1=dataroot-2":                   "is there already",
		"DATA_RESOURCE2=PLATFORM":                     "is there already",
		"DATA_RESOURCE2=a/b":                          "has characters other than",
		"TC_DATA_ROOT=data":                           "is not an absolute path",
		"TC_TSA_PORT=65536":                           "is not between 0 and 65535",
		"TC_TSA_PORT=65530":                           "tsa-port + 20 is no port",
		"TC_TSA_GROUP_PORT=9410":                      "is tsa-port too",
		"TC_ADVERTISED_HOST=a:1":                      "only the host belongs here",
		"TC_TRUSTED_KEYS=/nowhere":                    "is not a directory",
		"TC_CONFIG=/nowhere/tc-config.xml":            "no such file",
		"TC_SELF_NAME=a b":                            "has characters other than",
		"JAVA_OPTS=-Da='b":                            "is never closed",
	} {
		if _, err := loadServer(t, nil, given); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", given, err, says)
		}
	}
}

func TestSecondOffheapResourceMayBeLeftOut(t *testing.T) {
	s, err := loadServer(t, nil, "OFFHEAP_RESOURCE2_SIZE=0")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, s.Stripe.OffheapResources, []wire.OffheapResource{{Name: "offheap-1", Size: 512 << 20}})
}

func TestFileReplacesTheBuiltInConfiguration(t *testing.T) {
	const file = "testdata/single.xml"
	s, err := loadServer(t, []string{"-f", file, "-n", "terracotta-1"}, "OFFHEAP_RESOURCE1_SIZE=7", "DATA_RESOURCE1=dataroot-1")
	if err != nil {
		t.Fatal(err)
	}
	self := wire.ServerConfig{Name: "terracotta-1", Host: "box", Port: 9510, GroupPort: 9530}
	equal(t, s.Self, self)
	equal(t, s.Bind, "127.0.0.1")
	equal(t, s.Stripe, wire.StripeConfig{
		Servers:          []wire.ServerConfig{self},
		OffheapResources: []wire.OffheapResource{{Name: "offheap-1", Size: 512 << 20}, {Name: "offheap-2", Size: 1 << 30}},
		DataDirectories: []wire.DataDirectory{
			{Name: "PLATFORM", Path: "/data/dataroots/PLATFORM", Platform: true}, {Name: "dataroot-1", Path: "/data/dataroots/dataroot-1"},
		},
		FailoverPriority: "availability", LeaseLength: 20 * time.Second, ReconnectWindow: time.Minute, BackupLocation: "/data/backups",
	})
	equal(t, setting(s.Settings, "offheap-resource"), Setting{"offheap-resource", "offheap-1 512MB", file + ":16:9"})
	equal(t, setting(s.Settings, "tsa-port"), Setting{"tsa-port", "9510", file + ":33:5"})
	notes := strings.Join(s.Notes, "\n")
	if !strings.Contains(notes, "offheap-resource1-size (environment OFFHEAP_RESOURCE1_SIZE) is not used") || strings.Contains(notes, "data-resource1") {
		t.Errorf("notes: %s", notes)
	}
	// Flags and environment stand over the file.
	s, err = loadServer(t, []string{"-f", file, "--tsa-port", "9777"}, "TC_BIND=::1")
	if err != nil || s.Bind != "::1" || s.Stripe.Servers[0].Port != 9777 || s.Self.GroupPort != 9530 {
		t.Errorf("%q %+v: %v", s.Bind, s.Self, err)
	}
}

func TestWhichServerOfTheFile(t *testing.T) {
	const props = "JAVA_OPTS=-Ddata.root=/data"
	for name, test := range map[string]struct {
		args []string
		host string
		self string
		says string
	}{
		"named":     {[]string{"-n", "tc1"}, "box", "tc1", ""},
		"the host":  {nil, "tc2", "tc2:9410", ""},
		"nobody":    {nil, "box", "", "which server is this?"},
		"not there": {[]string{"-n", "tc9"}, "box", "", "is none of the configured servers: tc1, tc2:9410"},
	} {
		s, err := loadServer(t, append(test.args, "-f", "testdata/pair.xml"), "HOSTNAME="+test.host, props)
		if s.Self.Name != test.self || (err == nil) != (test.self != "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %q: %v", name, s.Self.Name, err)
		}
	}
}

func TestMemoryOnlyWithoutDataDirectories(t *testing.T) {
	file := writeFile(t, "tc.xml", minimal(""))
	s, err := loadServer(t, []string{"-f", file})
	if err != nil || s.Durability != MemoryOnly || origin(s.Settings, "durability") != "no data directory is configured" {
		t.Errorf("%q: %v", s.Durability, err)
	}
	if _, ok := s.Platform(); ok {
		t.Error("a platform directory out of nowhere")
	}
	if _, err = loadServer(t, []string{"-f", file, "--durability", "every-write"}); err == nil || !strings.Contains(err.Error(), "needs a data directory") {
		t.Errorf("%v", err)
	}
	s, err = loadServer(t, []string{"--durability", "memory-only"})
	if err != nil || s.Durability != MemoryOnly || len(s.Stripe.DataDirectories) != 3 {
		t.Errorf("%q: %v", s.Durability, err)
	}
}

func TestSecurityOfTheOriginalIsRefused(t *testing.T) {
	file := writeFile(t, "tc.xml", minimal(`<config><security xmlns="`+nsSecurity+`">
		<security-root-directory>/sec</security-root-directory><ssl-tls/></security></config>`))
	if _, err := loadServer(t, []string{"-f", file}); err == nil || !strings.Contains(err.Error(), "not in this version") || !strings.Contains(err.Error(), file+":4:") {
		t.Errorf("%v", err)
	}
}

func TestTrustedKeys(t *testing.T) {
	kit := t.TempDir()
	keys := filepath.Join(kit, "license", "trusted")
	bin := filepath.Join(kit, "sessions", "code-samples", "cart", "bin")
	for _, dir := range []string{keys, bin} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, kitKeys(filepath.Join(kit, "server", "bin", "terracotta-server")), keys)
	equal(t, kitKeys(filepath.Join(bin, "cart-example")), keys)
	equal(t, kitKeys("/terracotta-server"), "")
	f := load(serverRows, nil, nil, "")
	if want := installedKeys; isDir(installedKeys) {
		equal(t, f.trustedKeys(filepath.Join(kit, "server", "bin", "x")), want)
	} else {
		equal(t, f.trustedKeys(filepath.Join(kit, "server", "bin", "x")), keys)
	}
}

// Times that cannot work are refused before a server runs with them.
func TestFailoverTimers(t *testing.T) {
	if s, err := loadServer(t, nil, "TC_FAILOVER_TIMERS=fast"); err != nil || s.Failover.Heartbeat != 150*time.Millisecond || s.Failover.Lease != 125*time.Millisecond {
		t.Errorf("fast: %+v, %v", s.Failover, err)
	}
	if s, err := loadServer(t, nil, "TC_FAILOVER_TIMERS=600ms/600ms/500ms/2s"); err != nil || s.Failover.Lease != 500*time.Millisecond || s.Failover.Alone != 2*time.Second {
		t.Errorf("with a time alone: %+v, %v", s.Failover, err)
	}
	for _, bad := range []string{"quick", "1s", "1s/1s", "1s/1s/2s", "500ms/300ms/100ms", "1ms/1ms/1ms", "2m/2m/1m", "1/2/3", "300ms/300ms/150ms/400ms", "300ms/300ms/150ms/1s/1s"} {
		if _, err := loadServer(t, nil, "TC_FAILOVER_TIMERS="+bad); err == nil || !strings.Contains(err.Error(), "TC_FAILOVER_TIMERS") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
