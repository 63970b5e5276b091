package stripe

import (
	"sync/atomic"
	"time"
)

// A snapshot holds the older forms of what changes until it has written them, and those have
// a bound (store.HeldLimit). At half of it the snapshot is written without pauses; at the bound
// changes wait until it got on. A snapshot that does not get on is given up.
const (
	roomLook     = time.Millisecond
	roomPatience = 2 * time.Second // for which one that stands still is waited for
	roomLeast    = 8 << 20         // bytes that it gets on by in that time
)

// room is what is known of changes that wait for snapshots.
type room struct {
	waited atomic.Int64 // nanoseconds, in all
	given  atomic.Int64 // snapshots that were given up

	// Of the goroutine that applies: when it last waited, and when it last looked how far they are.
	last, looked time.Time
}

// Held tells for how long changes have waited for snapshots that held as much memory as they
// may, and how many were given up because they did not get on.
func (s *Stripe) Held() (waited time.Duration, given int64) {
	return time.Duration(s.fsm.room.waited.Load()), s.fsm.room.given.Load()
}

// makeRoom waits until views hold less than they may. Those that stand still meanwhile are given up.
func (f *fsm) makeRoom() {
	r := &f.room
	began := time.Now()
	if began.Sub(r.last) > roomPatience/4 { // the looks before were for another wait
		f.m.GiveUp(0)
		r.looked = began
	}
	for f.m.Crowded() {
		if !rest(roomLook, f.stop) {
			break
		}
		if now := time.Now(); now.Sub(r.looked) > roomPatience {
			r.looked = now
			if n := f.m.GiveUp(roomLeast); n > 0 {
				r.given.Add(int64(n))
				f.log.Warn("a snapshot or backup was given up: it got on too slowly, and changes waited for the memory that it holds", "snapshots", n)
			}
		}
	}
	r.last = time.Now()
	r.waited.Add(int64(r.last.Sub(began)))
}
