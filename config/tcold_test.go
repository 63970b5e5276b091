package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// old is a valid document of 4.x with the given inside of servers.
func old(servers string) string {
	return `<tc:tc-config xmlns:tc="` + nsConfig + `"><servers>` + servers + `</servers></tc:tc-config>`
}

func TestTheFormOf4x(t *testing.T) {
	cfg, err := LoadServer(nil, []string{"HOME=/home/ann", "HOSTNAME=box", "TC_CONFIG=testdata/tc43.xml", "TC_SELF_NAME=Server2",
		"OFFHEAP_RESOURCE1_SIZE=1", "OFFHEAP_RESOURCE1_UNIT=GB", "OFFHEAP_RESOURCE2_SIZE=0"})
	if err != nil {
		t.Fatal(err)
	}
	const data = "/home/ann/terracotta/server-data/"
	two := wire.ServerConfig{Name: "Server2", Host: "server.2.ip.address", Port: 9410, GroupPort: 9430}
	equal(t, cfg.Self, two)
	equal(t, cfg.Stripe, wire.StripeConfig{
		Servers:          []wire.ServerConfig{{Name: "Server1", Host: "server.1.ip.address", Port: 9410, GroupPort: 9430}, two},
		OffheapResources: []wire.OffheapResource{{Name: "offheap-1", Size: 1 << 30}},
		DataDirectories: []wire.DataDirectory{{Name: "dataroot-1", Path: data + "dataroot-1"},
			{Name: "dataroot-2", Path: data + "dataroot-2"}, {Name: "PLATFORM", Path: data + "PLATFORM", Platform: true}},
		FailoverPriority: availability, ReconnectWindow: wire.DefaultReconnectWindow, BackupLocation: "/data/backups",
	})
	for _, want := range []Setting{
		{"offheap-resource", "offheap-1 1GB", "environment OFFHEAP_RESOURCE1_UNIT, environment OFFHEAP_RESOURCE1_SIZE"},
		{"data-directory", "PLATFORM " + data + "PLATFORM (platform)", "testdata/tc43.xml:12:7"},
		{"backup-location", "/data/backups", originDefault},
		{"failover-priority", availability, originDefault},
		{"tsa-port", "9410", "testdata/tc43.xml:11:5"},
	} {
		if !slices.Contains(cfg.Settings, want) {
			t.Errorf("no %+v in %+v", want, cfg.Settings)
		}
	}
	notes := strings.Join(cfg.Notes, "\n")
	if !strings.Contains(notes, "names no off-heap resources; they are as in the built-in configuration (1, 1GB in all)") || strings.Contains(notes, "OFFHEAP") {
		t.Errorf("notes: %s", notes)
	}
}

func TestTheFormOf4xInFull(t *testing.T) {
	doc := old(`<server host="a" name="A" bind="127.0.0.1"><data>/d/a</data><index>/i</index><data-backup>/b</data-backup>
<tsa-port>9510</tsa-port><management-port>9640</management-port></server>
<server host="b"><tsa-port bind="::1">9610</tsa-port><tsa-group-port>9700</tsa-group-port><data>/d/b</data></server>
<client-reconnect-window>60</client-reconnect-window>`)
	file := filepath.Join(t.TempDir(), "tc.xml")
	if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		data       string
		management int
	}{"A": {"/d/a/PLATFORM", 9640}, "b:9610": {"/d/b/PLATFORM", 9540}} {
		cfg, err := LoadServer(nil, []string{"TC_CONFIG=" + file, "TC_SELF_NAME=" + name})
		if err != nil {
			t.Fatal(err)
		}
		dir, _ := cfg.Platform()
		if dir.Path != want.data || cfg.ManagementPort != want.management || cfg.Stripe.BackupLocation != "/b" || cfg.Stripe.ReconnectWindow != time.Minute {
			t.Errorf("%s: %+v, management port %d", name, cfg.Stripe, cfg.ManagementPort)
		}
	}
	got, err := ParseTCConfig("tc.xml", []byte(doc), nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got.Servers, []wire.ServerConfig{{Name: "A", Host: "a", Port: 9510, GroupPort: 9530}, {Name: "b:9610", Host: "b", Port: 9610, GroupPort: 9700}})
	equal(t, len(got.OffheapResources), 2)
}

func TestFaultsOfTheFormOf4x(t *testing.T) {
	for name, c := range map[string]struct{ doc, want string }{
		"a relative path":  {old(`<server host="a"><data>data</data></server>`), "is not an absolute path"},
		"twice":            {old(`<server host="a"><data>/a</data><data>/b</data></server>`), "stands twice"},
		"one name":         {old(`<server host="a" name="x"/><server host="b" name="x"/>`), "name stands twice"},
		"memory":           {old(`<server host="a"><dataStorage size="4g"/></server>`), "is not known in server"},
		"plugins":          {`<tc:tc-config xmlns:tc="` + nsConfig + `"><servers/><plugins/></tc:tc-config>`, "is not known in tc-config"},
		"both forms":       {old(`<tc:server host="a"/>`), "is not in namespace"},
		"no servers":       {`<tc:tc-config xmlns:tc="` + nsConfig + `"><clients/></tc:tc-config>`, "has no servers"},
		"an unknown value": {old(`<server host="a"><data>%(nobody)/x</data></server>`), `property "nobody" has no value`},
		"a high port":      {old(`<server host="a"><tsa-port>65530</tsa-port></server>`), "tsa-port + 20 is no port"},
	} {
		if _, err := ParseTCConfig("tc.xml", []byte(c.doc), noVars); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Where there is no /data, a server without a file keeps its data in the home
// folder; a container never does.
func TestDataRootWithoutAContainer(t *testing.T) {
	if isDir("/data/dataroots") {
		t.Skip("this machine has /data/dataroots")
	}
	for environ, want := range map[string]string{
		"HOME=/home/ann":                        "/home/ann/terracotta/server-data/PLATFORM",
		"HOME=/home/ann TC_DATA_ROOT=/x":        "/x/PLATFORM",
		"HOME=/home/ann TERRACOTTA_CONTAINER=1": "/data/dataroots/PLATFORM",
		"HOME=":                                 "/data/dataroots/PLATFORM",
	} {
		cfg, err := LoadServer(nil, append(strings.Fields(environ), "HOSTNAME=box"))
		if dir, _ := cfg.Platform(); err != nil || dir.Path != want {
			t.Errorf("%s: %q, %v", environ, dir.Path, err)
		}
	}
}

func BenchmarkParseTheFormOf4x(b *testing.B) {
	doc, err := os.ReadFile("testdata/tc43.xml")
	if err != nil {
		b.Fatal(err)
	}
	vars := varsOf([]string{"HOME=/home/ann"})
	for b.Loop() {
		if _, err := ParseTCConfig("tc.xml", doc, vars); err != nil {
			b.Fatal(err)
		}
	}
}

// The cart finds its servers as applications of 4.x did.
func TestCartByTCConfigURL(t *testing.T) {
	cfg, err := LoadCart(nil, []string{"HOSTNAME=box", "JAVA_OPTS=-Dterracotta.websessions.tcConfigUrl=server1:9510,server2:9510"})
	if err != nil || cfg.Sessions.TCConfigURL != "server1:9510,server2:9510" || cfg.Sessions.URI != "" {
		t.Errorf("%+v, %v", cfg.Sessions, err)
	}
	cfg, err = LoadCart(nil, []string{"HOSTNAME=box", "TERRACOTTA_WEBSESSIONS_TC_CONFIG_URL=/lib/tc-config.xml"})
	if err != nil || cfg.Sessions.TCConfigURL != "/lib/tc-config.xml" {
		t.Errorf("%+v, %v", cfg.Sessions, err)
	}
}
