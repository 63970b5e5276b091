package client

import (
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// leaveWait bounds how long Close waits for the answer to TC.LEAVE.
const leaveWait = 250 * time.Millisecond

// leave tells the cluster that this node will not come back, so that it is not
// counted among the joined ones for its reconnect window. It is for a Client that
// is closed and sends nothing more. Where anything is unanswered, nothing is said:
// the cluster then keeps the node's numbers for a while, as for one that crashed.
func (c *Client) leave() {
	c.mu.Lock()
	cn := c.cn
	if !c.o.Node || cn == nil || cn.inflight.len()+len(c.backlog)+len(c.resting) > 0 || c.seqs.low() <= c.seqs.last {
		c.mu.Unlock()
		return
	}
	k := c.newCall(once)
	k.args = (&wire.Leave{Node: c.node}).AppendArgs(k.args)
	mine := c.sendLocked(cn, k)
	c.mu.Unlock()
	if mine != nil {
		c.flush(mine, k)
	}
	limit := time.NewTimer(leaveWait)
	defer limit.Stop()
	for over := false; !over; {
		select {
		case <-k.done: // whatever was said: there is nothing else to do
			over = k.state.Load() != sent // else it was a nudge
		case <-limit.C:
			over = true
		}
	}
}
