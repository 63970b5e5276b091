// Package ownership runs on the active: it knows the joined nodes and their
// connections, hands out tokens, orders loads and changes of each session, and
// decides about time: accesses, expiry, the leaving of nodes. docs/architecture.md
// tells the protocol; in this version every load is answered with a ticket
// (pass-through) and nobody owns a session.
//
// The one idea: what happened to a session is decided by the order of the
// stripe's log, and this package decides what is proposed. It keeps nothing that
// a new active could not begin without. A reign is the time in which this server
// is the active one, named by its term: a server may have several in one run, and
// nothing of one, no connection and no access, reaches into the next.
//
//	o := ownership.New(ownership.Config{ServerName: "tc1", Logger: log}, stripe, store)
//	m, joined, err := o.Join(ctx, &join, conn)
//	err = o.Load(ctx, m, &load, func(s *wire.Session) { ... })
//	o.Commit(m, &commit, func(out wire.Outcome, err error) { ... })
//	m.Left() // the connection is gone
package ownership

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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
	MaxValue        int          // largest value of an attribute, in bytes
	Logger          *slog.Logger // nil: nothing is logged

	watch func(op []byte) // sees each expiry and prune entry before it is proposed; for tests
}

// Ownership is the active's view of nodes and sessions. Its methods may be
// called by many goroutines at once.
type Ownership struct {
	cfg    Config
	log    *slog.Logger
	stripe *stripe.Stripe
	store  *store.Store

	counter atomic.Uint64 // of the last token

	mu       sync.Mutex
	nodes    map[wire.NodeID]*node // node id -> what is known of it in this reign
	expected atomic.Int64          // nodes awaited since this server became active; changed under mu

	accesses accesses

	ctx  context.Context // ended by Close
	stop context.CancelFunc
	work sync.WaitGroup
}

// New starts the work that goes on beside requests (coalesced accesses, expiry,
// removal of absent nodes); Close ends it.
func New(cfg Config, s *stripe.Stripe, st *store.Store) *Ownership {
	if cfg.Lease == 0 {
		cfg.Lease = wire.DefaultLease
	}
	if cfg.ReconnectWindow == 0 {
		cfg.ReconnectWindow = wire.DefaultReconnectWindow
	}
	if cfg.MaxValue == 0 {
		cfg.MaxValue = wire.DefaultMaxValue
	}
	if cfg.watch == nil {
		cfg.watch = func([]byte) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	o := &Ownership{
		cfg: cfg, log: cfg.Logger, stripe: s, store: st,
		nodes: map[wire.NodeID]*node{},
	}
	o.ctx, o.stop = context.WithCancel(context.Background())
	o.accesses.full = make(chan struct{}, 1)
	// A term may come again only where the log is gone (memory only). Beginning
	// anywhere keeps a token of that life from naming a grant of this one.
	o.counter.Store(uint64(rand.Uint32()) << 16)
	o.work.Add(1)
	go o.keepTime()
	return o
}

// token names a grant of the record in the state of index, which was read before: what
// is read later may be of a later incarnation.
func (o *Ownership) token(index uint64) wire.Token {
	_, term := o.stripe.Reign()
	return wire.Token{Incarnation: o.stripe.Branch(), Term: term, Counter: o.counter.Add(1), Index: index}
}

// Close ends the background work and awaits it. Accesses not yet written are
// proposed once more. Close it before the stripe.
func (o *Ownership) Close() {
	o.stop()
	o.work.Wait()
}

// begin proposes op. The outcome comes on the channel; one that is a refusal
// comes as the error.
func (o *Ownership) begin(op []byte) <-chan error {
	answer := make(chan error, 1)
	o.stripe.Propose(op, func(out wire.Outcome, err error) {
		if err == nil && out.Err != nil {
			err = out.Err
		}
		answer <- err
	})
	return answer
}

// propose proposes op and waits for the outcome.
func (o *Ownership) propose(ctx context.Context, op []byte) error {
	select {
	case err := <-o.begin(op):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
