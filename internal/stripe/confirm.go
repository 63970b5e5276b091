package stripe

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// leaseShare is how much of the heartbeat timeout a confirmed leadership holds,
// in tenths, counted from the start of the check: within that time no other
// server can have been elected, with the rest as margin for drifting clocks.
const leaseShare = 8

// confirmer knows until when this server is certainly the active one, and
// shares each check among all who wait.
type confirmer struct {
	verify func() raft.Future // raft.VerifyLeader
	mono   func() time.Duration
	lease  time.Duration

	// recent returns when other servers certainly held this one to be active, as
	// far as that is known without asking; 0 for never. nil: it is not known.
	recent func() time.Duration

	mu      sync.Mutex
	until   time.Duration // mono; the lease holds before it
	running *check
	next    *check // begins when running ends; those who came too late for running wait for it
	work    sync.WaitGroup
}

// check is one leadership check. Its end is told by done; err is set before.
type check struct {
	done chan struct{}
	err  error
	over bool // done is closed
}

func newConfirmer(verify func() raft.Future, heartbeat time.Duration) *confirmer {
	start := time.Now()
	return &confirmer{
		verify: verify, lease: heartbeat / 10 * leaseShare,
		mono: func() time.Duration { return time.Since(start) },
	}
}

// confirm returns nil once a check that began after the call, or a lease that
// holds now, says that this server is the active one.
func (c *confirmer) confirm(ctx context.Context) error {
	if c.recent != nil {
		// The lease is renewed by every heartbeat that is answered.
		if at := c.recent(); at > 0 && c.mono() < at+c.lease {
			return nil
		}
	}
	c.mu.Lock()
	if c.mono() < c.until {
		c.mu.Unlock()
		return nil
	}
	k := c.next
	switch {
	case k != nil:
	case c.running != nil:
		k = &check{done: make(chan struct{})}
		c.next = k
	default:
		k = &check{done: make(chan struct{})}
		c.beginLocked(k)
	}
	c.mu.Unlock()
	select {
	case <-k.done:
		return k.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *confirmer) beginLocked(k *check) {
	c.running = k
	c.work.Add(1)
	go func() {
		defer c.work.Done()
		start := c.mono()
		err := c.verify().Error()
		c.mu.Lock()
		defer c.mu.Unlock()
		if k.over {
			return // abandoned: what it says now counts for nothing
		}
		if err == nil && c.recent == nil {
			c.until = start + c.lease
		} else {
			c.until = 0
		}
		c.endLocked(k, err)
	}()
}

func (c *confirmer) endLocked(k *check, err error) {
	k.err, k.over = err, true
	close(k.done)
	if c.running == k {
		c.running = nil
		if c.next != nil {
			n := c.next
			c.next = nil
			c.beginLocked(n)
		}
	}
}

// revoke drops the lease and begins the checks anew that are under way. It is
// called when leadership or the configuration changed: raft may never answer a
// check whose follower was removed (docs/decisions/raft.md). Those who wait wait for the new one.
func (c *confirmer) revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = 0
	old := c.running
	if old == nil {
		return
	}
	again := c.next
	c.next = nil
	if again == nil {
		again = &check{done: make(chan struct{})}
	}
	old.over = true
	c.running = nil
	c.beginLocked(again)
	// Those who wait for the old check are served by the new one.
	c.work.Add(1)
	go func() {
		defer c.work.Done()
		<-again.done
		old.err = again.err
		close(old.done)
	}()
}

// await returns when no check is under way.
func (c *confirmer) await() { c.work.Wait() }

// Confirm returns nil once it is certain that this server was the active one
// at some moment after the call. With a valid lease it does not wait. Call it
// after reading the store, before answering (docs/decisions/raft.md: the lease is looked at after the value was read).
func (s *Stripe) Confirm(ctx context.Context) error {
	if refusal := s.readRefusal(); refusal != nil {
		return refusal
	}
	if s.sole.Load() {
		// Nobody else has a vote, so nobody else can have become active: not even
		// while this server's own disk keeps it from leading.
		return nil
	}
	if err := s.confirmer.confirm(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return s.notActive()
	}
	return nil
}
