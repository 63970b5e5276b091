package websessions

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/fuzzing"
)

const (
	oldForm = `<?xml version="1.0" encoding="UTF-8"?>
<tc:tc-config xsi:schemaLocation="http://www.terracotta.org/schema/terracotta-9.xsd" xmlns:tc="http://www.terracotta.org/config"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><servers>
 <server host="one.example" name="Server1"><data>%(user.home)/x</data><tsa-port>9510</tsa-port></server>
 <server host="two.example" name="Server2"/></servers></tc:tc-config>`
	newForm = `<tc-config xmlns="http://www.terracotta.org/config"><servers>
 <server host="one.example"><tsa-port>9510</tsa-port></server><server host="two.example"/></servers></tc-config>`
	both = "one.example:9510 two.example:9410"
)

func TestTCConfigURL(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tc-config.xml")
	if err := os.WriteFile(file, []byte(oldForm), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/tc-config.xml", http.StatusFound)
			return
		}
		_, _ = w.Write([]byte(newForm))
	}))
	defer web.Close()
	for where, want := range map[string]string{
		"localhost:9510":                   "localhost:9510",
		"server1:9510,server2:9510":        "server1:9510 server2:9510",
		"server1, server2":                 "server1:9410 server2:9410",
		"[::1]:9510":                       "[::1]:9510",
		file:                               both,
		"tc-config.xml":                    both,
		"./tc-config.xml":                  both,
		"file://" + filepath.ToSlash(file): both,
		web.URL + "/tc-config.xml":         both,
		web.URL + "/moved":                 both,
	} {
		uri, err := Config{TCConfigURL: where}.uri()
		if got := strings.Join(uri.Hosts, " "); err != nil || got != want || uri.Dataset != "websessions" {
			t.Errorf("%s: %s, %q, %v", where, got, uri.Dataset, err)
		}
	}
}

func TestTCConfigURLRefusesWithReasons(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/hostname", http.StatusFound)
		case "/endless":
			for junk := make([]byte, 64<<10); ; {
				if _, err := w.Write(junk); err != nil {
					return
				}
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	safe := httptest.NewTLSServer(http.NotFoundHandler())
	defer safe.Close()
	servers := func(s string) string {
		return `<tc-config xmlns="http://www.terracotta.org/config"><servers>` + s + `</servers></tc-config>`
	}
	for where, want := range map[string]string{
		"server1:95100":                   "server1:9410,server2:9410",
		"server1,server1":                 "names server1:9410 twice",
		"ann:secret@server1:9510":         "the password is a setting of its own",
		"http://ann:secret@server1/x.xml": "the password is a setting of its own",
		"ftp://server1/tc-config.xml":     "none of http, https, file",
		"terracotta://server1:9410/x":     "belongs into store.tcstore.uri",
		"file://elsewhere/tc-config.xml":  "is no file URL",
		filepath.Join(dir, "none.xml"):    "no such file",
		"/dev/zero":                       "is not a file",
		dir + "/":                         "is not a file",
		write("large.xml", strings.Repeat(" ", maxTCConfig+1)):                          "is larger than 256 KiB",
		write("html.xml", "<html><body></body></html>"):                                 `its root is "html"`,
		write("broken.xml", "<tc-config><servers>"):                                     "is no tc-config.xml: ",
		write("empty.xml", servers("")):                                                 "names no server",
		write("nohost.xml", servers(`<server name="a"/>`)):                              "server 1 has no host",
		write("self.xml", servers(`<server host="a"/><server host="%h"/>`)):             "server 2 has the substitution",
		write("port.xml", servers(`<server host="a"><tsa-port>x</tsa-port></server>`)):  `port "x"`,
		write("groups.xml", servers(`<mirror-group><server host="a"/></mirror-group>`)): "mirror groups",
		"http://127.0.0.1:1/tc-config.xml":                                              "is the web server reachable", // nobody listens there
		web.URL + "/missing":                                                            `"404 Not Found"`,
		web.URL + "/loop":                                                               "more than 3 redirects",
		web.URL + "/file":                                                               "without TLS",
		web.URL + "/endless":                                                            "is larger than 256 KiB",
		safe.URL + "/unknown":                                                           "certificate",
	} {
		_, err := New(Config{TCConfigURL: where})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), Prefix+"tcConfigUrl") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", where, err)
		}
	}
	if _, err := New(Config{TCConfigURL: "a", URI: "terracotta://a/b"}); err == nil || !strings.Contains(err.Error(), "which one counts?") {
		t.Errorf("both: %v", err)
	}
}

func TestDatasetOfAContextPath(t *testing.T) {
	for path, want := range map[string]string{"": "websessions", "/": "websessions", "/Cart": "Cart", "/a/b/": "a:b", "/a:b": "a%3Ab", "/a%3Ab": "a%253Ab"} {
		uri := client.URI{Hosts: []string{"a:9410"}, Dataset: datasetOf(path)}
		again, err := client.ParseURI(uri.String())
		if uri.Dataset != want || err != nil || again.Dataset != want {
			t.Errorf("%s: %q, %+v, %v", path, uri.Dataset, again, err)
		}
	}
}

// Whatever a web server sends: no panic, and what is accepted names servers.
func FuzzParseServers(f *testing.F) {
	f.Add([]byte(oldForm))
	f.Add([]byte(newForm))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><tc-config><servers><server host="&b;"/></servers></tc-config>`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var hosts string
		var err error
		fuzzing.Bounded(t, doc, func() { hosts, err = parseServers(doc) })
		if err == nil && (hosts == "" || strings.Contains(hosts, "%")) {
			t.Errorf("accepted: %q", hosts)
		}
	})
}
