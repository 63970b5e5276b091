package websessions

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

// newTest returns Sessions in memory.
func newTest(t testing.TB, change ...func(*Config)) *Sessions {
	t.Helper()
	cfg := Config{Logger: quiet}
	for _, f := range change {
		f(&cfg)
	}
	m, err := NewMemory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// browser keeps cookies and follows no redirects.
type browser struct {
	t   testing.TB
	jar http.CookieJar
	c   *http.Client
}

func newBrowser(t testing.TB) *browser {
	jar, _ := cookiejar.New(nil)
	c := &http.Client{Jar: jar, Timeout: 2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(c.CloseIdleConnections)
	return &browser{t: t, jar: jar, c: c}
}

type page struct {
	code   int
	body   string
	header http.Header
	err    error
}

// get is for goroutines too: it doesn't fail the test itself.
func (b *browser) get(url string) page {
	resp, err := b.c.Get(url)
	if err != nil {
		return page{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return page{resp.StatusCode, string(body), resp.Header, err}
}

func (b *browser) ok(url string) string {
	b.t.Helper()
	p := b.get(url)
	if p.err != nil || p.code != http.StatusOK {
		b.t.Fatalf("GET %s: status %d, error %v, body %q", url, p.code, p.err, p.body)
	}
	return p.body
}

// serve starts a server on m with one handler per path.
func serve(t testing.TB, m *Sessions, routes map[string]http.HandlerFunc) string {
	t.Helper()
	mux := http.NewServeMux()
	for path, h := range routes {
		mux.HandleFunc(path, h)
	}
	srv := httptest.NewServer(m.Handler(mux))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(srv.Close)
	// A name keeps the cookies of several servers in one jar: jars know no ports.
	return srv.URL
}

// one runs a single request against h and returns the recorder.
func one(m *Sessions, h http.HandlerFunc, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://shop.example/", nil)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	m.Handler(h).ServeHTTP(w, r)
	return w
}

// with sends the cookies of an earlier response.
func with(w *httptest.ResponseRecorder) func(*http.Request) {
	return func(r *http.Request) {
		// Not w.Result, which is for one goroutine.
		for _, c := range (&http.Response{Header: w.Header()}).Cookies() {
			if c.MaxAge >= 0 {
				r.AddCookie(c)
			}
		}
	}
}

// tls makes the request one that came over TLS.
func overTLS(r *http.Request) { r.TLS = httptest.NewRequest("GET", "https://x/", nil).TLS }

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("unexpected error in a handler: %v", err))
	}
}

func text2(v []string) string { return strings.Join(v, ",") }

var bg = context.Background()

// forgotten is a tab with b's present cookies that takes no new ones, as an
// attacker holds them too.
func (b *browser) forgotten(url string) *browser {
	b.t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return &browser{t: b.t, c: &http.Client{Jar: frozenJar(b.jar.Cookies(req.URL))}}
}

type frozenJar []*http.Cookie

func (j frozenJar) SetCookies(*url.URL, []*http.Cookie) {}
func (j frozenJar) Cookies(*url.URL) []*http.Cookie     { return j }

// logCount counts the log lines that contain want.
type logCount struct {
	want string
	n    atomic.Int64
}

func (l *logCount) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logCount) Write(p []byte) (int, error) {
	if strings.Contains(string(p), l.want) {
		l.n.Add(1)
	}
	return len(p), nil
}

// opener opens a node. Those of one test share their sessions.
type opener func(t testing.TB, change ...func(*Config)) *Sessions

// onBoth runs a test on memory and on a real server, whose rules must be the same.
func onBoth(t *testing.T, test func(t *testing.T, open opener)) {
	t.Run("memory", func(t *testing.T) {
		var shared backend
		test(t, func(t testing.TB, change ...func(*Config)) *Sessions {
			m := newTest(t, change...)
			if shared == nil {
				shared = m.b
			}
			m.b = shared
			return m
		})
	})
	t.Run("cluster", func(t *testing.T) {
		uri := StartCluster(t)
		test(t, func(t testing.TB, change ...func(*Config)) *Sessions { return openCluster(t, uri, change...) })
	})
}

// openCluster opens a node on a real cluster and closes it before the cluster.
func openCluster(t testing.TB, uri string, change ...func(*Config)) *Sessions {
	t.Helper()
	cfg := Config{URI: uri, Logger: quiet}
	for _, f := range change {
		f(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}
