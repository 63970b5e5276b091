package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

const ohr = `<config><offheap-resources xmlns="` + nsOffheap + `"><resource name="o" unit="MB">1</resource></offheap-resources></config>`

// minimal is a valid document whose plugins also hold extra, on line 4.
func minimal(extra string) string {
	return `<tc-config xmlns="` + nsConfig + `">
  <plugins>
    ` + ohr + `
    ` + extra + `
  </plugins>
  <servers><server host="tc1" name="tc1"/></servers>
</tc-config>
`
}

// with is a valid document whose servers element and what follows it are given.
func with(servers string) string {
	return `<tc-config xmlns="` + nsConfig + `"><plugins>` + ohr + `</plugins>
` + servers + `
</tc-config>`
}

// varsOf is what a server with this environment substitutes.
func varsOf(environ []string) func(string) (string, bool) {
	env := environMap(environ)
	opts, _ := parseJavaOpts(env["JAVA_OPTS"])
	return variables(env["HOSTNAME"], env, opts.props)
}

func noVars(string) (string, bool) { return "", false }

func TestShippedExamplesLoad(t *testing.T) {
	vars := varsOf([]string{"HOSTNAME=box", "HOME=/home/ann", "JAVA_OPTS=-Ddata.root=/data"})
	files, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, file := range files {
		doc, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseTCConfig(file, doc, vars); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		crlf := "\xef\xbb\xbf" + strings.ReplaceAll(string(doc), "\n", "\r\n") // as a Windows editor saves it
		if _, err := ParseTCConfig(file, []byte(crlf), vars); err != nil {
			t.Errorf("%s with CRLF and a byte order mark: %v", file, err)
		}
	}
}

func TestTCConfigDefaults(t *testing.T) {
	got, err := ParseTCConfig("tc.xml", []byte(with(`<servers><server host="a"><tsa-port>9500</tsa-port></server></servers>`)), nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, wire.StripeConfig{
		Servers:          []wire.ServerConfig{{Name: "a:9500", Host: "a", Port: 9500, GroupPort: 9520}},
		OffheapResources: []wire.OffheapResource{{Name: "o", Size: 1 << 20}},
		FailoverPriority: "availability",
		ReconnectWindow:  120 * time.Second,
	})
}

func TestTCConfigUnits(t *testing.T) {
	for unit, size := range map[string]uint64{"B": 3, "kB": 3 << 10, "MB": 3 << 20, "GB": 3 << 30, "TB": 3 << 40, "PB": 3 << 50} {
		doc := strings.Replace(minimal(""), `unit="MB">1<`, `unit="`+unit+`">3<`, 1)
		got, err := ParseTCConfig("tc.xml", []byte(doc), nil)
		if err != nil || got.OffheapResources[0].Size != size {
			t.Errorf("3 %s: %+v: %v", unit, got.OffheapResources, err)
		}
	}
	for unit, length := range map[string]time.Duration{
		"milliseconds": 3 * time.Millisecond, "seconds": 3 * time.Second, "minutes": 3 * time.Minute, "hours": 3 * time.Hour,
	} {
		doc := minimal(`<service><connection-leasing xmlns="` + nsLease + `"><lease-length unit="` + unit + `"> 3 </lease-length></connection-leasing></service>`)
		got, err := ParseTCConfig("tc.xml", []byte(doc), nil)
		if err != nil || got.LeaseLength != length {
			t.Errorf("3 %s: %v: %v", unit, got.LeaseLength, err)
		}
	}
}

func TestTCConfigSubstitutions(t *testing.T) {
	values := map[string]string{"%h": "host", "%i": "192.0.2.1", "%H": "/home/ann", "%n": "ann", "%t": "/tmp", "my.dir": "/my", "h": "not-the-host"}
	vars := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	dirs := `<config><data-directories xmlns="` + nsData + `">
	<directory name="a">%H/%n/%%</directory><directory name="b">%t/%(my.dir)</directory><directory name="%n">/x/%(h)</directory>
	</data-directories></config>`
	doc := strings.Replace(minimal(dirs), `host="tc1" name="tc1"`, `host="%i" name="%h-1"`, 1)
	got, err := ParseTCConfig("tc.xml", []byte(doc), vars)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got.Servers, []wire.ServerConfig{{Name: "host-1", Host: "192.0.2.1", Port: 9410, GroupPort: 9430}})
	equal(t, got.DataDirectories, []wire.DataDirectory{
		{Name: "a", Path: "/home/ann/ann/%", Platform: true}, {Name: "b", Path: "/tmp/my"}, {Name: "ann", Path: "/x/not-the-host"},
	})
}

func TestVarsOfThisMachine(t *testing.T) {
	vars := varsOf([]string{"HOSTNAME=box", "HOME=/home/ann", "USER=ann", "TMPDIR=/t", "JAVA_OPTS=-Duser.name=bob -Da.b=c"})
	for name, want := range map[string]string{
		"%h": "box", "%H": "/home/ann", "%n": "ann", "%t": "/t", "user.home": "/home/ann", "user.name": "bob", "java.io.tmpdir": "/t", "a.b": "c",
	} {
		if got, ok := vars(name); !ok || got != want {
			t.Errorf("%s: %q %t, want %q", name, got, ok, want)
		}
	}
	if ip, ok := vars("%i"); !ok || checkHost(ip) != "" {
		t.Errorf("%%i: %q", ip)
	}
	if _, ok := vars("unknown"); ok {
		t.Error("an unknown property has a value")
	}
}

func TestTCConfigFailoverPriority(t *testing.T) {
	const two = `<servers><server host="a" name="a"/><server host="b" name="b"/></servers>`
	got, err := ParseTCConfig("tc.xml", []byte(with(two+`<failover-priority><consistency><voter count="2"/></consistency></failover-priority>`)), nil)
	if err != nil || got.FailoverPriority != "consistency" || got.Voters != 2 {
		t.Errorf("%+v: %v", got, err)
	}
	got, err = ParseTCConfig("tc.xml", []byte(with(two+`<failover-priority><availability/></failover-priority>`)), nil)
	if err != nil || got.FailoverPriority != "availability" || len(got.Servers) != 2 {
		t.Errorf("%+v: %v", got, err)
	}
	_, err = ParseTCConfig("tc.xml", []byte(with(two)), nil)
	if err == nil || !strings.Contains(err.Error(), "tc.xml:2:1: servers: has several servers, and no failover-priority") {
		t.Errorf("%v", err)
	}
}

// Every fault carries file:line:column and says what is wrong.
func TestTCConfigFaults(t *testing.T) {
	plugin := func(ns, text string) string {
		return minimal(`<config>` + strings.Replace(text, ">", ` xmlns="`+ns+`">`, 1) + `</config>`)
	}
	for name, test := range map[string]struct{ doc, says string }{
		"empty":               {"", "tc.xml:1:1: is empty"},
		"not XML":             {"tc-config", "tc.xml:1:1: text outside of the root element"},
		"stray ampersand":     {"&\n", "tc.xml:1:1: is not XML"},
		"unclosed":            {"<tc-config>\n<servers>", "tc.xml:2:10: is not XML"},
		"two roots":           {minimal("") + "<x/>", "tc.xml:8:1: a second root element"},
		"text after the root": {minimal("") + "x", "text outside of the root element"},
		"DOCTYPE":             {"<!DOCTYPE x>\n" + minimal(""), "tc.xml:1:1: DOCTYPE and other declarations are not read"},
		"entity":              {strings.Replace(minimal(""), ">1<", ">&one;<", 1), "tc.xml:3:"},
		"entity declared":     {`<!DOCTYPE a [<!ENTITY one "1">]>` + strings.Replace(minimal(""), ">1<", ">&one;<", 1), "DOCTYPE"},
		"other encoding":      {`<?xml version="1.0" encoding="ISO-8859-1"?>` + minimal(""), "tc.xml:1:"},
		"UTF-16":              {"\xff\xfe<\x00a\x00", "tc.xml:1:"},
		"too deep":            {strings.Repeat("<a>", 20), "tc.xml:1:49: elements are nested more than 16 deep"},
		"too many":            {"<a>" + strings.Repeat("<b/>", maxTCElements), "more than 4096 elements"},
		"too large":           {strings.Repeat(" ", maxTCConfig+1), "larger than 256 KiB"},
		"wrong root":          {`<a xmlns="` + nsConfig + `"/>`, "tc.xml:1:1: a: is not tc-config"},
		"no namespace":        {`<tc-config/>`, "is not the namespace"},
		"form of 4.x":         {`<tc:tc-config xmlns:tc="` + nsConfig + `"><servers/></tc:tc-config>`, "has no server"},
		"attribute twice":     {strings.Replace(minimal(""), `host="tc1"`, `host="tc1" host="tc2"`, 1), `tc.xml:6:12: attribute "host" stands twice`},
		"unknown attribute":   {strings.Replace(minimal(""), `name="tc1"`, `nam="tc1"`, 1), `tc.xml:6:12: server: has an unknown attribute "nam"; did you mean name?`},
		"unknown element":     {strings.Replace(minimal(""), `<servers>`, `<clients/><servers>`, 1), "tc.xml:6:3: clients: is not known in tc-config; here stand plugins"},
		"foreign namespace":   {strings.Replace(minimal(""), `<servers>`, `<servers xmlns="urn:x">`, 1), `servers "urn:x": is not in namespace`},
		"stray text":          {strings.Replace(minimal(""), `<servers>`, `<servers>stray`, 1), `tc.xml:6:3: servers "stray": text stands where only elements may`},
		"servers twice":       {with(`<servers><server host="a"/></servers><servers><server host="b"/></servers>`), "tc.xml:2:38: servers: stands twice, first at tc.xml:2:1"},
		"no servers":          {with(""), "has no servers"},
		"no server":           {with("<servers/>"), "tc.xml:2:1: servers: has no server"},
		"name twice":          {with(`<servers><server host="a" name="x"/><server host="b" name="x"/></servers><failover-priority><availability/></failover-priority>`), `tc.xml:2:37: server "x": name stands twice, first at tc.xml:2:10`},
		"address twice":       {with(`<servers><server host="a" name="x"/><server host="A" name="y"/></servers><failover-priority><availability/></failover-priority>`), "A:9410 stands twice"},
		"empty name":          {with(`<servers><server host="a" name=""/></servers>`), "name is empty"},
		"host with port":      {with(`<servers><server host="a:1" name="a"/></servers>`), "only the host belongs here"},
		"bad bind":            {with(`<servers><server host="a" bind="a b"/></servers>`), "bind is not a host"},
		"port 0":              {with(`<servers><server host="a"><tsa-port>0</tsa-port></server></servers>`), `tc.xml:2:27: tsa-port "0": is not between 1 and 65535`},
		"port word":           {with(`<servers><server host="a"><tsa-port>http</tsa-port></server></servers>`), "is not a whole number"},
		"port too high":       {with(`<servers><server host="a"><tsa-port>65530</tsa-port></server></servers>`), "tsa-port + 20 is no port"},
		"window":              {with(`<servers><server host="a"/><client-reconnect-window>2m</client-reconnect-window></servers>`), `client-reconnect-window "2m": is not a whole number`},
		"priority empty":      {with(`<servers><server host="a"/></servers><failover-priority/>`), "holds neither availability nor consistency"},
		"priority both":       {with(`<servers><server host="a"/></servers><failover-priority><availability/><consistency/></failover-priority>`), "or both"},
		"voters":              {with(`<servers><server host="a"/></servers><failover-priority><consistency><voter count="-1"/></consistency></failover-priority>`), `voter "-1": is not a whole number`},
		"no off-heap":         {`<tc-config xmlns="` + nsConfig + `"><servers><server host="a"/></servers></tc-config>`, "has no off-heap resource"},
		"unknown plugin":      {minimal(`<config><x xmlns="urn:x"/></config>`), `tc.xml:4:13: x "urn:x": is not a plugin`},
		"two plugins in one":  {minimal(`<config/>`), "tc.xml:4:5: config: holds 0 plugins"},
		"plugin twice":        {minimal(ohr), "tc.xml:4:13: offheap-resources: stands twice, first at tc.xml:3:13"},
		"size zero":           {strings.Replace(minimal(""), ">1<", ">0<", 1), `resource "0": is not at least 1`},
		"size 1.5":            {strings.Replace(minimal(""), ">1<", ">1.5<", 1), `resource "1.5": is not a whole number`},
		"size with comment":   {strings.Replace(minimal(""), ">1<", ">1<!-- -->x<", 1), `resource "1x"`},
		"size too large":      {strings.Replace(minimal(""), ">1<", ">9223372036854775807<", 1), "is too large"},
		"no unit":             {strings.Replace(minimal(""), ` unit="MB"`, "", 1), `unit "" is none of`},
		"element in text":     {strings.Replace(minimal(""), ">1<", ">1<x/><", 1), "which holds text"},
		"relative directory":  {plugin(nsData, `<data-directories><directory name="a">data</directory></data-directories>`), `directory "data": is not an absolute path`},
		"no path":             {plugin(nsData, `<data-directories><directory name="a"/></data-directories>`), "has no path"},
		"no directory":        {plugin(nsData, `<data-directories></data-directories>`), "has no directory"},
		"two platforms":       {plugin(nsData, `<data-directories><directory name="a" use-for-platform="true">/a</directory><directory name="b" use-for-platform="1">/b</directory></data-directories>`), "at most one may be"},
		"same path":           {plugin(nsData, `<data-directories><directory name="a">/a</directory><directory name="b">/b/../a</directory></data-directories>`), `is the path of data directory "a" too`},
		"same directory":      {plugin(nsData, `<data-directories><directory name="a">/a</directory><directory name="a">/b</directory></data-directories>`), "is there already"},
		"platform maybe":      {plugin(nsData, `<data-directories><directory name="a" use-for-platform="maybe">/a</directory></data-directories>`), "neither true nor false"},
		"substitution":        {plugin(nsData, `<data-directories><directory name="a">%(x.y)/a</directory></data-directories>`), `property "x.y" has no value: set it with JAVA_OPTS=-Dx.y=VALUE`},
		"open substitution":   {plugin(nsData, `<data-directories><directory name="a">/%(x</directory></data-directories>`), "%( is never closed"},
		"stray percent":       {plugin(nsData, `<data-directories><directory name="a">/50%</directory></data-directories>`), "write %% for a percent sign"},
		"lease unit":          {plugin(nsLease, `<connection-leasing><lease-length unit="days">1</lease-length></connection-leasing>`), `lease-length "days": unit is none of`},
		"lease zero":          {plugin(nsLease, `<connection-leasing><lease-length unit="seconds">0</lease-length></connection-leasing>`), "is not between 1 and 86400"},
		"no lease":            {plugin(nsLease, `<connection-leasing></connection-leasing>`), "has no lease-length"},
		"no backup location":  {plugin(nsBackup, `<backup-restore></backup-restore>`), "has no backup-location"},
		"no backup path":      {plugin(nsBackup, `<backup-restore><backup-location/></backup-restore>`), "has no path"},
		"security root only":  {plugin(nsSecurity, `<security><security-root-directory>/s</security-root-directory></security>`), "which secures nothing"},
		"security no root":    {plugin(nsSecurity, `<security><ssl-tls/></security>`), "has no security-root-directory"},
		"two authentications": {plugin(nsSecurity, `<security><security-root-directory>/s</security-root-directory><authentication><file/><ldap/></authentication></security>`), "not exactly one of"},
	} {
		got, err := ParseTCConfig("tc.xml", []byte(test.doc), noVars)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %+v: %v\nwant %q", name, got, err, test.says)
			continue
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !located.MatchString(line) {
				t.Errorf("%s: no place in %q", name, line)
			}
		}
	}
}

func TestAllFaultsOfAFileAtOnce(t *testing.T) {
	_, err := ParseTCConfig("tc.xml", []byte(with(`<servers><server host="a b"/><client-reconnect-window>x</client-reconnect-window></servers><other/>`)), nil)
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("want four faults: %v", err)
	}
}
