package client

import (
	"context"
	"errors"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// A node's connection on which nothing has come for pingAfter is asked for a
// sign of life; one that owes an answer for stallAfter is given up, so that a
// server that vanished without a word is noticed. retireAfter is for a connection
// that only waits for its last answers. Where there are other servers to try,
// Options.StallTimeout makes all of it quicker.
const (
	pingAfter   = 5 * time.Second
	stallAfter  = 10 * time.Second
	retireAfter = time.Second
	watchEvery  = time.Second
)

// watch is what watches over one connection. Silence is counted in ticks, so that a
// machine that was suspended does not take its own sleep for the server's.
type watch struct {
	c      *Client
	cn     *conn
	others bool // there are other servers to try
	every  time.Duration
	ping   time.Duration
	retire time.Duration

	heard uint64
	idle  time.Duration // nothing was heard
	owed  time.Duration // nothing was heard and an answer was owed

	probe  chan error    // of the probe under way; nil while none is
	probed time.Duration // owed at the last probe; 0 = none since the server was heard
}

// watch gives a silent connection up. It ends with done.
//
// A slow command holds up the answers behind it, so silence alone does not tell that
// a server is gone. Where others could be tried instead it is asked on a second
// connection: one that is paused, cut off or dead does not answer there either.
func (c *Client) watch(cn *conn, done <-chan struct{}) {
	w := &watch{c: c, cn: cn, others: len(c.o.Hosts) > 1,
		every: watchEvery, ping: pingAfter, retire: retireAfter, heard: cn.heard.Load()}
	if stall := c.o.StallTimeout; w.others {
		w.every, w.ping, w.retire = min(watchEvery, max(stall/8, time.Millisecond)), min(pingAfter, stall), min(retireAfter, stall/4)
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-done:
			return
		case err = <-w.probe:
			w.probe = nil
			if cn.heard.Load() != w.heard {
				err = nil // only slow
			}
		case <-tick.C:
			err = w.look(ctx)
		}
		if err != nil {
			c.log.Warn("terracotta server has stopped answering", "server", cn.host, "silent", w.idle, "reason", err)
			cn.nc.Close() // the reading goroutine finds out and cleans up
			return
		}
	}
}

var errSilent = errors.New("it owes answers and says nothing")

// look is called once in w.every, and returns why the connection is to be given up.
func (w *watch) look(ctx context.Context) error {
	c, cn := w.c, w.cn
	c.mu.Lock()
	owes, retired := cn.inflight.len() > 0, cn.retired
	switch heard := cn.heard.Load(); {
	case heard != w.heard:
		w.heard, w.idle, w.owed, w.probed = heard, 0, 0, 0
	case owes:
		w.idle, w.owed = w.idle+w.every, w.owed+w.every
	default:
		w.idle, w.owed, w.probed = w.idle+w.every, 0, 0
	}
	var flush *conn
	if c.o.Node && !owes && !retired && w.idle >= w.ping && c.cn == cn {
		k := c.newCall(repeatable) // nobody waits for the answer
		k.args = append(k.args, []byte("PING"))
		flush = c.sendLocked(cn, k)
		k.state.Store(abandoned)
	}
	c.mu.Unlock()
	if flush != nil {
		c.flush(flush, nil)
	}
	switch patience := c.o.StallTimeout / 2; {
	case w.owed >= stallAfter && c.o.Node, w.owed >= w.retire && retired:
		return errSilent
	case w.others && w.probe == nil && w.owed-w.probed >= patience:
		w.probed = w.owed
		w.probe = make(chan error, 1)
		result := w.probe
		c.wg.Go(func() { result <- c.probe(ctx, cn.host, patience) }) // from watch, which Close awaits
	}
	return nil
}

// probe asks a server on a new connection whether it lives.
func (c *Client) probe(ctx context.Context, host string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cn, err := c.dial(ctx, host)
	if err == nil {
		cn.close()
		return nil
	}
	if e := (*wire.Error)(nil); errors.As(err, &e) {
		return nil // a refusal is a sign of life
	}
	return err
}
