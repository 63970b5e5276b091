// Package ownership runs on the active: it knows the joined nodes and their
// connections, hands out tokens, orders loads and changes of each session, and
// decides about time: accesses, expiry, the leaving of nodes. docs/architecture.md
// tells the protocol; in this version every load is answered with a ticket
// (pass-through) and nobody owns a session.
package ownership

import (
	"context"
	"log/slog"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Config sets the times. Zero fields mean the defaults of package wire.
type Config struct {
	Lease           time.Duration
	ReconnectWindow time.Duration
	ServerName      string
	MaxValue        int
	Logger          *slog.Logger
}

// Ownership is the active's view of nodes and sessions.
type Ownership struct{}

// New starts the work that goes on beside requests (coalesced accesses, expiry,
// removal of absent nodes); Close ends it.
func New(cfg Config, s *stripe.Stripe, st *store.Store) *Ownership { panic("not built") }

// Conn is the server's side of a node's connection.
type Conn interface {
	Close() error // must not block
}

// Join opens a connection generation: the older connection of the node is
// closed, and what it still delivers is refused (ErrStale).
func (o *Ownership) Join(ctx context.Context, j *wire.Join, c Conn) (*Member, wire.Joined, error) {
	panic("not built")
}

// Member is one joined connection. The zero Member is none.
type Member struct{}

// Left tells that the connection is gone. The node has the reconnect window to come back.
func (m *Member) Left() { panic("not built") }

// Load calls f with the answer, valid inside f only, or returns the refusal.
// m may be nil with wire.LoadPeek.
func (o *Ownership) Load(ctx context.Context, m *Member, l *wire.Load, f func(*wire.Session)) error {
	panic("not built")
}

// The changes: done is called exactly once, perhaps before the call returns,
// and must not block. A command whose Node is not m's is refused.

func (o *Ownership) Create(m *Member, c *wire.Create, done func(wire.Outcome, error)) {
	panic("not built")
}
func (o *Ownership) Commit(m *Member, c *wire.Commit, done func(wire.Outcome, error)) {
	panic("not built")
}
func (o *Ownership) Invalidate(m *Member, c *wire.Invalidate, done func(wire.Outcome, error)) {
	panic("not built")
}
func (o *Ownership) Renew(m *Member, c *wire.Renew, done func(wire.Outcome, error)) {
	panic("not built")
}

// UserSessions lists the sessions of a user.
func (o *Ownership) UserSessions(ctx context.Context, dataset, user []byte) ([]wire.UserSession, error) {
	panic("not built")
}

// Close ends the background work and awaits it.
func (o *Ownership) Close() { panic("not built") }
