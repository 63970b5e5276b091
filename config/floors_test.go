package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var tables = map[string][]row{"server": serverRows, "tool": toolRows, "cart": cartRows}

// floorNames are all floors, lowest first.
var floorNames = []string{"default", "file", "property", "environment", "flag"}

// given is what a test puts on the floors.
type given struct {
	file, props []string
	environ     []string
	args        []string
}

// put puts a value on a floor; ok is false where the setting cannot stand there.
func (g *given) put(r row, floor, text string) (origin string, ok bool) {
	switch {
	case floor == "default":
		return originDefault, true
	case floor == "file" && !r.noFile:
		g.file = append(g.file, fmt.Sprintf("%s: %q", r.key, text))
		return "FILE", true
	case floor == "property" && r.property != "":
		g.props = append(g.props, "-D"+r.property+"="+text)
		return "JAVA_OPTS -D" + r.property, true
	case floor == "environment":
		g.environ = append(g.environ, r.env+"="+text)
		return "environment " + r.env, true
	case floor == "flag" && !r.noFlag:
		g.args = append(g.args, "--"+r.key, text)
		return "flag --" + r.key, true
	}
	return "", false
}

func (g *given) load(t *testing.T, rows []row) *floors {
	t.Helper()
	environ := append(slices.Clone(g.environ), "JAVA_OPTS="+strings.Join(g.props, " "))
	if len(g.file) > 0 {
		path := filepath.Join(t.TempDir(), "settings.yaml")
		if err := os.WriteFile(path, []byte(strings.Join(g.file, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		environ = append(environ, "TC_SETTINGS="+path)
	}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	registerFlags(fs, rows)
	if err := fs.Parse(g.args); err != nil {
		t.Fatal(err)
	}
	f := load(rows, fs, environ, "")
	if err := f.err(); err != nil {
		t.Fatal(err)
	}
	return f
}

// Precedence between every pair of floors, for every setting: the higher one
// wins, and the origin names it.
func TestPrecedenceBetweenEveryPairOfFloors(t *testing.T) {
	pairs := 0
	for name, rows := range tables {
		for _, r := range rows {
			for low := range floorNames {
				for high := low + 1; high < len(floorNames); high++ {
					var g given
					_, ok := g.put(r, floorNames[low], "below")
					origin, ok2 := g.put(r, floorNames[high], "above")
					if !ok || !ok2 || r.key == "settings" {
						continue
					}
					pairs++
					f := g.load(t, rows)
					if got := f.v.GetString(r.key); got != "above" {
						t.Errorf("%s %s: %s over %s gives %q", name, r.key, floorNames[high], floorNames[low], got)
					}
					if got := f.origin[r.key]; got != origin && !(origin == "FILE" && strings.HasSuffix(got, "settings.yaml")) {
						t.Errorf("%s %s: origin %q, want %q", name, r.key, got, origin)
					}
				}
			}
		}
	}
	if pairs < 300 {
		t.Errorf("only %d pairs were tried", pairs)
	}
}

func TestEverySettingHasOneNamePerFloorAndAnExample(t *testing.T) {
	for name, rows := range tables {
		seen := map[string]bool{}
		for _, r := range rows {
			for _, n := range []string{r.key, "env " + r.env, "property " + r.property} {
				if seen[n] && n != "property " {
					t.Errorf("%s: %s stands twice", name, n)
				}
				seen[n] = true
			}
			if r.key == "" || r.env == "" || r.help == "" || r.example == "" || r.arg == "" && !r.secret {
				t.Errorf("%s: incomplete: %+v", name, r)
			}
		}
	}
}

func TestEmptyVariablesCountAsUnset(t *testing.T) {
	s, err := loadServer(t, nil, "LOG_LEVEL=", "OFFHEAP_RESOURCE1_SIZE=", "TC_BIND=", "TC_PASSWORD=")
	if err != nil || s.LogLevel != "info" || s.Bind != "0.0.0.0" {
		t.Errorf("%q %q: %v", s.LogLevel, s.Bind, err)
	}
}

func TestSettingsFileFormats(t *testing.T) {
	for file, doc := range map[string]string{
		"s.yaml": "max-connections: 77\nbind: 127.0.0.1\n", "s.yml": "max-connections: '77'\nbind: 127.0.0.1\ndurability:\n",
		"s.toml": "max-connections = 77\nbind = '127.0.0.1'\n", "S.JSON": `{"max-connections": 77, "bind": "127.0.0.1"}`,
	} {
		path := writeFile(t, file, doc)
		s, err := loadServer(t, []string{"--settings", path})
		if err != nil || s.MaxConnections != 77 || s.Bind != "127.0.0.1" {
			t.Errorf("%s: %d %q: %v", file, s.MaxConnections, s.Bind, err)
		}
		if got := origin(s.Settings, "max-connections"); got != path {
			t.Errorf("%s: origin %q", file, got)
		}
	}
}

func TestSettingsFileFaults(t *testing.T) {
	for name, test := range map[string]struct{ file, doc, says string }{
		"unknown key":     {"s.yaml", "max-conections: 7", "did you mean max-connections?"},
		"not one value":   {"s.yaml", "bind: [a, b]", "not a single value"},
		"nested":          {"s.json", `{"bind": {"a": "b"}}`, "not a single value"},
		"secret in it":    {"s.yaml", "password: x", "may not stand in a settings file"},
		"itself":          {"s.yaml", "settings: x.yaml", "may not stand in a settings file"},
		"not YAML":        {"s.yaml", "\t:", "is not yaml"},
		"not JSON":        {"s.json", "{", "is not json"},
		"other extension": {"s.properties", "bind=a", "ends in none of"},
		"too large":       {"s.yaml", strings.Repeat("#\n", maxSettingsFile), "larger than 64 KiB"},
		"bad value":       {"s.yaml", "max-connections: many", "max-connections: 10000"},
	} {
		path := writeFile(t, test.file, test.doc)
		if _, err := loadServer(t, []string{"--settings", path}); err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q and the path", name, err, test.says)
		}
	}
	if _, err := loadServer(t, nil, "TC_SETTINGS=/nowhere/s.yaml"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing: %v", err)
	}
}

func TestUnknownNames(t *testing.T) {
	for given, says := range map[string]string{
		"OFFHEAP_RESOURCE1_SIZ=1":                           "did you mean OFFHEAP_RESOURCE1_SIZE?",
		"OFFHEAP_RESOURCE3_NAME=x":                          "two resources of each kind",
		"DATA_RESOURCE3=x":                                  "not a known variable",
		"TC_BNID=x":                                         "did you mean TC_BIND?",
		"TC_SERVER3=x":                                      "not a known variable",
		"JAVA_OPTS=-Dterracotta.bnid=x":                     "did you mean terracotta.bind?",
		"JAVA_OPTS=-Dterracotta.websessions.rejoin=true":    "is a property of applications that use Web Sessions",
		"JAVA_OPTS=-Dterracotta.completely.other.thing=abc": "not a known property",
	} {
		if _, err := loadServer(t, nil, given); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", given, err, says)
		}
	}
	if _, err := loadServer(t, nil, "OFFHEAP_RESOURCE2_SIZ=1"); strings.Contains(err.Error(), "two resources") {
		t.Errorf("a slip of the pen gets a lecture: %v", err)
	}
	// What others set is not ours to refuse.
	for _, given := range []string{"TC_SERVER1_PORT=tcp://172.17.0.2:9410", "TEAMCITY_VERSION=9", "TC_XYZ_SOMETHING=1",
		"JAVA_OPTS=-Dfile.encoding=UTF-8 -Xmx1g", "TERRACOTTA_PORT_9410_TCP=tcp://172.17.0.2:9410", "PATH=/bin"} {
		if _, err := loadServer(t, nil, given); err != nil {
			t.Errorf("%s: %v", given, err)
		}
	}
}

func TestVariablesOfContainerLinksAreNotPorts(t *testing.T) {
	s, err := loadServer(t, nil, "TC_MANAGEMENT_PORT=tcp://10.0.0.1:9540")
	if err != nil || s.ManagementPort != 9540 || !strings.Contains(strings.Join(s.Notes, "\n"), "TC_MANAGEMENT_PORT") {
		t.Errorf("%d %q: %v", s.ManagementPort, s.Notes, err)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	const secret = "correct horse battery"
	file := writeFile(t, "secret", secret+"\n")
	shows := func(what string, common Common, err error) {
		if text := fmt.Sprintf("%+v %v", common, err); strings.Contains(text, "horse") {
			t.Errorf("%s shows the secret: %s", what, text)
		}
	}
	s, err := loadServer(t, nil, "TC_PASSWORD="+secret)
	shows("server", s.Common, err)
	if s.Password != secret || shown(s.Settings, "password") != "(set)" {
		t.Errorf("password %t, shown as %q: %v", s.Password == secret, shown(s.Settings, "password"), err)
	}
	s, err = loadServer(t, nil, "TC_PASSWORD_FILE="+file)
	shows("server with a file", s.Common, err)
	if s.Password != secret {
		t.Errorf("password of the file: %v", err)
	}
	s, err = loadServer(t, nil, "TC_PASSWORD_FILE="+file, "TC_PASSWORD="+secret)
	shows("both", s.Common, err)
	if err == nil {
		t.Error("both are accepted")
	}
	s, err = loadServer(t, nil, "TC_PASSWORD="+secret+"\nline two")
	shows("two lines", s.Common, err)
	if err == nil {
		t.Error("a password of two lines is accepted")
	}
	two, err := LoadTool([]string{"TC_PASSWORD=" + secret, "LICENSE_URL=https://ann:horse@server/license.xml?token=horse#horse"})
	shows("tool", two.Common, err)
	if two.Password != secret || !strings.Contains(two.LicenseURL, "horse") {
		t.Error("the tool did not get its secrets")
	}
	c, err := LoadCart(nil, []string{"TC_PASSWORD=" + secret, cartURI})
	shows("cart", c.Common, err)
	if c.Sessions.Password != secret {
		t.Error("the cart's sessions did not get the password")
	}
	c, err = LoadCart(nil, []string{"TERRACOTTA_WEBSESSIONS_PASSWORD=" + secret, cartURI})
	shows("cart's sessions", c.Common, err)
	if c.Sessions.Password != secret {
		t.Error("the library's own variable does not count")
	}
}

func TestPasswordFileFaults(t *testing.T) {
	for path, says := range map[string]string{
		"/nowhere/secret":            "no such file",
		writeFile(t, "empty", ""):    "holds no password",
		writeFile(t, "line", "\r\n"): "holds no password",
		t.TempDir():                  "directory",
		writeFile(t, "large", strings.Repeat("x", maxSecretFile+1)): "is larger than 4 KiB",
		writeFile(t, "two", "a\nb"):                                 "more than one line",
		writeFile(t, "windows", "a\r\nb\r\n"):                       "more than one line",
		writeFile(t, "zero", "a\x00b"):                              "more than one line",
	} {
		if _, err := loadServer(t, nil, "TC_PASSWORD_FILE="+path); err == nil || !strings.Contains(err.Error(), "TC_PASSWORD_FILE") || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	_, err := loadServer(t, nil, "TC_PASSWORD=x", "TC_PASSWORD_FILE="+writeFile(t, "one", "y"))
	if err == nil || !strings.Contains(err.Error(), "password and password-file are both set; which one counts?") {
		t.Errorf("both: %v", err)
	}
}

// Every fault of one start is told at once, with key, value, origin and example.
func TestAllFaultsAtOnce(t *testing.T) {
	_, err := loadServer(t, []string{"--bind", "a b", "--log-level", "loud"},
		"OFFHEAP_RESOURCE1_SIZE=much", "OFFHEAP_RESOURCE2_UNIT=GiB", "DATA_RESOURCE1=../etc", "TC_MAX_CONNECTIONS=0",
		"JAVA_OPTS=-Dterracotta.durability=sometimes -Dterracotta.max-value-size=9MB")
	for _, line := range []string{
		`bind "a b" (flag --bind): is not a host name or address; example: --bind 127.0.0.1`,
		`log-level "loud" (flag --log-level): is none of debug, info, warn, error; example: --log-level debug`,
		`offheap-resource1-size "much" (environment OFFHEAP_RESOURCE1_SIZE): is not a whole number; example: OFFHEAP_RESOURCE1_SIZE=512`,
		`offheap-resource2-unit "GiB" (environment OFFHEAP_RESOURCE2_UNIT): is none of B, kB, MB, GB, TB, PB; example: OFFHEAP_RESOURCE2_UNIT=GB`,
		`data-resource1 "../etc" (environment DATA_RESOURCE1): starts with a dot or hyphen; example: DATA_RESOURCE1=dataroot-1`,
		`max-connections "0" (environment TC_MAX_CONNECTIONS): is not between 1 and 1000000; example: TC_MAX_CONNECTIONS=10000`,
		`durability "sometimes" (JAVA_OPTS -Dterracotta.durability): is none of every-write, every-second, memory-only; example: -Dterracotta.durability=every-write`,
		`max-value-size "9MB" (JAVA_OPTS -Dterracotta.max-value-size): is not between 1kB and 8MB; example: -Dterracotta.max-value-size=1MB`,
	} {
		if err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), line) {
			t.Errorf("missing: %s", line)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
	var fault *Fault
	if !errors.As(err, &fault) {
		t.Error("the faults are no Fault")
	}
}

func writeFile(t *testing.T, name, doc string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func setting(list []Setting, key string) Setting {
	for _, s := range list {
		if s.Key == key {
			return s
		}
	}
	return Setting{}
}

func origin(list []Setting, key string) string { return setting(list, key).Origin }
func shown(list []Setting, key string) string  { return setting(list, key).Value }
