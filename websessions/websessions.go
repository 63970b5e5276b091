// Package websessions gives net/http applications clustered, coherent sessions,
// sticky or not: every node sees every session as the last response left it, a
// logout holds everywhere at once, and parallel requests of one browser do not
// overwrite each other's changes.
//
//	var Cart = websessions.NewAttribute[[]string]("cart")
//
//	sessions, err := websessions.New(websessions.Config{URI: "terracotta://server:9410/shop"})
//	http.Handle("/", sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
//		err := Cart.Update(r.Context(), func(c *[]string) error { *c = append(*c, "book"); return nil })
//		...
//	})))
//
// The one idea: a session is a map of attributes, and a request commits which
// of them it changed, based on what it had read; the cluster refuses a change
// that came too late. So reading costs no writing, requests are never queued
// behind each other, and nothing is overwritten unseen.
//
// Caveats first. A response is held back up to 64 KiB until its changes are
// agreed; a longer or flushed one streams, and then a new session can no longer
// get its cookie (ErrHeadersSent): call Session.Save before. When a handler
// panics, its uncommitted changes are dropped. When the cluster cannot agree,
// the browser gets an error page in place of the held response, and a broken
// connection in place of a streamed one: never a success that was none.
//
// The cookie carries a random secret, the cluster knows only its hash. Ids that
// the cluster does not know are never adopted; Login gives a new one. Sessions
// without content are not stored, so robots cost nothing.
package websessions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Sessions is the session middleware of one application on one node. It is safe
// for concurrent use.
type Sessions struct {
	cfg       Config
	b         backend
	log       *slog.Logger
	now       func() time.Time
	stats     counters
	waits     sync.Pool // of *waiting, those at rest
	warnPlain sync.Once

	mu      sync.Mutex    // guards what follows
	running int           // requests within Handler
	closed  bool          // Close was called
	idle    chan struct{} // closed when closed and running is 0
}

// New returns Sessions on the cluster of cfg.URI or cfg.TCConfigURL. It does not
// wait for the cluster: requests do, each at most for NonStopTimeout, and Ready does.
func New(cfg Config) (*Sessions, error) {
	err := cfg.Validate()
	if cfg.URI == "" && cfg.TCConfigURL == "" {
		err = errors.Join(fmt.Errorf("%sstore.tcstore.uri is missing; example: terracotta://server:9410/sessions", Prefix), err)
	}
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	b, err := newCluster(cfg)
	if err != nil {
		return nil, err
	}
	return newSessions(cfg, b, time.Now), nil
}

// NewMemory returns Sessions that live in this process only, under the same
// rules, for tests of handlers. The options that concern the cluster are ignored.
func NewMemory(cfg Config) (*Sessions, error) {
	cfg.URI = ""
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return newSessions(cfg.withDefaults(), newMemory(time.Now), time.Now), nil
}

func newSessions(cfg Config, b backend, now func() time.Time) *Sessions {
	return &Sessions{cfg: cfg, b: b, log: cfg.Logger, now: now, idle: make(chan struct{})}
}

// sessionKey is where Handler keeps the *Session in a request's context.
type sessionKey struct{}

// request is what Handler needs for one request, in one piece of memory.
type request struct {
	session Session
	writer  writer
	context sessionContext
}

// sessionContext is the context of a request with its session.
type sessionContext struct {
	context.Context
	s *Session
}

// Value implements context.Context.
func (c *sessionContext) Value(key any) any {
	if _, ok := key.(sessionKey); ok {
		return c.s
	}
	return c.Context.Value(key)
}

// FromContext returns the request's session; it panics outside Handler.
func FromContext(ctx context.Context) *Session {
	s, ok := ctx.Value(sessionKey{}).(*Session)
	if !ok {
		panic("websessions: no session in this context: the request did not come through Sessions.Handler")
	}
	return s
}

// Handler gives each request of next a Session, found with FromContext. Within
// another Handler of the same Sessions it does nothing.
func (m *Sessions) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if outer, ok := r.Context().Value(sessionKey{}).(*Session); ok && outer.m == m {
			next.ServeHTTP(w, r)
			return
		}
		if !m.enter() {
			m.cfg.ErrorPage(w, r, fmt.Errorf("%w: %w", ErrUnavailable, ErrClosed))
			return
		}
		defer m.leave()
		m.serve(next, w, r)
	})
}

func (m *Sessions) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	q := &request{}
	s, out := &q.session, &q.writer
	q.context = sessionContext{r.Context(), s}
	s.m, s.r, s.patience.limit, s.patience.waits = m, r.WithContext(&q.context), m.cfg.NonStopTimeout, &m.waits
	out.w, out.s, out.remain = w, s, -1
	defer out.release()
	returned := false
	defer func() {
		if !returned {
			s.abandon() // a panic, which goes on to net/http
		}
	}()
	next.ServeHTTP(out.dressed(), s.r)
	returned = true

	err := s.settle()
	if !out.finish(err) {
		m.stats.failures.Add(1)
		// Part of a success has left already: the browser must not take it for whole.
		m.log.Error("a response was cut off: its session could not be saved", "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
}

func (m *Sessions) enter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.running++
	return true
}

func (m *Sessions) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running--; m.closed && m.running == 0 {
		close(m.idle)
	}
}

// Ready waits until the cluster answers and the dataset is open, or ctx ends;
// the error says what is missing.
func (m *Sessions) Ready(ctx context.Context) error {
	return explain("sessions are not ready", m.b.ready(ctx))
}

// Info is one session as operators see it. Times are by this node's clock.
type Info struct {
	ID                  string
	Created, LastAccess time.Time
}

// UserSessions lists all sessions of a user on all nodes, the oldest first.
func (m *Sessions) UserSessions(ctx context.Context, user string) ([]Info, error) {
	list, err := ask(ctx, m.patienceOf(ctx), m.b, "list a user's sessions", backend.userSessions, user)
	if err != nil {
		return nil, err
	}
	now := m.now()
	infos := make([]Info, len(list))
	for i, s := range list {
		infos[i] = Info{ID: string(s.Key), Created: now.Add(-s.Age), LastAccess: now.Add(-s.Idle)}
	}
	return infos, nil
}

// patienceOf returns the patience of the request that ctx belongs to, or a new one.
func (m *Sessions) patienceOf(ctx context.Context) *patience {
	if s, ok := ctx.Value(sessionKey{}).(*Session); ok && s.m == m {
		return &s.patience
	}
	return &patience{limit: m.cfg.NonStopTimeout, waits: &m.waits}
}

// InvalidateUser ends all sessions of a user on all nodes and returns how many
// there were. A login at the same time may stay.
func (m *Sessions) InvalidateUser(ctx context.Context, user string) (int, error) {
	p, n := m.patienceOf(ctx), 0
	for {
		list, err := m.UserSessions(ctx, user)
		if err != nil || len(list) == 0 {
			return n, err
		}
		before := n
		for _, info := range list {
			w := wire.Invalidate{Reason: []byte("logout")}
			w.Key = []byte(info.ID)
			out, err := invalidate(ctx, p, m.b, &w)
			if err != nil {
				return n, err
			}
			if out.Existed {
				n++
			}
		}
		if n == before { // somebody else ends them
			return n, nil
		}
	}
}

// Close refuses new requests, waits until running ones have committed, at most
// until ctx ends, leaves the cluster and closes the connection.
func (m *Sessions) Close(ctx context.Context) error {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		if m.running == 0 {
			close(m.idle)
		}
	}
	running := m.running
	m.mu.Unlock()
	var err error
	select {
	case <-m.idle:
	case <-ctx.Done():
		err = fmt.Errorf("close with %d requests running: %w", running, ctx.Err())
	}
	return errors.Join(err, m.b.close())
}

// outlive returns a context that goes on when the browser has gone: what it
// asked for was done and must be kept. Without NonStopTimeout it goes on for the
// default one, or nothing would end it.
func (m *Sessions) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	out := context.WithoutCancel(ctx)
	if m.cfg.NonStopTimeout >= 0 {
		return out, func() {} // patience ends it
	}
	out, cancel := context.WithCancel(out)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(DefaultNonStopTimeout, cancel) })
	return out, func() { stop(); cancel() }
}
