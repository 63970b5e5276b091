package client

import "time"

// patience is for how long at the least a call that was sent waits for nothing but its
// answer. That is cheaper than to wait for the end of its context, too. Then it is
// nudged, and minds its context: so that is noticed twice patience late at the most.
const patience = 5 * time.Millisecond

// nudges wake those who wait for long. Calls count from the connection's first one on.
type nudges struct {
	timer *time.Timer // nil before the first call
	runs  bool
	until uint64 // calls that are to be nudged next
	done  uint64 // calls that were nudged, or answered before that
}

// nudgeLaterLocked sees to it that the calls in flight are nudged in time.
func (c *Client) nudgeLaterLocked(cn *conn) {
	switch n := &cn.nudges; {
	case n.runs:
	case n.timer == nil:
		n.runs = true
		n.timer = time.AfterFunc(patience, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			n.runs = false
			if cn.nudgeLocked() {
				c.nudgeLaterLocked(cn)
			}
		})
	default:
		n.runs = true
		n.timer.Reset(patience)
	}
}

// nudgeLocked nudges the calls that were in flight already when it ran before, once
// each, and reports whether there are younger ones.
func (cn *conn) nudgeLocked() (younger bool) {
	n := &cn.nudges
	for at := max(n.done, cn.answers); at < n.until; at++ {
		cn.inflight.at(int(at - cn.answers)).wake()
	}
	n.done, n.until = max(n.until, cn.answers), cn.answers+uint64(cn.inflight.len())
	return n.until > n.done
}

// nobodyToNudgeLocked is for a connection that is lost: its calls wait elsewhere.
func (cn *conn) nobodyToNudgeLocked() { cn.nudges.until = 0 }
