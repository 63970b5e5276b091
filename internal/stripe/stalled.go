package stripe

import (
	"fmt"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// A disk that hangs, as one on a network may, neither takes a write nor refuses it. Who waits for it
// is told that nobody knows what becomes of the change, and who comes later is refused. Raft's leader
// waits for its disk with everything but its heartbeats: nobody else would ever be elected, and where
// another one was, it would not find out. So it withdraws, unless it is needed.

// stallTicks is how many looks at one second each find the same write under way
// until changes are refused: fewer than the ten seconds that applications wait by default.
// Looks are counted, as the time between two may be one in which this process slept.
const stallTicks = 5

const stallInterval = time.Second

// stallWatcher refuses changes while the disk hangs, or has another server become active. It
// asks the disk nothing.
func (s *Stripe) stallWatcher(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	seen, looks := uint64(0), 0
	var silent time.Duration // of a pair's server
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if now := s.journal.Writing(); now == 0 || now != seen {
			seen, looks = now, 0
		} else {
			looks++
		}
		switch hangs := s.stalled.Load() != nil; {
		case looks >= stallTicks && !hangs:
			e := &wire.Error{Word: wire.ErrReadOnly, Text: fmt.Sprintf("data root %q: the disk does not answer: a write has been under way for more than %v", s.cfg.Dir, stallTicks*interval)}
			s.stalled.Store(e)
			s.log.Error("the disk hangs: this server takes no changes until it answers", "error", e.Text)
			s.changed()
		case looks == 0 && (hangs || s.withdrawn.Load()):
			s.stalled.Store(nil)
			s.withdrawn.Store(false)
			s.log.Info("the disk answers again")
			s.changed()
			s.becomeActive() // where nobody was elected
		case s.pair == nil || !s.withdrawn.Load():
			silent = 0
		case silent >= 3*s.cfg.Timers.Alone:
			// The partner has gone on, which it will say; or it slept, and must hear that it is counted in.
			s.withdrawn.Store(false)
		default:
			silent += interval
		}
		if s.stalled.Load() == nil {
			continue
		}
		select {
		case s.hangs <- struct{}{}:
		default:
		}
		if e := s.refusal(); e != nil {
			s.abandon(e)
			for _, b := range s.queue.clear() { // none of it is made
				b.answer(nil, e)
			}
		}
	}
}

// abandon answers the batch that met the disk: it may be made once that answers. Whoever
// waited on would hold up all that its connection asked for behind it.
func (s *Stripe) abandon(why *wire.Error) {
	f := s.fsm.flight.Load()
	if f == nil || !s.queue.taken(f) || !s.fsm.flight.CompareAndSwap(f, nil) {
		return
	}
	f.answer(nil, &wire.Error{Word: wire.ErrUnsure, Text: why.Text})
	s.queue.ended(f)
}

// withdraw makes the others go on without this server, and reports whether they will: it ceases to be active
// and says nothing more. Where it is needed for a majority it stays: reads go on then. A pair's server
// falls silent, the passive one too, once the other has said that it would go on: that one then
// does what it does where this one slept.
func (s *Stripe) withdraw() bool {
	switch {
	case s.stalled.Load() == nil, s.group == nil, s.withdrawn.Load(),
		s.pair != nil && !s.pair.replaces(), s.pair == nil && s.contact.needed(s.suspendedAfter()):
		return false
	}
	s.log.Warn("the disk hangs: this server falls silent, so that the others go on without it")
	s.withdrawn.Store(true)
	return true
}
