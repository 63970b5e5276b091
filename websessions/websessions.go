// Package websessions gives net/http applications clustered, coherent sessions,
// sticky or not.
package websessions

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Config configures Sessions. The zero value plus URI works.
type Config struct {
	URI             string   // terracotta://host[:port][,host...]/dataset; property store.tcstore.uri
	OffheapResource string   // store.tcstore.offheapResource; "" = the cluster's first
	DiskResource    string   // store.tcstore.diskResource; "" = the platform's
	Tags            []string // store.tcstore.tags, shown to operators

	SessionLocking   bool
	SynchronousWrite bool
	MaxBytesOnHeap   int64 // 0 = default
	MaxBytesOffHeap  int64 // accepted, see docs; 0 = none
	Rejoin           bool
	NonStopTimeout   time.Duration // how long a request waits for the cluster; -1 = until the request ends; 0 = default
	Concurrency      int

	IdleTimeout         time.Duration // 0 = 30 minutes
	AbsoluteTimeout     time.Duration // 0 = none
	ContextPath         string        // "" = "/"
	Cookie              Cookie
	TrustForwardedProto bool   // believe X-Forwarded-Proto: https
	Password            string // shared secret of the cluster
	Label               string // shown to operators
	Codec               Codec  // nil = JSON
	Logger              *slog.Logger
}

// Cookie configures the session cookie.
type Cookie struct {
	Name     string        // "" = TCSESSION, with __Host- before it over TLS
	Domain   string        // "" = the host only; a domain rules out the __Host- prefix
	SameSite http.SameSite // 0 = Lax
	Route    string        // suffix for sticky balancers, like jvmRoute; "" = none
	MaxAge   time.Duration // 0 = until the browser ends
}

// Codec turns attribute values into bytes and back.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

// ConfigFromProperties overlays base with terracotta.websessions.* properties; an unknown one is an error.
// ConfigFromEnv does the same with environment variables (TERRACOTTA_WEBSESSIONS_...).
func ConfigFromProperties(base Config, props map[string]string) (Config, error) { panic("not built") }
func ConfigFromEnv(base Config, environ []string) (Config, error)               { panic("not built") }

// Sessions is the session middleware of one application on one node. It is safe for concurrent use.
type Sessions struct{}

// New returns Sessions on a cluster. It does not wait for the cluster: see Ready.
func New(cfg Config) (*Sessions, error) { panic("not built") }

// NewMemory returns Sessions that live in this process only, for tests of handlers.
// The options that concern the cluster are ignored.
func NewMemory(cfg Config) (*Sessions, error) { panic("not built") }

// Handler gives each request of next a Session, found with FromContext.
func (s *Sessions) Handler(next http.Handler) http.Handler { panic("not built") }

// Ready waits until the cluster answers and the dataset is open, or ctx ends; the error says what is missing.
func (s *Sessions) Ready(ctx context.Context) error { panic("not built") }

// UserSessions lists, InvalidateUser ends, all sessions of a user on all nodes.
func (s *Sessions) UserSessions(ctx context.Context, user string) ([]Info, error) { panic("not built") }
func (s *Sessions) InvalidateUser(ctx context.Context, user string) (int, error)  { panic("not built") }

// Info is one session as operators see it.
type Info struct {
	ID                  string
	Created, LastAccess time.Time
}

// Close ends the connection after running requests have committed, at most until ctx ends.
func (s *Sessions) Close(ctx context.Context) error { panic("not built") }

// Session is the session of one request. It belongs to the request's handler
// and the goroutines that it awaits; its methods may be called concurrently.
type Session struct{}

// FromContext returns the request's session; it panics outside Handler.
func FromContext(ctx context.Context) *Session { panic("not built") }

func (s *Session) ID() string                                   { panic("not built") } // public id; "" before it exists
func (s *Session) IsNew() bool                                  { panic("not built") }
func (s *Session) Created() time.Time                           { panic("not built") }
func (s *Session) LastAccess() time.Time                        { panic("not built") } // the request before this one
func (s *Session) IdleTimeout() time.Duration                   { panic("not built") }
func (s *Session) ExpiresIn() time.Duration                     { panic("not built") }
func (s *Session) SetIdleTimeout(d time.Duration) error         { panic("not built") }
func (s *Session) User() string                                 { panic("not built") }
func (s *Session) Attributes() ([]string, error)                { panic("not built") }
func (s *Session) Bytes(name string) ([]byte, error)            { panic("not built") }
func (s *Session) SetBytes(name string, value []byte) error     { panic("not built") }
func (s *Session) Remove(name string) error                     { panic("not built") }
func (s *Session) Save(ctx context.Context) error               { panic("not built") } // create now, so that the cookie stands before the first byte
func (s *Session) Invalidate(ctx context.Context) error         { panic("not built") }
func (s *Session) RenewID(ctx context.Context) error            { panic("not built") } // old id valid 5 s
func (s *Session) Login(ctx context.Context, user string) error { panic("not built") } // new id, old one dead at once

// Attribute is a typed attribute: var Cart = websessions.NewAttribute[CartT]("cart").
type Attribute[T any] struct{ name string }

func NewAttribute[T any](name string) Attribute[T] { return Attribute[T]{name: name} }

// Get returns the value in the request's session, or the zero T where it has none.
func (a Attribute[T]) Get(ctx context.Context) (T, error) { panic("not built") }
func (a Attribute[T]) Set(ctx context.Context, v T) error { panic("not built") }
func (a Attribute[T]) Remove(ctx context.Context) error   { panic("not built") }

// Update is an atomic read-modify-write: f may run more than once.
func (a Attribute[T]) Update(ctx context.Context, f func(*T) error) error { panic("not built") }
