// Package management answers HTTP on the management port, 9540: whether the
// server is alive (/health), whether it
// serves sessions or could take over at once (/ready), and its
// figures for Prometheus (/metrics).
//
// The one idea: it only reads, shows nothing secret (no session, no user, no
// licence document) and asks for no password, so that probes and scrapers need
// none. Whoever must not see names and figures is kept off the port.
//
//	m := management.New(log)
//	go m.Serve(listener)              // from the first moment: answers STARTING
//	m.Attach(server.Status, stripe.Status, server.Memory)
//	...
//	m.Detach()                        // answers STOPPING
//	m.Close()
package management

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Bounds on strangers: what a probe or scraper needs is far below.
const (
	maxConnections = 64
	headerTimeout  = 5 * time.Second
	answerTimeout  = 10 * time.Second
	idleTimeout    = 30 * time.Second
	maxHeader      = 8 << 10 // bytes
)

// stateStopping is shown between Detach and the end of the process.
const stateStopping = "STOPPING"

// Server answers the management port. Its methods may be called at any time.
type Server struct {
	http    http.Server
	now     func() time.Time
	started time.Time
	rooms   atomic.Pointer[rooms] // nil before Attach and after Detach
	stopped atomic.Bool           // Detach was called
}

// rooms are where answers come from.
type rooms struct {
	status func() wire.Status
	engine func() stripe.Status
	memory func() wire.MemoryStatus
}

// New returns a Server that answers STARTING until Attach.
func New(log *slog.Logger) *Server {
	s := &Server{now: time.Now, started: time.Now()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /ready", s.ready)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /{$}", index)
	s.http = http.Server{
		Handler:           plain(mux),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers the connections of ln until Close, which closes ln. It returns
// nil after Close, else the error of the listener.
func (s *Server) Serve(ln net.Listener) error {
	err := s.http.Serve(&limited{Listener: ln, free: make(chan struct{}, maxConnections), closed: make(chan struct{})})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Attach says where answers come from, once these rooms are open.
func (s *Server) Attach(status func() wire.Status, engine func() stripe.Status, memory func() wire.MemoryStatus) {
	s.rooms.Store(&rooms{status, engine, memory})
}

// Detach makes every answer STOPPING. A request that has begun may still ask the
// rooms, which answer also when they are closed.
func (s *Server) Detach() {
	s.stopped.Store(true)
	s.rooms.Store(nil)
}

// Close closes the listener and all connections.
func (s *Server) Close() error { return s.http.Close() }

// plain sets what holds for every answer.
func plain(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("/health   200 while the server is alive, configured or not\n" +
		"/ready    200 while it serves sessions, or could take over at once\n/metrics  for Prometheus\n"))
}

// report is the answer of /health and /ready.
type report struct {
	Status     string `json:"status"` // UP or DOWN
	State      string `json:"state"`  // as cluster-tool status shows it, or STOPPING
	Server     string `json:"server,omitempty"`
	Version    string `json:"version,omitempty"`
	Configured bool   `json:"configured"`
	Reason     string `json:"reason,omitempty"` // why DOWN
}

// look returns how the server is: alive, and whether it serves sessions.
func (s *Server) look() (r report, alive, ready bool) {
	in := s.rooms.Load()
	switch {
	case in == nil && s.stopped.Load():
		return report{State: stateStopping, Reason: "the server is shutting down"}, false, false
	case in == nil:
		return report{State: wire.StateStarting, Reason: "the server reads its state"}, false, false
	}
	st, engine := in.status(), in.engine()
	r = report{State: st.State, Server: st.Server.Name, Version: st.Version, Configured: st.Cluster != nil}
	switch {
	case engine.Refusal != "" && !wire.InService(r.State):
		r.Reason = "the stripe does not let this server in: " + engine.Refusal
	case engine.Divergence != "":
		r.Reason = engine.Divergence
	case !r.Configured && !wire.Unread(r.State):
		r.Reason = "the cluster is not configured yet: run cluster-tool configure"
	case !wire.InService(r.State):
		r.Reason = "this server is neither active nor a passive one that could take over: it is " + r.State
		if st.Waiting != "" {
			r.Reason += ": " + st.Waiting
		}
	case engine.DiskError != "":
		r.Reason = "writes are refused: " + engine.DiskError
	}
	return r, true, r.Reason == ""
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	r, alive, _ := s.look()
	if alive {
		r.Reason = ""
	}
	answer(w, r, alive)
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	r, _, ready := s.look()
	answer(w, r, ready)
}

func answer(w http.ResponseWriter, r report, good bool) {
	r.Status = "UP"
	code := http.StatusOK
	if !good {
		r.Status, code = "DOWN", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(r)
}
