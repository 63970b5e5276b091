package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/config"
)

// quiet keeps the failed handshakes that tests provoke out of the log.
func quiet(*testing.T) *log.Logger { return log.New(io.Discard, "", 0) }

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

func TestFetchRedirectToLessSafePlaces(t *testing.T) {
	for _, to := range []string{"http://127.0.0.1/l?" + secret, "file:///etc/passwd", "ftp://127.0.0.1/l", "gopher:x", "https://"} {
		newFetching(t, serve(t, redirect(to)), "/l").fails(codeBadRequest, "redirects to ", ", which is less safe")
	}
}

func TestFetchRedirectToNoURL(t *testing.T) {
	for _, to := range []string{"", "https://server:port/" + secret, "https://%zz/", "://x"} {
		newFetching(t, serve(t, redirect(to)), "/l").fails(codeBadRequest, "redirects, but not to a URL")
	}
}

func TestFetchRedirectCircle(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		redirect(map[string]string{"/a": "/b", "/b": "/c", "/c": "/b"}[r.URL.Path])(w, r)
	})
	newFetching(t, srv, "/a").fails(codeBadRequest, "leads in a circle of redirects")
}

func TestFetchRedirectsAreFollowedFiveTimes(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := 0
		if _, err := fmt.Sscanf(r.URL.Path, "/%d", &n); err != nil || n == 0 {
			content(w, r)
			return
		}
		redirect(fmt.Sprintf("/%d", n-1))(w, r)
	})
	newFetching(t, srv, "/5").succeeds()
	newFetching(t, srv, "/6").fails(codeBadRequest, "more than 5 redirects")
}

func TestFetchRedirectFromHTTPToHTTPS(t *testing.T) {
	safe := serve(t, content)
	plain := httptest.NewServer(redirect(safe.URL + "/l"))
	t.Cleanup(plain.Close)
	x := newFetching(t, plain, "/l", func(c *config.Tool) { c.LicenseCA = certificateFile(t, safe.Certificate().Raw) })
	x.succeeds()
	if !strings.Contains(strings.Join(x.said, "\n"), "clear text") {
		t.Errorf("no warning of clear text: %v", x.said)
	}
}

// The way of the test: first -> other -> first again. Secrets go along on the
// first host only until it is left.
func TestFetchSecretsAreDroppedOnAnotherHost(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var seen []string
	var first, other *httptest.Server
	handler := func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.Path+" "+r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/start":
			redirect("/here")(w, r)
		case "/here":
			redirect(strings.Replace(other.URL, "https://", "https://eve:"+secret+"@", 1)+"/there")(w, r)
		case "/there":
			redirect(first.URL+"/back")(w, r)
		default:
			content(w, r)
		}
	}
	first, other = serve(t, handler), serve(t, handler)
	x := newFetching(t, first, "/start", func(c *config.Tool) {
		c.LicenseURL, c.LicenseTokenFile = first.URL+"/start", token
	})
	x.succeeds()
	want := "/start Bearer s3cret,/here Bearer s3cret,/there ,/back "
	if got := strings.Join(seen, ","); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestFetchClientCertificateIsNotShownToAnotherHost(t *testing.T) {
	other := httptest.NewUnstartedServer(nil)
	other.Config.ErrorLog = quiet(t)
	shown := -1
	other.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = len(r.TLS.PeerCertificates)
		content(w, r)
	})
	other.TLS = requestCertificate()
	other.StartTLS()
	t.Cleanup(other.Close)
	first := serve(t, redirect(other.URL+"/l"))
	cert := certificate(t, farAway(), "client")
	x := newFetching(t, first, "/l", func(c *config.Tool) {
		c.LicenseClientCert, c.LicenseClientKey = certificateFile(t, cert.Leaf.Raw), keyFile(t, cert)
	})
	x.succeeds()
	if shown != 0 {
		t.Errorf("%d certificates were shown to the other host", shown)
	}
}

func TestSameHost(t *testing.T) {
	for _, row := range []struct {
		first, next string
		want        bool
	}{
		{"https://a/x", "https://A/y", true}, {"https://a/x", "https://a:443/y", true}, {"http://a/x", "https://a/y", true},
		{"http://a:80/x", "https://a:443/y", true}, {"https://a/x", "https://b/y", false}, {"https://a/x", "https://a:444/y", false},
		{"http://a:8080/", "https://a:8443/", false}, {"http://a:8080/", "https://a:8080/", false}, {"https://a/x", "https://a.b/y", false},
	} {
		first, _ := url.Parse(row.first)
		next, _ := url.Parse(row.next)
		if got := sameHost(first, next); got != row.want {
			t.Errorf("%s to %s: %t", row.first, row.next, got)
		}
	}
}

func TestFetchSettingsRefusedBeforeAnythingIsSent(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	const good = "https://server/license.xml"
	for name, row := range map[string]struct {
		c    config.Tool
		code code
		want string
	}{
		"http":                {config.Tool{LicenseURL: "http://ann:s3cret@server/l?s3cret"}, codeBadRequest, "http://server/l?..."},
		"ftp":                 {config.Tool{LicenseURL: "ftp://ann:s3cret@server/l"}, codeBadRequest, `"ftp"`},
		"no scheme":           {config.Tool{LicenseURL: "server/license.xml"}, codeBadRequest, "scheme"},
		"no host":             {config.Tool{LicenseURL: "https:///license.xml"}, codeBadRequest, "no host"},
		"no URL":              {config.Tool{LicenseURL: "https://ann:s3cret@server:port%zz/"}, codeBadRequest, "not a URL"},
		"line end in it":      {config.Tool{LicenseURL: "https://server/\ns3cret"}, codeBadRequest, "not a URL"},
		"relative file":       {config.Tool{LicenseURL: "file:license.xml"}, codeBadRequest, "absolute path"},
		"file on a host":      {config.Tool{LicenseURL: "file://server/license.xml"}, codeBadRequest, "absolute path"},
		"checksum":            {config.Tool{LicenseURL: good, LicenseSHA256: "abc"}, codeBadRequest, "64 hexadecimal"},
		"CA is missing":       {config.Tool{LicenseURL: good, LicenseCA: filepath.Join(dir, "none.pem")}, codeBadRequest, `LICENSE_CA "` + filepath.Join(dir, "none.pem") + `": `},
		"CA is none":          {config.Tool{LicenseURL: good, LicenseCA: file("ca.pem", "hello")}, codeBadRequest, "holds no certificate"},
		"token missing":       {config.Tool{LicenseURL: good, LicenseTokenFile: filepath.Join(dir, "none")}, codeNotFound, "token"},
		"token of two words":  {config.Tool{LicenseURL: good, LicenseTokenFile: file("token2", "s3cret s3cret")}, codeBadRequest, "one word"},
		"token and user":      {config.Tool{LicenseURL: "https://ann:s3cret@server/l", LicenseTokenFile: file("token", "s3cret")}, codeBadRequest, "both a token file and a user"},
		"certificate, no key": {config.Tool{LicenseURL: good, LicenseClientCert: "c.pem"}, codeBadRequest, "both"},
		"certificate is none": {config.Tool{LicenseURL: good, LicenseClientCert: file("c.pem", "x"), LicenseClientKey: file("k.pem", "s3cret")}, codeBadRequest, "client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newFetcher(row.c, nil2)
			if err == nil {
				t.Fatal("taken")
			}
			e := asToolError(err)
			if e.Code != row.code || !strings.Contains(e.Message, row.want) || strings.Contains(e.Message+e.Hint, secret) {
				t.Errorf("got %s: %s (%s)", e.Code.Name, e.Message, e.Hint)
			}
		})
	}
}

func TestFetchFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "my license.xml")
	if err := os.WriteFile(name, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	fetch := func(u string) ([]byte, error) {
		f, err := newFetcher(config.Tool{LicenseURL: u}, nil2)
		if err != nil {
			t.Fatal(err)
		}
		return f.fetch(t.Context())
	}
	if doc, err := fetch("file://" + strings.ReplaceAll(name, " ", "%20")); err != nil || string(doc) != sample {
		t.Errorf("got %q, %v", doc, err)
	}
	_, err := fetch("file://" + name + ".none")
	checkFailure(t, err, codeNotFound, "does not exist")
	_, err = fetch("file://" + filepath.Dir(name))
	checkFailure(t, err, codeBadRequest, "folder")
}

func TestFetchThroughProxy(t *testing.T) {
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Host
		content(w, r)
	}))
	t.Cleanup(proxy.Close)
	x := newFetching(t, &httptest.Server{URL: "http://licences.example"}, "/l")
	x.proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	x.succeeds()
	if asked != "licences.example" {
		t.Errorf("the proxy was asked for %q", asked)
	}
}

func TestFetchProxyRefuses(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(407) }))
	t.Cleanup(proxy.Close)
	for _, u := range []string{"http://licences.example", "https://licences.example"} {
		x := newFetching(t, &httptest.Server{URL: u}, "/l")
		x.proxy = func(*http.Request) (*url.URL, error) {
			return url.Parse(strings.Replace(proxy.URL, "//", "//bob:"+secret+"@", 1))
		}
		x.fails(codeSecurity, "the proxy on the way to ", "wants a password (HTTP status 407)")
	}
}

func TestFetchProxyAway(t *testing.T) {
	proxy := &url.URL{Scheme: "http", Host: nowhere(t)}
	x := newFetching(t, &httptest.Server{URL: "https://licences.example"}, "/l")
	x.proxy = func(*http.Request) (*url.URL, error) { return proxy, nil }
	x.fails(codeBadGateway, "connection refused", "through the proxy")
}

// Law: no message shows user, password, query or fragment of a URL.
func FuzzRedacted(f *testing.F) {
	f.Add("https://ann:hidden@server/path?hidden#hidden")
	f.Add("hidden:hidden@server")
	f.Add("https://ann@server/ann@path")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		shown := redacted(u)
		for _, r := range shown {
			if r < ' ' {
				t.Errorf("%q shows a control character: %q", s, shown)
			}
		}
		// With others instead it shows the same. To look for them would not do: a path may hold the same words.
		other := *u
		other.User, other.Fragment = url.UserPassword("another", "word"), "elsewhere"
		if u.RawQuery != "" {
			other.RawQuery = "another=query"
		}
		if got := redacted(&other); got != shown {
			t.Errorf("%q shows its user, query or fragment: %q, and with others %q", s, shown, got)
		}
	})
}

func TestFetchProxyForbidsTheHost(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }))
	t.Cleanup(proxy.Close)
	x := newFetching(t, &httptest.Server{URL: "https://licences.example"}, "/l")
	x.proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	x.fails(codeBadGateway, "the proxy on the way to ", "refuses (HTTP status 403)")
}

func TestFetchServerOfOldTLSOnly(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(content))
	srv.Config.ErrorLog = quiet(t)
	srv.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	newFetching(t, srv, "/l").fails(codeSecurity, "TLS handshake")
}
