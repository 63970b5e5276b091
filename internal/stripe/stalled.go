package stripe

import (
	"fmt"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// A disk that hangs, as one on a network may, neither takes a write nor refuses it, and who
// waits for it can't be told anything. Whoever comes later can. Raft's leader waits for its disk
// with everything but its heartbeats, so that nobody else would ever be elected: where the others can
// elect one, it withdraws.

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
		}
		if s.stalled.Load() == nil {
			continue
		}
		select {
		case s.hangs <- struct{}{}:
		default:
		}
		if e := s.refusal(); e != nil {
			for _, b := range s.queue.clear() { // none of it is made
				b.answer(nil, e)
			}
		}
	}
}

// withdraw makes the others elect another server, if they can, and reports whether they will. A pair has
// nobody to elect: there its two servers agree on who goes on.
func (s *Stripe) withdraw() bool {
	if s.stalled.Load() == nil || s.group == nil || s.pair != nil || !s.contact.spares(s.cfg.Timers.Heartbeat) {
		return false
	}
	s.log.Warn("the disk hangs: another server is to become active")
	s.withdrawn.Store(true)
	return true
}
