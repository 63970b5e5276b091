package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

const (
	stagger     = 150 * time.Millisecond // before the next server is tried beside a silent one
	maxServers  = 16                     // tried in one round, redirects included
	complain    = 30 * time.Second       // between two log lines about the same outage
	stableAfter = time.Second            // a connection that lived so long was a good one
)

// run keeps a connection until Close. It is the goroutine that reads, too, so
// there is never more than one connection generation.
func (c *Client) run() {
	var failures int
	var logged time.Time
	for c.ctx.Err() == nil {
		cn, tried := c.round()
		if cn == nil {
			c.noServer(tried)
			if c.ctx.Err() == nil && time.Since(logged) > complain {
				logged = time.Now()
				c.log.Warn("no terracotta server can be used yet; trying again until one can", "tried", attemptText(tried))
			}
			c.pause(failures)
			failures++
			continue
		}
		logged = time.Time{}
		began := time.Now()
		err := c.serve(cn)
		if c.ctx.Err() == nil && !errors.Is(err, errRetired) {
			c.log.Warn("connection to terracotta lost; connecting again", "server", cn.host, "error", err)
		}
		if failures++; time.Since(began) >= stableAfter {
			failures = 0
		}
		if failures > 0 {
			c.pause(failures)
		}
	}
}

// pause waits between two rounds, or until Close.
func (c *Client) pause(failures int) {
	t := time.NewTimer(backoff(failures))
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
	}
}

func attemptText(list []Attempt) string {
	var b strings.Builder
	for i, a := range list {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(a.Server + ": " + a.Err.Error())
	}
	return b.String()
}

// noServer remembers why a round failed, for the errors of calls that give up.
// Where a server said what waiting cannot change, nobody waits.
func (c *Client) noServer(tried []Attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts = tried
	for _, a := range tried {
		var e *wire.Error
		var p *resp.ProtocolError
		if errors.As(a.Err, &e) && final(e.Word) || errors.As(a.Err, &p) {
			for _, k := range append(c.backlog, c.resting...) {
				u := k.unsure
				c.failLocked(k, &UnavailableError{Command: string(k.args[0]), Servers: tried, Unsure: u})
			}
			c.backlog, c.resting = nil, nil
			return
		}
	}
}

// final reports refusals of a handshake that no waiting mends.
func final(w wire.Word) bool {
	switch w {
	case wire.ErrNoAuth, wire.ErrWrongPass, wire.ErrBadRequest, wire.ErrGeneric:
		return true
	}
	return false
}

// dialed is what became of one dialling: a connection on which HELLO was
// answered, or the reason why there is none.
type dialed struct {
	host string
	cn   *conn
	err  error
}

// round tries each server until one takes us. Names are resolved anew by each
// dialling. A silent server holds up the others only for a moment; the
// node joins one after the other, so that no two servers think that it joined them.
func (c *Client) round() (*conn, []Attempt) {
	ctx, cancel := context.WithCancel(c.ctx)
	hosts := c.hosts()
	results := make(chan dialed, maxServers)
	pending, next := 0, 0
	defer func() {
		cancel()
		if pending > 0 {
			c.wg.Go(func() { // from run, which Close awaits: the counter is not zero
				for range pending {
					if d := <-results; d.cn != nil {
						d.cn.close()
					}
				}
			})
		}
	}()
	dial := func() {
		host := hosts[next]
		next++
		pending++
		go func() { // ends with ctx at the latest; its result is always taken
			cn, err := c.dial(ctx, host)
			results <- dialed{host, cn, err}
		}()
	}
	var tried []Attempt
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	dial()
	for pending > 0 {
		select {
		case <-timer.C:
			if next < len(hosts) {
				dial()
				timer.Reset(stagger)
			}
			continue
		case d := <-results:
			pending--
			err := d.err
			if err == nil {
				if err = c.join(d.cn); err == nil {
					return d.cn, nil
				}
				d.cn.close()
			}
			tried = append(tried, Attempt{d.host, err})
			var e *wire.Error
			if errors.As(err, &e) && e.Word == wire.ErrNotActive {
				hosts = redirected(hosts, next, activeIn(e.Text))
			}
		}
		if next < len(hosts) {
			dial()
			timer.Reset(stagger)
		}
	}
	return nil, tried
}

// hosts returns the servers in the order to try them.
func (c *Client) hosts() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.Clone(c.o.Hosts)
	list = list[:min(len(list), maxServers)]
	if c.redirect != "" {
		list = redirected(list, 0, c.redirect)
		c.redirect = ""
	}
	return list
}

// redirected makes active the next one to try, unless it was tried in this round
// already: two servers may each believe the other one active.
func redirected(hosts []string, next int, active string) []string {
	if active == "" || slices.Contains(hosts[:next], active) {
		return hosts
	}
	if i := slices.Index(hosts, active); i >= 0 {
		hosts = slices.Delete(hosts, i, i+1)
	} else if len(hosts) == maxServers {
		return hosts
	}
	return slices.Insert(hosts, next, active)
}

// activeIn finds the host:port that the text of a NOTACTIVE names, "" where it
// names none.
func activeIn(text string) string {
	for _, w := range strings.Fields(text) {
		w = strings.TrimRight(w, ".,;")
		host, port, err := net.SplitHostPort(w)
		if _, bad := strconv.ParseUint(port, 10, 16); err == nil && bad == nil && host != "" {
			return w
		}
	}
	return ""
}

// dial connects and says HELLO. ctx ends with the round, but a connection that
// was made stays until it is closed or the client is.
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
	if _, err := cn.ask(args...); err != nil {
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
	if c.o.Node {
		c.wg.Go(func() { c.watch(cn, done) })
	}
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
			back = append(back, k)
		}
	}
	c.backlog = append(back, c.backlog...)
	cn.out, cn.spare = nil, nil
}
