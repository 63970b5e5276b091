package client

import (
	"context"
	"errors"
	"slices"
)

// What may wait at once. Whoever comes when it is full waits for room, as long
// as its context allows.
const (
	maxCalls  = 4096
	maxBytes  = 64 << 20
	maxWindow = 4096 // numbers from the lowest unacknowledged one: outcomes that the store must remember
)

var errNoRoom = errors.New("too many calls are waiting for answers already")

// room bounds the calls that wait and the bytes they hold. It is guarded by
// Client.mu.
type room struct {
	calls, bytes int
	maxBytes     int
	waiters      []*waiter // in order of coming
}

type waiter struct {
	size  int
	write bool          // needs the window of numbers, too
	ready chan struct{} // closed by who grants the room or fails the waiter
	err   error
}

// takeLocked takes room for size bytes if there is any and nobody waits. The
// largest command fits whenever nothing else is there.
func (r *room) takeLocked(size int, windowFull bool) bool {
	if windowFull || len(r.waiters) > 0 || !r.fits(size) {
		return false
	}
	r.calls++
	r.bytes += size
	return true
}

func (r *room) fits(size int) bool {
	return r.calls < maxCalls && (r.bytes+size <= r.maxBytes || r.calls == 0)
}

// giveLocked gives room back and lets in who waited.
func (r *room) giveLocked(size int, windowFull bool) {
	if size == 0 { // given back before
		return
	}
	r.calls--
	r.bytes -= size
	r.admitLocked(windowFull)
}

func (r *room) admitLocked(windowFull bool) {
	for len(r.waiters) > 0 {
		w := r.waiters[0]
		if !r.fits(w.size) || windowFull && w.write {
			return
		}
		r.waiters = slices.Delete(r.waiters, 0, 1)
		r.calls++
		r.bytes += w.size
		close(w.ready)
	}
}

// failLocked ends all waiting.
func (r *room) failLocked() {
	for _, w := range r.waiters {
		w.err = ErrClosed
		close(w.ready)
	}
	r.waiters = nil
}

// waitForRoom is called with c.mu held and gives it back. On error no room was taken.
func (c *Client) waitForRoom(ctx context.Context, k *call) error {
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	w := &waiter{size: k.size, write: k.kind == change, ready: make(chan struct{})}
	c.room.waiters = append(c.room.waiters, w)
	c.mu.Unlock()
	select {
	case <-w.ready:
		return w.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.room.waiters, w); i >= 0 {
		c.room.waiters = slices.Delete(c.room.waiters, i, i+1)
		c.room.admitLocked(c.seqs.full()) // w may have held up a smaller one
	} else if w.err == nil {
		c.room.giveLocked(w.size, c.seqs.full())
	}
	e := &UnavailableError{Command: string(k.args[0]), Cause: context.Cause(ctx), Servers: c.attemptsLocked()}
	if c.cn != nil {
		e.Servers = []Attempt{{c.cn.host, errNoRoom}}
	}
	return e
}

// sequence numbers a node's changes and knows the lowest one without an outcome.
type sequence struct {
	last    uint64              // number handed out last
	settled uint64              // all up to here have an outcome
	ahead   map[uint64]struct{} // those above settled that have one too
}

func (s *sequence) take() uint64 {
	s.last++
	return s.last
}

// low is the lowest number without an outcome: that of the next change where all have one.
func (s *sequence) low() uint64 { return s.settled + 1 }

func (s *sequence) full() bool { return s.last-s.settled >= maxWindow }

func (s *sequence) done(seq uint64) {
	if seq != s.settled+1 {
		if seq > s.settled {
			if s.ahead == nil {
				s.ahead = make(map[uint64]struct{})
			}
			s.ahead[seq] = struct{}{}
		}
		return
	}
	s.settled++
	for len(s.ahead) > 0 {
		if _, ok := s.ahead[s.settled+1]; !ok {
			return
		}
		s.settled++
		delete(s.ahead, s.settled)
	}
}
