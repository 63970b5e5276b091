package ownership

import (
	"fmt"
	"sync"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// The changes: done is called exactly once, perhaps before the call returns,
// and must not block. A command whose Node is not m's is refused.

// Create proposes a new session. The outcome's token is a ticket for further
// commits of the same request.
func (o *Ownership) Create(m *Member, c *wire.Create, done func(wire.Outcome, error)) {
	if err := o.checkValues(c.Set); err != nil {
		done(wire.Outcome{}, err)
		return
	}
	b := buffers.Get().(*[]byte)
	*b = store.AppendCreate((*b)[:0], c)
	o.change(m, &c.Write, b, o.ticketed(done))
}

// Commit proposes changes of attributes.
func (o *Ownership) Commit(m *Member, c *wire.Commit, done func(wire.Outcome, error)) {
	if err := o.checkValues(c.Set); err != nil {
		done(wire.Outcome{}, err)
		return
	}
	if seen := o.stripe.Covers(c.Token); seen < c.Token.Index {
		// From the side of a split pair that is not kept. The log says what it covers
		// here, so that the store decides as for any token that is late.
		late := *c
		late.Token.Index = seen
		c = &late
	}
	b := buffers.Get().(*[]byte)
	*b = store.AppendCommit((*b)[:0], c)
	o.change(m, &c.Write, b, done)
}

// Invalidate proposes the end of a session.
func (o *Ownership) Invalidate(m *Member, c *wire.Invalidate, done func(wire.Outcome, error)) {
	b := buffers.Get().(*[]byte)
	*b = store.AppendInvalidate((*b)[:0], c)
	o.change(m, &c.Write, b, done)
}

// Renew proposes a new key for a session. The outcome's token is the command's
// own: a fresh ticket would cover changes that its request has not read.
func (o *Ownership) Renew(m *Member, c *wire.Renew, done func(wire.Outcome, error)) {
	b := buffers.Get().(*[]byte)
	*b = store.AppendRenew((*b)[:0], c)
	o.change(m, &c.Write, b, done)
}

// Hurry proposes the changes of members that gather.
func (o *Ownership) Hurry() { o.stripe.Hurry() }

// buffers holds *[]byte for operations on their way to the stripe, which copies them.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxKeptBuffer bounds what the pool keeps of a rare large operation.
const maxKeptBuffer = 64 << 10

// errFuture refuses a token that nobody can have been given: what it covers it
// would overwrite unseen, for ever.
var errFuture = &wire.Error{Word: wire.ErrBadRequest, Text: "the token names a state that this cluster has not reached"}

// change proposes the operation in b and gives b back. Changes of one session
// are ordered by the stripe alone now; with ownership, this is where a change
// whose token is not the current owner's waits for the recall.
func (o *Ownership) change(m *Member, w *wire.Write, b *[]byte, done func(wire.Outcome, error)) {
	var err error = errFuture
	// One more: a record can be read before the store has counted its change.
	if o.stripe.Covers(w.Token) <= o.store.Index()+1 {
		err = m.during(w.Node, func() {
			if m.gathers {
				o.stripe.Gather(*b, done)
			} else {
				o.stripe.Propose(*b, done)
			}
		})
	}
	if cap(*b) <= maxKeptBuffer {
		buffers.Put(b)
	}
	if err != nil {
		done(wire.Outcome{}, err)
	}
}

// ticketed adds a fresh ticket to an outcome that changed something.
func (o *Ownership) ticketed(done func(wire.Outcome, error)) func(wire.Outcome, error) {
	return func(out wire.Outcome, err error) {
		if err == nil && out.Err == nil {
			out.Token = o.token(out.Version)
		}
		done(out, err)
	}
}

func (o *Ownership) checkValues(set []wire.Attribute) error {
	for i := range set {
		if n := len(set[i].Value); n > o.cfg.MaxValue {
			return &wire.Error{Word: wire.ErrTooBig, Text: fmt.Sprintf("a value has %d bytes; at most %d are allowed", n, o.cfg.MaxValue)}
		}
	}
	return nil
}
