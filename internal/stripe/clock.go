package stripe

import (
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
)

// steering is the share of elapsed time by which the wall clock may speed up or
// slow down log time: one hundredth.
const steering = 100

// logClock makes log time. While this server is active, log time follows the
// monotonic clock, steered towards the wall clock by at most one part in
// steering, so that a wall clock that jumps neither freezes nor expires
// anything. Only when a stripe starts from cold is the wall clock taken whole,
// and only forward: time has passed while nobody counted it.
//
// It is safe for concurrent use.
type logClock struct {
	mono func() time.Duration // monotonic, from any origin
	wall func() time.Time

	mu      sync.Mutex
	running bool
	now     time.Duration // log time, in full resolution
	seen    time.Duration // mono at the last look

	// How far log time was ahead of mono when the last entries were applied, at
	// least: the greatest since the last turn, and between the two before.
	ahead, aheadBefore time.Duration
	turn               time.Duration // mono; 0 = no entry was applied
}

// followTurn bounds how long an entry's word counts: the active's clock may run
// slower than this server's.
const followTurn = 10 * time.Second

func newLogClock() *logClock {
	start := time.Now()
	return &logClock{mono: func() time.Duration { return time.Since(start) }, wall: time.Now}
}

// start begins or goes on to count. last is the log time of the last entry
// applied. With cold, nobody has counted since: the wall clock is taken whole
// if it is ahead.
func (c *logClock) start(last store.Time, cold bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		c.advanceLocked()
	} else {
		c.seen = c.mono()
	}
	c.now = max(c.now, time.Duration(last)*time.Millisecond)
	if !cold && c.turn > 0 {
		c.now = max(c.now, c.mono()+max(c.ahead, c.aheadBefore))
	}
	if cold {
		c.now = max(c.now, time.Duration(c.wall().UnixNano()))
	}
	c.running = true
}

// follow notes the log time of an entry that was applied now. Time has gone on
// since it was stamped, and goes on until the next: so an entry that is applied
// late says less than an earlier one that was applied at once.
func (c *logClock) follow(t store.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.mono()
	ahead := time.Duration(t)*time.Millisecond - m
	switch {
	case c.turn == 0:
		c.ahead, c.aheadBefore, c.turn = ahead, ahead, max(m, 1)
	case m-c.turn > followTurn:
		c.ahead, c.aheadBefore, c.turn = ahead, c.ahead, m
	default:
		c.ahead = max(c.ahead, ahead)
	}
}

// counted returns log time as far as this server has counted it: its own, and what
// entries told; 0 where it never has.
func (c *logClock) counted() store.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		c.advanceLocked()
	}
	now := c.now
	if c.turn > 0 {
		now = max(now, c.mono()+max(c.ahead, c.aheadBefore))
	}
	return store.Time(now / time.Millisecond)
}

// pause stops counting: another server does now.
func (c *logClock) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		c.advanceLocked()
	}
	c.running = false
}

// read returns log time at this moment; 0 before start. It looks at the wall clock
// once a millisecond: between, log time is what it will be at least.
func (c *logClock) read() store.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running {
		return 0
	}
	if passed := c.mono() - c.seen; passed < time.Millisecond {
		return store.Time((c.now + max(0, passed-passed/steering)) / time.Millisecond)
	}
	c.advanceLocked()
	return store.Time(c.now / time.Millisecond)
}

func (c *logClock) advanceLocked() {
	m := c.mono()
	passed := m - c.seen
	if passed <= 0 {
		return
	}
	c.seen = m
	ahead := time.Duration(c.wall().UnixNano()) - (c.now + passed)
	bound := passed / steering
	c.now += passed + min(max(ahead, -bound), bound)
}

// sinceStart is a monotonic clock that is never 0.
func sinceStart() func() time.Duration {
	start := time.Now().Add(-time.Hour)
	return func() time.Duration { return time.Since(start) }
}
