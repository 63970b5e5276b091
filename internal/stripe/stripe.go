// Package stripe agrees on the order of operations among the servers of one
// stripe, keeps them on disk and applies them to the store. hashicorp/raft
// lives here and only here; leader and follower are words of this room.
package stripe

import (
	"context"
	"log/slog"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Durability says when an acknowledged write is on disk.
type Durability string

const (
	EveryWrite  Durability = "every write"  // one fsync per batch, before the acknowledgement
	EverySecond Durability = "every second" // a crash of the machine can lose the last second
	MemoryOnly  Durability = "memory only"  // no data root: a restart starts empty
)

// Config is how a stripe's server is opened.
type Config struct {
	Dir        string // the stripe's folder in the platform data root; "" with MemoryOnly
	Durability Durability
	ServerName string
	Logger     *slog.Logger
}

// Stripe is this server's part in its stripe.
type Stripe struct{}

// Open starts from the state in cfg.Dir, or unformed where there is none. The
// identity of the server is read from Dir, or made there. st must be new.
// It fails where another process uses Dir, where Dir cannot be written, and
// where a file there is damaged or of a later version; the error says what to do.
func Open(cfg Config, st *store.Store) (*Stripe, error) { panic("not built") }

// Form gives birth to the stripe with this server as its first and active
// member. On a stripe that is formed it does nothing.
func (s *Stripe) Form(ctx context.Context) error { panic("not built") }

// Propose hands op to the next batch and returns at once; it does not keep
// op's memory. done is called exactly once, from another goroutine, with the
// outcome or with an error (wire.ErrNotActive, ErrUnconfigured, ErrReadOnly,
// ErrStopping, ErrUnsure, ErrBusy). Operations are proposed in the order of the calls.
// done must not block.
func (s *Stripe) Propose(op []byte, done func(wire.Outcome, error)) { panic("not built") }

// Confirm returns nil once it is certain that this server was the active one
// at some moment after the call. With a valid lease it does not wait. Call it
// after reading the store, before answering (ENGINE.md: the lease is checked after the value was read).
func (s *Stripe) Confirm(ctx context.Context) error { panic("not built") }

// Now returns the log time at this moment; 0 where this server is not active.
func (s *Stripe) Now() store.Time { panic("not built") }

// Status tells the role and progress of this server.
func (s *Stripe) Status() Status { panic("not built") }

// Status is a moment of a stripe's server.
type Status struct {
	ServerID    string // the identity in the data root
	State       string // wire.StateActive and so on
	Formed      bool
	Incarnation uint64
	Term        uint64
	LogIndex    uint64 // last entry in the log
	Applied     uint64 // last entry applied
	DiskError   string // why writes are refused, "" where they are not
}

// Changes returns a channel that gets a value (coalesced) whenever State may
// have changed.
func (s *Stripe) Changes() <-chan struct{} { panic("not built") }

// Close stops taking proposals, fails those that wait with ErrStopping, and
// closes log and snapshots. Everything acknowledged is safe.
func (s *Stripe) Close() error { panic("not built") }
