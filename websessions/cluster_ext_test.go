package websessions_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/websessions"
)

var quiet = slog.New(slog.DiscardHandler)

func init() {
	websessions.StartCluster = func(t testing.TB) string { return start(t).URI("sessions") }
}

func start(t testing.TB, opts ...testcluster.Option) *testcluster.Cluster {
	return testcluster.Start(t, append(opts, testcluster.Logger(quiet))...)
}

func node(t testing.TB, cfg websessions.Config) *websessions.Sessions {
	t.Helper()
	cfg.Logger = quiet
	m, err := websessions.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

var count = websessions.NewAttribute[int]("count")

// counter adds one and shows the sum.
var counter = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if err := count.Update(r.Context(), func(n *int) error { *n++; return nil }); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	n, _ := count.Get(r.Context())
	fmt.Fprint(w, n)
})

// visit sends one request with the cookies of before.
func visit(m *websessions.Sessions, h http.Handler, before *httptest.ResponseRecorder) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://shop.example/", nil)
	if before != nil {
		for _, c := range before.Result().Cookies() {
			r.AddCookie(c)
		}
	}
	w := httptest.NewRecorder()
	m.Handler(h).ServeHTTP(w, r)
	return w
}

func expect(t *testing.T, w *httptest.ResponseRecorder, code int, body string) {
	t.Helper()
	if w.Code != code || !strings.Contains(w.Body.String(), body) {
		t.Fatalf("status %d, body %q; want %d, %q", w.Code, w.Body, code, body)
	}
}

func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func long(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // ends a test that hangs
	t.Cleanup(cancel)
	return ctx
}

// unready returns the error of Ready once it says all of words: on a busy machine
// nothing may be known yet when the first one gives up.
func unready(t *testing.T, m *websessions.Sessions, words ...string) error {
	t.Helper()
	for patience := 200 * time.Millisecond; ; patience *= 2 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := m.Ready(ctx)
		cancel()
		if !errors.Is(err, websessions.ErrUnavailable) {
			t.Fatalf("Ready: %v", err)
		}
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(err.Error(), w) }) {
			return err
		}
		if patience > time.Minute {
			t.Fatalf("Ready doesn't say %q: %v", words, err)
		}
	}
}

// An application may start before its cluster, and before configure.
func TestUnconfiguredClusterIsWaitedFor(t *testing.T) {
	c := start(t, testcluster.Unconfigured())
	m := node(t, websessions.Config{URI: c.URI("shop"), NonStopTimeout: 200 * time.Millisecond})
	t.Logf("what operators read: %v", unready(t, m, "cluster-tool configure", c.Addr()))
	expect(t, visit(m, counter, nil), 503, "")
	c.Configure()
	if err := m.Ready(long(t)); err != nil {
		t.Fatal(err)
	}
	w := visit(m, counter, nil)
	for deadline := time.Now().Add(time.Minute); w.Code == 503 && time.Now().Before(deadline); { // 200 ms are little on a busy machine
		w = visit(m, counter, nil)
	}
	expect(t, w, 200, "1")
}

// Nobody stares at an empty page because somebody forgot to configure.
func TestUnconfiguredIsToldSoon(t *testing.T) {
	t.Parallel()
	c := start(t, testcluster.Unconfigured())
	m := node(t, websessions.Config{URI: c.URI("shop"), NonStopTimeout: time.Hour})
	began := time.Now()
	w := visit(m, counter, nil)
	if d := time.Since(began); d < 2*time.Second || d > time.Minute {
		t.Errorf("the answer took %v", d)
	}
	expect(t, w, 503, "cluster-tool configure")
}

// A request that comes while everything starts together is served.
func TestARequestWaitsForConfigure(t *testing.T) {
	t.Parallel()
	var w *httptest.ResponseRecorder
	for range 5 { // once, unless this machine takes seconds to configure it
		c := start(t, testcluster.Unconfigured())
		m := node(t, websessions.Config{URI: c.URI("shop"), NonStopTimeout: time.Hour})
		unready(t, m, "cluster-tool configure")
		answer := make(chan *httptest.ResponseRecorder, 1)
		go func() { answer <- visit(m, counter, nil) }()
		<-time.After(200 * time.Millisecond) // the request is under way, which nobody can see
		c.Configure()
		if w = <-answer; w.Code == 200 {
			break
		}
	}
	expect(t, w, 200, "1")
}

func TestNothingListensThere(t *testing.T) {
	addr := net.JoinHostPort("127.0.0.1", testcluster.FreePort(t))
	m := node(t, websessions.Config{URI: "terracotta://" + addr + "/shop", NonStopTimeout: 100 * time.Millisecond}) // New does not wait for a cluster
	w := visit(m, counter, nil)
	expect(t, w, 503, "")
	unready(t, m, addr)
	if err := m.Close(long(t)); err != nil {
		t.Fatal(err)
	}
}

// Operators see at once which nodes there are.
func TestCloseLeavesTheCluster(t *testing.T) {
	c := start(t)
	m := node(t, websessions.Config{URI: c.URI("shop")})
	expect(t, visit(m, counter, nil), 200, "1")
	if n := c.Status().Nodes; n != 1 {
		t.Fatalf("%d nodes", n)
	}
	if err := m.Close(long(t)); err != nil {
		t.Fatal(err)
	}
	// Close does not always wait until it is so; a node that has only gone is counted for two minutes.
	for deadline := time.Now().Add(time.Minute); c.Status().Nodes != 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d nodes after Close", c.Status().Nodes)
		}
	}
}

// What waiting does not cure is said at once.
func TestRefusalsAreToldAtOnce(t *testing.T) {
	c := start(t, testcluster.Password("right"))
	ready := node(t, websessions.Config{URI: c.URI("shop"), Password: "right", OffheapResource: "offheap-2"})
	if err := ready.Ready(long(t)); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]struct {
		cfg  websessions.Config
		want string
	}{
		"no password":               {websessions.Config{URI: c.URI("shop")}, "NOAUTH"},
		"wrong password":            {websessions.Config{URI: c.URI("shop"), Password: "wrong"}, "WRONGPASS"},
		"no such resource":          {websessions.Config{URI: c.URI("other"), Password: "right", OffheapResource: "offheap-9"}, "offheap-9"},
		"another resource":          {websessions.Config{URI: c.URI("shop"), Password: "right", OffheapResource: "offheap-1"}, "CONFLICT"},
		"no such data directory":    {websessions.Config{URI: c.URI("disk"), Password: "right", DiskResource: "dataroot-9"}, "dataroot-9"},
		"first resource by default": {websessions.Config{URI: c.URI("shop"), Password: "right"}, ""},
	} {
		m := node(t, f.cfg)
		began := time.Now()
		err := m.Ready(long(t))
		if f.want == "" {
			continue // the store decides whether "the first" contradicts "offheap-2"
		}
		if err == nil || !strings.Contains(err.Error(), f.want) || strings.Contains(err.Error(), "wrong\"") {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(began); d > 30*time.Second {
			t.Errorf("%s: told after %v", name, d)
		}
		t.Logf("%s: %v", name, err)
	}
}

// A server is stopped, started and killed under a browser that goes on.
func TestSessionsOutliveTheServer(t *testing.T) {
	c := start(t, testcluster.Dir(t.TempDir()))
	m := node(t, websessions.Config{URI: c.URI("shop")})
	w := visit(m, counter, nil)
	expect(t, w, 200, "1")
	for n := 2; n < 6; n++ {
		if n%2 == 0 {
			c.Stop()
		} else {
			c.Kill()
		}
		answer := make(chan *httptest.ResponseRecorder, 1)
		go func() { answer <- visit(m, counter, w) }() // it waits
		c.Start()
		expect(t, <-answer, 200, fmt.Sprint(n))
	}
	other := node(t, websessions.Config{URI: c.URI("shop")})
	expect(t, visit(other, counter, w), 200, "6")
}

// A server that keeps its data in memory comes back empty: sessions are gone,
// the application goes on.
func TestAnEmptyServerGetsItsDatasetAgain(t *testing.T) {
	c := start(t)
	m := node(t, websessions.Config{URI: c.URI("shop")})
	w := visit(m, counter, nil)
	expect(t, w, 200, "1")
	c.Restart()
	again := visit(m, counter, w)
	expect(t, again, 200, "1")
	expect(t, visit(m, counter, again), 200, "2")
}

func TestReadyTellsWhenTheClusterIsAway(t *testing.T) {
	c := start(t, testcluster.Dir(t.TempDir()))
	m := node(t, websessions.Config{URI: c.URI("shop"), NonStopTimeout: 200 * time.Millisecond})
	if err := m.Ready(long(t)); err != nil {
		t.Fatal(err)
	}
	w := visit(m, counter, nil)
	c.Stop()
	if err := m.Ready(short(t)); !errors.Is(err, websessions.ErrUnavailable) {
		t.Fatalf("Ready: %v", err)
	}
	// Who did not look at the error gets the page, with its header.
	p := visit(m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello ", websessions.FromContext(r.Context()).User())
	}), w)
	expect(t, p, 503, "Please try again")
	if p.Header().Get("Retry-After") == "" || strings.Contains(p.Body.String(), "hello") {
		t.Fatalf("header %v, body %q", p.Header(), p.Body)
	}
	// Who needs no session is served.
	expect(t, visit(m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "static") }), w), 200, "static")
	c.Start()
	if err := m.Ready(long(t)); err != nil {
		t.Fatal(err)
	}
}

func TestAFullResourceIsToldAndChangesNothing(t *testing.T) {
	c := start(t, testcluster.Offheap(1<<20))
	m := node(t, websessions.Config{URI: c.URI("shop")})
	w := visit(m, counter, nil)
	expect(t, w, 200, "1")
	blob := websessions.NewAttribute[[]byte]("blob")
	var update error
	p := visit(m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		update = blob.Update(r.Context(), func(b *[]byte) error { *b = make([]byte, 2<<20); return nil })
		_ = count.Set(r.Context(), 100)
		_ = blob.Set(r.Context(), make([]byte, 2<<20))
		fmt.Fprint(w, "saved")
	}), w)
	expect(t, p, 503, "try again")
	if update == nil || !strings.Contains(update.Error(), "OUTOFOFFHEAP") || !strings.Contains(update.Error(), `off-heap resource "offheap-1" is full: `) {
		t.Fatalf("Update: %v", update)
	}
	expect(t, visit(m, counter, w), 200, "2")
}

func TestAValueAboveTheLimitIsRefused(t *testing.T) {
	c := start(t)
	m := node(t, websessions.Config{URI: c.URI("shop")})
	p := visit(m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = websessions.NewAttribute[string]("huge").Set(r.Context(), strings.Repeat("x", 9<<20))
	}), nil)
	expect(t, p, 500, "Internal Server Error")
}
