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
}

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
	if cold {
		c.now = max(c.now, time.Duration(c.wall().UnixNano()))
	}
	c.running = true
}

// read returns log time at this moment; 0 before start.
func (c *logClock) read() store.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running {
		return 0
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
