package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/terracotta-go/terracotta/websessions"
)

// A request reads one attribute, a number, and writes it back one larger. Its
// session also holds a note of 1 KiB, which nobody touches, and its page has 1 KiB.
var (
	note = strings.Repeat("n", 1024)
	body = []byte(strings.Repeat("p", 1024))
)

// site is one library with the handler that uses it.
type site struct {
	name    string
	server  *process // that keeps its sessions, nil = none
	handler http.Handler
	close   func()
}

var (
	number  = websessions.NewAttribute[int]("n")
	remarks = websessions.NewAttribute[string]("note")
)

func newOwnSite(ctx context.Context, s *process) (*site, error) {
	m, err := websessions.New(websessions.Config{
		URI: "terracotta://" + s.addr + "/web", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	if err := m.Ready(ctx); err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	return &site{"websessions, clustered", s, ownHandler(m), func() { _ = m.Close(context.Background()) }}, nil
}

func ownHandler(m *websessions.Sessions) http.Handler {
	return m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := number.Get(r.Context())
		if err == nil && n == 0 {
			err = remarks.Set(r.Context(), note)
		}
		if err == nil {
			err = number.Set(r.Context(), n+1)
		}
		answer(w, err)
	}))
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(body)
}

// response is a ResponseWriter that keeps the status and the header only, so
// that the libraries are measured and not the recorder.
type response struct {
	header http.Header
	status int
}

func (w *response) Header() http.Header { return w.header }
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}
func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}

// inProcess calls the site's handler directly: each caller is a browser with a
// session of its own.
func (s *site) inProcess(browsers int) (load, error) {
	requests := make([]*http.Request, browsers)
	for i := range requests {
		w := &response{header: http.Header{}}
		s.handler.ServeHTTP(w, httptest.NewRequest("GET", "http://shop.example/", nil))
		cookies := (&http.Response{Header: w.header}).Cookies()
		if w.status != http.StatusOK || len(cookies) == 0 {
			return load{}, fmt.Errorf("%s: the first request is answered with status %d and %d cookies", s.name, w.status, len(cookies))
		}
		requests[i] = httptest.NewRequest("GET", "http://shop.example/", nil)
		for _, c := range cookies {
			requests[i].AddCookie(c)
		}
	}
	return load{s.name, s.server, func(_ context.Context, caller, _ int) error {
		w := &response{header: http.Header{}}
		// Some libraries keep state in the request or its context: a fresh one, as net/http makes it.
		s.handler.ServeHTTP(w, requests[caller].Clone(context.Background()))
		if w.status != http.StatusOK {
			return fmt.Errorf("status %d", w.status)
		}
		return nil
	}}, nil
}

// overHTTP calls the site over real connections, one per caller.
func (s *site) overHTTP(browsers int) (load, func(), error) {
	server := httptest.NewServer(s.handler)
	transport := &http.Transport{MaxIdleConnsPerHost: browsers, DisableCompression: true}
	stop := func() {
		transport.CloseIdleConnections()
		server.Close()
	}
	do := func(r *http.Request) ([]*http.Cookie, error) {
		answer, err := transport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			return nil, err
		}
		if answer.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %d", answer.StatusCode)
		}
		return answer.Cookies(), nil
	}
	requests := make([]*http.Request, browsers)
	for i := range requests {
		first, err := http.NewRequest("GET", server.URL, nil)
		if err != nil {
			return load{}, stop, err
		}
		cookies, err := do(first)
		if err != nil || len(cookies) == 0 {
			return load{}, stop, fmt.Errorf("%s: the first request brings %d cookies, %v", s.name, len(cookies), err)
		}
		requests[i] = first.Clone(context.Background())
		for _, c := range cookies {
			requests[i].AddCookie(c)
		}
	}
	return load{s.name, s.server, func(_ context.Context, caller, _ int) error {
		_, err := do(requests[caller])
		return err
	}}, stop, nil
}

// web compares requests that read and write one attribute.
func web(ctx context.Context, b *bench) error {
	s, err := b.tc.start(ctx, b.dir("terracotta"), "memory-only")
	if err != nil {
		return err
	}
	defer s.stop()
	r, err := startRedis(ctx, b.dir("redis"), "--appendonly", "no")
	if err != nil {
		return err
	}
	defer r.stop()
	sites, err := openSites(ctx, s.process, r)
	for _, s := range sites {
		defer s.close()
	}
	if err != nil {
		return err
	}
	t := b.report.table("A request that reads and writes one attribute",
		"One attribute, a number, is read and written; the session also holds 1 KiB that nobody touches, and the page has 1 KiB. "+
			"Ours asks the server twice (pass-through: this version keeps nothing on the node). Requests per second. "+
			"The ratio is ours divided by the peer's. In process: the handler is called directly; HTTP: over kept-alive connections of the loopback. CPU is processor time per request, of all processes together.",
		"how", "callers", "library", "requests/s", "p50 / p99", "CPU", "ratio", "bar")
	for _, callers := range b.some(1, 16, 64) {
		if err := b.requests(ctx, t, sites, callers, "in process"); err != nil {
			return err
		}
	}
	return b.requests(ctx, t, sites, 16, "HTTP")
}

func (b *bench) requests(ctx context.Context, t *table, sites []*site, callers int, how string) error {
	loads := make([]load, len(sites))
	for i, s := range sites {
		var err error
		if how == "HTTP" {
			var stop func()
			loads[i], stop, err = s.overHTTP(callers)
			defer stop()
		} else {
			loads[i], err = s.inProcess(callers)
		}
		if err != nil {
			return err
		}
	}
	samples, err := inTurn(ctx, loads, callers, b.rounds, b.length)
	if err != nil {
		return err
	}
	t.add(how, fmt.Sprint(callers), loads[0].name, rate(samples[0]), tails(samples[0]), perCall(samples[0]), "", "")
	for i := 1; i < len(loads); i++ {
		bar := 0.0
		if strings.HasPrefix(loads[i].name, "scs on Redis") {
			bar = 1.5
		}
		t.add(how, fmt.Sprint(callers), loads[i].name, rate(samples[i]), tails(samples[i]), perCall(samples[i]),
			fmt.Sprintf("%.2f", ratio(samples[0], samples[i])), barText(bar))
	}
	return nil
}
