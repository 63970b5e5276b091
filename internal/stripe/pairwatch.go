package stripe

import (
	"errors"
	"syscall"
	"time"
)

// pairTimes are the times of a pair in availability mode.
type pairTimes struct {
	lease time.Duration // raft's lease of the active server
	alone time.Duration // without a sign of the partner for so long a server goes on alone
}

// The default times of a pair. A passive is removed after a part of the lease, and
// a busy machine must not look like one that is gone.
const (
	defaultPairHeartbeat = 600 * time.Millisecond
	defaultPairAlone     = time.Second

	// Below it a busy machine looks like one that is gone, whatever was set.
	minPairLease = 250 * time.Millisecond
)

// pairDefaults fills in what is not set, and raises what is too short. The lease is shorter than the heartbeat
// time-out, so that this one can be shortened: see pair.hurry.
func (t *Timers) pairDefaults() {
	if t.Heartbeat == 0 {
		t.Heartbeat = defaultPairHeartbeat
	}
	if t.Lease == 0 {
		t.Lease = t.Heartbeat * 5 / 6
	}
	t.Lease = max(t.Lease, minPairLease)
	t.Heartbeat = max(t.Heartbeat, t.Lease*6/5)
	t.Election = max(t.Election, t.Heartbeat)
	if t.Alone == 0 {
		t.Alone = max(defaultPairAlone, 5*t.Heartbeat/3)
	}
}

func (t pairTimes) tick() time.Duration    { return t.lease / 20 }
func (t pairTimes) every() time.Duration   { return t.lease / 5 }      // between two questions to the partner
func (t pairTimes) answer() time.Duration  { return t.lease * 3 / 5 }  // how long one may take
func (t pairTimes) silence() time.Duration { return t.lease * 3 / 5 }  // of the passive, until it is removed
func (t pairTimes) stall() time.Duration   { return t.lease * 2 / 5 }  // of this server, within which it can't have been removed
func (t pairTimes) certain() time.Duration { return t.alone * 8 / 10 } // since the last sign: the partner is not alone yet

// watch is what a server remembers of how it and its partner were in touch. It
// tells a dead partner from a time in which this server itself slept, and may have
// been removed by a partner that went on.
type watch struct {
	times pairTimes

	heard   time.Duration // the last sign of the partner came
	assured time.Duration // the last question was sent that the partner answered with: we are together; 0: never in this run
	denied  bool          // the partner answered since that this server is not counted in: it may have gone on
	failed  time.Duration // the first question after it failed; 0: none
	awake   time.Duration // slept when the question before that of assured was sent
	next    time.Duration // slept when that of assured was sent
	fell    time.Duration // slept when the partner fell silent, as long as it is

	slept  time.Duration // how late this server's own ticks came ever, in sum
	ticked time.Duration
	wall   time.Time // at ticked
}

// tick is called as often as times.tick says. A wall clock that runs ahead of the
// monotonic one tells of a machine that was suspended.
func (w *watch) tick(now time.Duration, wall time.Time) {
	if w.ticked != 0 {
		gap := max(now-w.ticked, wall.Round(0).Sub(w.wall.Round(0)))
		over := max(0, gap-2*w.times.tick())
		w.slept += over
		if w.failed > w.ticked {
			w.fell += over // it slept before it asked in vain
		}
	}
	w.ticked, w.wall = now, wall
}

// answered notes that a question sent at that time, when so much was slept, was
// answered. Where the partner counts this server in, what was slept does not matter any
// more that came before the last two such questions: one is not enough, because the
// partner goes by heartbeats, and the first after a sleep may still be on its way.
func (w *watch) answered(sent, slept, now time.Duration, a accord) {
	w.heard, w.failed = now, 0
	switch a {
	case inAccord:
		if w.assured == 0 || w.denied {
			w.next = slept
		}
		w.assured, w.awake, w.next, w.denied = sent, w.next, slept, false
	case left:
		w.denied = true
	}
}

// accord is what an answer of the partner tells of whether the two are a pair.
type accord int

const (
	undecided accord = iota // neither: while there is no active one
	inAccord                // one of the two leads, and the other one has all that it acknowledged
	left                    // the partner goes on, or may do so, without this server
)

// lost notes that a question was not answered.
func (w *watch) lost(now time.Duration) {
	if w.failed == 0 {
		w.failed, w.fell = now, w.slept
	}
}

// late is how long this server slept between the last but one question that the partner
// answered with word that it counts it in, and the first one that it did not answer.
func (w *watch) late() time.Duration {
	if w.failed > 0 {
		return w.fell - w.awake
	}
	return w.slept - w.awake
}

// sure reports whether this server was together with its partner until it fell
// silent, and did not sleep meanwhile.
func (w *watch) sure() bool { return w.assured > 0 && !w.denied && w.late() < w.times.stall() }

// sureAt is sure between two ticks: the next may tell of a sleep.
func (w *watch) sureAt(now time.Duration) bool {
	next := *w
	next.tick(now, w.wall)
	return next.sure()
}

// alone reports whether the partner is silent for long enough.
func (w *watch) alone(now time.Duration) bool {
	return w.failed > 0 && now-w.heard >= w.times.alone
}

// isRefused reports whether nobody listens at an address: the process is dead.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
