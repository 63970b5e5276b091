package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

const stableAfter = time.Second // a connection that lived so long was a good one

// run keeps a connection until Close. It is the goroutine that reads, too, so
// there is never more than one connection generation.
func (c *Client) run() {
	for {
		cn := c.search()
		if cn == nil {
			return
		}
		began := time.Now()
		err := c.serve(cn)
		if c.ctx.Err() == nil && !errors.Is(err, errRetired) {
			c.log.Warn("connection to terracotta lost; connecting again", "server", cn.host, "error", err)
		}
		c.rests.left(cn.host, time.Now(), time.Since(began) >= stableAfter, errors.Is(err, errRetired))
	}
}

// dial connects and says HELLO. ctx bounds both, but a connection that was made
// stays until it is closed or the client is.
func (c *Client) dial(ctx context.Context, host string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.DialTimeout)
	defer cancel()
	nc, err := c.o.Dial(ctx, "tcp", host)
	if err != nil {
		var op *net.OpError // its text repeats the address, which Attempt names already
		if errors.As(err, &op) && op.Addr != nil && op.Addr.String() == host {
			err = op.Err
		}
		return nil, err
	}
	cn := newConn(host, nc)
	cn.unwatch = context.AfterFunc(c.ctx, func() { nc.Close() })
	args := [][]byte{[]byte("HELLO"), []byte("3")}
	if c.o.Password != "" {
		args = append(args, []byte("AUTH"), []byte("default"), []byte(c.o.Password))
	}
	nc.SetDeadline(time.Now().Add(c.o.DialTimeout))
	unwatch := context.AfterFunc(ctx, func() { nc.Close() })
	_, err = cn.ask(args...)
	if !unwatch() { // whatever was said, nc is closed
		err = fmt.Errorf("answer to HELLO: %w", context.Cause(ctx))
	}
	if err != nil {
		cn.close()
		return nil, err
	}
	return cn, nil
}

func (cn *conn) close() {
	cn.unwatch()
	cn.nc.Close()
}

// ask sends one command of the handshake and awaits its answer.
func (cn *conn) ask(args ...[]byte) ([][]byte, error) {
	if _, err := cn.nc.Write(resp.AppendCommand(nil, args...)); err != nil {
		return nil, err
	}
	for {
		reply, err := cn.r.ReadReply()
		if err == io.EOF {
			err = errHungUp
		}
		if err != nil {
			return nil, fmt.Errorf("answer to %s: %w", args[0], err)
		}
		if reply.Type != '>' {
			return flat(reply)
		}
	}
}

// join makes the connection the node's newest one, and readies it for use.
func (c *Client) join(cn *conn) error {
	defer cn.nc.SetDeadline(time.Time{})
	if !c.o.Node {
		return nil
	}
	cn.nc.SetDeadline(time.Now().Add(c.o.DialTimeout))
	for tries := 0; ; tries++ {
		c.mu.Lock()
		j := wire.Join{Node: c.node, Generation: c.generation + 1, Low: c.seqs.low(), Label: []byte(c.o.Label)}
		c.mu.Unlock()
		answer, err := cn.ask(j.AppendArgs(nil)...)
		var e *wire.Error
		refused := errors.As(err, &e)
		c.mu.Lock()
		if !refused || e.Word != wire.ErrUnconfigured && e.Word != wire.ErrNotActive {
			c.generation = j.Generation // it may have been taken
		}
		if refused && e.Word == wire.ErrNodeGone {
			c.newNodeLocked()
		}
		c.mu.Unlock()
		if refused && e.Word == wire.ErrNodeGone && tries == 0 {
			c.log.Warn("the terracotta cluster has given this node up; it joins as a new one", "server", cn.host, "node", c.Node())
			continue
		}
		if err != nil {
			return err
		}
		joined, err := wire.ParseJoined(answer)
		if err != nil {
			return err
		}
		c.mu.Lock()
		if joined.MaxValue > 0 {
			c.maxValue = joined.MaxValue
		}
		c.mu.Unlock()
		c.log.Info("joined terracotta cluster", "server", cn.host, "name", joined.ServerName, "cluster", joined.ClusterName,
			"node", j.Node, "generation", j.Generation)
		return nil
	}
}

// serve uses the connection until it breaks: first all that waits, in order.
func (c *Client) serve(cn *conn) error {
	done := make(chan struct{})
	defer close(done)
	c.wg.Go(func() { c.watch(cn, done) })
	c.mu.Lock()
	c.cn = cn
	c.attempts = nil
	list := inOrder(c.backlog, c.resting)
	c.backlog, c.resting = nil, nil
	var flush *conn
	for _, k := range list {
		if f := c.submitLocked(k); f != nil {
			flush = f
		}
	}
	c.mu.Unlock()
	if flush != nil {
		c.flush(flush, nil)
	}
	err := c.read(cn)
	if err == io.EOF {
		err = errHungUp
	}
	c.lost(cn, err)
	return err
}

// inOrder puts numbered changes first, in the order of their numbers, and
// leaves all others as they came: nothing new may overtake a repeat.
func inOrder(backlog, resting []*call) []*call {
	list := append(backlog, resting...)
	rank := func(k *call) uint64 {
		if k.seq == 0 {
			return 1<<64 - 1
		}
		return k.seq
	}
	slices.SortStableFunc(list, func(a, b *call) int {
		switch x, y := rank(a), rank(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return list
}

// lost takes back what the connection did not answer.
func (c *Client) lost(cn *conn, err error) {
	cn.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cn == cn {
		c.cn = nil
		c.attempts = []Attempt{{cn.host, err}}
	}
	var back []*call
	for k := cn.inflight.pop(); k != nil; k = cn.inflight.pop() {
		switch {
		case k.state.Load() == abandoned:
			c.ackLocked(k)
		case k.kind == once:
			c.failLocked(k, &UnavailableError{Command: string(k.args[0]), Servers: []Attempt{{cn.host, err}}, Unsure: true})
		default:
			k.unsure = k.kind == change
			k.state.Store(queued)
			k.wake() // from now on it minds its context
			back = append(back, k)
		}
	}
	c.backlog = append(back, c.backlog...)
	cn.out, cn.spare = nil, nil
	cn.nobodyToNudgeLocked()
}
