package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// kind says what may be done with a command whose fate is unknown.
type kind byte

const (
	once       kind = iota // never send it again
	repeatable             // send it again: it changes nothing, or nothing more
	asNode                 // repeatable, and names this node
	change                 // a Write: send it again with the same number
)

// Where the commands that name a node have what is filled in when they are sent.
const (
	argNode = 3
	argSeq  = 4
	argLow  = 5
)

// The states of a call. Only its caller leaves answered and abandoned behind.
const (
	queued    int32 = iota // in Client.backlog
	sent                   // in conn.inflight
	resting                // in Client.resting: refused, may be sent again
	answered               // parts, null and err are set and belong to the caller
	abandoned              // the caller has gone; in backlog or inflight until that is noticed
)

// call is one command on its way. Its fields are guarded by Client.mu until state
// is answered. A call keeps no hold of its caller's memory once the caller has gone.
type call struct {
	kind    kind
	state   atomic.Int32
	args    [][]byte
	size    int
	seq     uint64      // 0 = not numbered yet
	low     uint64      // as last sent
	node    wire.NodeID // whose number seq is
	unsure  bool        // sent once on a connection that broke before the answer
	conn    *conn       // it was last sent on
	refusal *wire.Error // why it rests
	parts   [][]byte    // the answer
	null    bool        // the answer is null
	err     error
	numbers *wire.Write   // the caller's, to be filled in; nil = not wanted
	done    chan struct{} // cap 1; gets a value when state becomes answered or resting
	digits  [2][20]byte   // memory for seq and low
	token   [48]byte      // memory for the token of a commit: a usual one has less
}

// newCall returns an empty call. The pool is the Client's own, not the package's: a
// channel made in one testing/synctest bubble must not turn up in another.
func (c *Client) newCall(as kind) *call {
	k, _ := c.calls.Get().(*call)
	if k == nil {
		k = &call{done: make(chan struct{}, 1)}
	}
	k.kind = as
	return k
}

// free gives back a call that nobody else knows.
func (c *Client) free(k *call) {
	clear(k.args)
	clear(k.parts)
	select {
	case <-k.done:
	default:
	}
	k.state.Store(queued)
	k.args, k.size, k.seq, k.low, k.node, k.unsure = k.args[:0], 0, 0, 0, wire.NodeID{}, false
	k.conn, k.refusal, k.parts, k.null, k.err, k.numbers = nil, nil, k.parts[:0], false, nil, nil
	c.calls.Put(k)
}

// wake tells the caller that the state has changed for it.
func (k *call) wake() {
	select {
	case k.done <- struct{}{}:
	default:
	}
}

// measure counts the bytes of the command and refuses what no server would
// take: it would end the connection for everybody.
func (k *call) measure(maxValue int) error {
	k.size = 16
	for i, a := range k.args {
		if len(a) > maxValue {
			what := fmt.Sprintf("argument %d of %s", i, k.args[0])
			if k.kind == change { // nothing else of it is this large: its name stands before it
				what = fmt.Sprintf("the value of attribute %q", k.args[i-1][:min(len(k.args[i-1]), 64)])
			}
			return &wire.Error{Word: wire.ErrTooBig, Text: fmt.Sprintf("%s has %d bytes; at most %d are allowed", what, len(a), maxValue)}
		}
		k.size += len(a) + 16
	}
	if k.size > resp.DefaultMaxCommand || len(k.args) > resp.DefaultMaxArgs {
		return &wire.Error{Word: wire.ErrTooBig, Text: fmt.Sprintf("%s has %d arguments and %d bytes; at most %d and %d are allowed",
			k.args[0], len(k.args), k.size, resp.DefaultMaxArgs, resp.DefaultMaxCommand)}
	}
	return nil
}

// call sends k, waits for its answer, shows it to use, and frees k. The list that
// use gets is nil for null and belongs to k; the bytes in it belong to the caller.
func (c *Client) call(ctx context.Context, k *call, use func(answer [][]byte) error) error {
	if err := c.await(ctx, k); err != nil {
		return err
	}
	if k.numbers != nil {
		k.numbers.Node, k.numbers.Seq, k.numbers.Low = k.node, k.seq, k.low
	}
	err := k.err
	switch {
	case err != nil || use == nil:
	case k.null:
		err = use(nil)
	default:
		err = use(k.parts)
	}
	c.free(k)
	return err
}

// await sends k until it is answered, or returns an error and has left k to itself.
func (c *Client) await(ctx context.Context, k *call) error {
	if ctx.Err() != nil { // nothing is sent that nobody waits for
		return &UnavailableError{Command: string(k.args[0]), Cause: context.Cause(ctx)}
	}
	c.mu.Lock()
	if err := k.measure(c.maxValue); err != nil {
		c.mu.Unlock()
		return err
	}
	if !c.room.takeLocked(k.size, k.kind == change && c.seqs.full()) {
		if err := c.waitForRoom(ctx, k); err != nil { // gives c.mu back
			return err
		}
		c.mu.Lock()
	}
	cn := c.submitLocked(k)
	c.mu.Unlock()
	if cn != nil && c.flush(cn, k) && c.look(cn, k) {
		return nil
	}
	if at := k.state.Load(); at == sent || at == answered {
		<-k.done // or a nudge
	}
	var pause <-chan time.Time // until the next try
	for tries := 0; ; {
		switch k.state.Load() {
		case answered:
			return nil
		case resting:
			if pause == nil {
				pause = time.After(backoff(tries))
				tries++
			}
		}
		over, err := c.wait(ctx, k, pause)
		if err != nil {
			return err
		}
		if over {
			pause = nil
		}
	}
}

// wait waits until something has happened to k, or the pause is over: then k is sent
// again. Where ctx ends first it returns an error and has left k to itself.
func (c *Client) wait(ctx context.Context, k *call, pause <-chan time.Time) (over bool, err error) {
	select {
	case <-k.done:
		return false, nil
	case <-pause:
		c.resubmit(k)
		return true, nil
	case <-ctx.Done():
		return false, c.abandon(ctx, k)
	}
}

// backoff is the pause before the next try: half of it is chance, so that many
// who were refused together don't come back together.
func backoff(tries int) time.Duration {
	d := min(5*time.Millisecond<<min(tries, 10), 500*time.Millisecond)
	return d/2 + rand.N(d/2)
}

// submitLocked sends k or queues it, and returns the connection that the caller must flush.
func (c *Client) submitLocked(k *call) *conn {
	switch {
	case c.closed:
		c.failLocked(k, ErrClosed)
	case k.unsure && k.kind == change && k.node != c.node:
		// The number is worth nothing under a new node id: a repeat could double the change.
		c.failLocked(k, errNewNode)
	case c.cn == nil:
		k.state.Store(queued)
		c.backlog = append(c.backlog, k)
	default:
		return c.sendLocked(c.cn, k)
	}
	return nil
}

// sendLocked numbers k and appends it to cn, which it returns where the caller must flush it.
func (c *Client) sendLocked(cn *conn, k *call) *conn {
	switch k.kind {
	case change:
		if k.seq == 0 || k.node != c.node {
			k.seq, k.node = c.seqs.take(), c.node
		}
		k.low = c.seqs.low()
		k.args[argSeq] = strconv.AppendUint(k.digits[0][:0], k.seq, 10)
		k.args[argLow] = strconv.AppendUint(k.digits[1][:0], k.low, 10)
		k.args[argNode] = c.nodeText
	case asNode:
		k.node = c.node
		k.args[argNode] = c.nodeText
	}
	cn.out = resp.AppendCommand(cn.out, k.args...)
	cn.gathered++
	cn.inflight.push(k)
	k.conn = cn
	k.state.Store(sent)
	c.nudgeLaterLocked(cn)
	if cn.flushing {
		return nil
	}
	cn.flushing = true
	return cn
}

// resubmit sends k again if it still rests: a reconnect may have done so.
func (c *Client) resubmit(k *call) {
	c.mu.Lock()
	var cn *conn
	if i := slices.Index(c.resting, k); i >= 0 {
		c.resting = slices.Delete(c.resting, i, i+1)
		cn = c.submitLocked(k)
	}
	c.mu.Unlock()
	if cn != nil {
		c.flush(cn, nil)
	}
}

// abandon leaves k to itself, or returns nil where its answer has come meanwhile.
// A change that was sent stays where it is until the connection answers or
// breaks; it is not repeated. All others go at once, and their number with them.
func (c *Client) abandon(ctx context.Context, k *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &UnavailableError{Command: string(k.args[0]), Cause: context.Cause(ctx), Unsure: k.unsure}
	switch k.state.Load() {
	case answered:
		return nil
	case sent:
		e.Servers = []Attempt{{k.conn.host, errNoAnswer}}
		if k.refusal != nil {
			e.Servers[0].Err = fmt.Errorf("%w; sent again, %w", k.refusal, errNoAnswer)
		}
		e.Unsure = k.kind == change || k.kind == once
	case resting:
		e.Servers = []Attempt{{k.conn.host, k.refusal}}
		c.resting = slices.DeleteFunc(c.resting, func(r *call) bool { return r == k })
		c.ackLocked(k)
	case queued:
		e.Servers = c.attemptsLocked()
		c.backlog = slices.DeleteFunc(c.backlog, func(r *call) bool { return r == k })
		c.ackLocked(k)
	}
	if k.kind != change && k.kind != once {
		e.Unsure = false
	}
	k.args = nil
	k.state.Store(abandoned)
	return e
}

// attemptsLocked tells why there is no connection.
func (c *Client) attemptsLocked() []Attempt {
	if len(c.attempts) > 0 {
		return c.attempts
	}
	list := make([]Attempt, len(c.o.Hosts)) // none was tried yet
	for i, h := range c.o.Hosts {
		list[i] = Attempt{h, errConnecting}
	}
	return list
}

// ackLocked settles that k is over: its number, and the room that it took.
func (c *Client) ackLocked(k *call) {
	if k.seq != 0 && k.node == c.node {
		c.seqs.done(k.seq)
	}
	c.room.giveLocked(k.size, c.seqs.full())
	k.size = 0
}
