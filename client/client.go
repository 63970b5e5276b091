// Package client talks to a Terracotta cluster: it parses terracotta:// URIs,
// finds the active server, pipelines the commands of many callers over one
// connection, reconnects, and repeats what is safe to repeat.
//
// Caveats first. A call waits for the cluster as long as its context allows, so
// give every call a deadline. A change whose context ends, or whose node the
// cluster gave up meanwhile, may or may not have been made: its error wraps
// ErrUnsure, and it is never made twice. There is one connection and answers come
// in order, so one slow command delays those behind it.
//
// The one idea: callers append their commands to one buffer; the first to append
// yields the processor once, where there are others, and then writes all that has gathered in one system
// call. One goroutine reads and hands out the answers; one who calls alone looks for its
// own first, for some microseconds. No timer is involved.
//
// It is standard library only, so that it costs its users no dependency.
//
//	u, err := client.ParseURI("terracotta://server-1,server-2/carts")
//	c, err := client.New(client.Options{Hosts: u.Hosts, Node: true})
//	defer c.Close()
//	err = c.Open(ctx, &wire.Open{Dataset: []byte(u.Dataset), LockMode: []byte("none")})
//	s, err := c.Load(ctx, &wire.Load{Dataset: []byte(u.Dataset), Key: key, Mode: wire.LoadRead})
package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Options is how a Client is made. Hosts is required.
type Options struct {
	Hosts       []string                                                          // host:port
	Password    string                                                            // shared secret, "" = none
	Node        bool                                                              // join the cluster as an application node, with a fresh node id
	Label       string                                                            // shown to operators; "" = the host name
	DialTimeout time.Duration                                                     // for one attempt, and for the handshake after it; 0 = 5 s
	Logger      *slog.Logger                                                      // nil = slog.Default()
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error) // nil = net.Dialer

	// StallTimeout is how long a server that owes answers may be silent, on its connection
	// and to a second one that asks whether it lives, before the next server is tried; 0 = 1 s.
	// It is for Hosts of several servers: where there is one, nobody else could answer.
	StallTimeout time.Duration

	// Push gets the messages that servers send unasked; nil = they are dropped. It
	// runs on the goroutine that reads, so it must not block nor call the Client.
	Push func(message [][]byte)
}

// Client is safe for concurrent use.
type Client struct {
	o     Options
	log   *slog.Logger
	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	rests rests          // of run
	calls sync.Pool      // of *call, those at rest
	wg    sync.WaitGroup // run, and the writers that outlive their callers

	mu       sync.Mutex // guards all below and the fields of conn and call that say so
	closed   bool
	cn       *conn   // in use; nil while there is none
	room     room    // bounds what waits
	backlog  []*call // waits for a connection, in order
	resting  []*call // refused for the moment; their callers wait to send them again
	maxValue int     // largest value that the server takes

	node       wire.NodeID
	nodeText   []byte
	generation uint64   // of the last connection that may have joined
	seqs       sequence // of the changes of node

	opened   map[string]wire.Open // dataset -> how it was opened, to open it again
	attempts []Attempt            // how the search for a server stands
	redirect string               // the active server that a NOTACTIVE named
}

// New returns a Client that connects in the background and at need. A cluster
// that is not there yet is no error: calls wait for it until their context ends.
func New(o Options) (*Client, error) {
	if len(o.Hosts) == 0 {
		return nil, errors.New("client: no hosts; give at least one host:port")
	}
	for _, h := range o.Hosts {
		if _, port, err := net.SplitHostPort(h); err != nil || port == "" {
			return nil, fmt.Errorf("client: host %q is not host:port", h)
		}
	}
	if o.Label == "" {
		o.Label, _ = os.Hostname()
	}
	o.Label = o.Label[:min(len(o.Label), wire.MaxLabel)]
	if o.DialTimeout <= 0 {
		o.DialTimeout = 5 * time.Second
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	c := &Client{o: o, log: o.Logger, maxValue: wire.DefaultMaxValue,
		room: room{maxBytes: maxBytes}, opened: make(map[string]wire.Open)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.newNodeLocked()
	c.wg.Go(c.run)
	return c, nil
}

// newNodeLocked takes a new identity. Numbers start again: they belong to a node.
func (c *Client) newNodeLocked() {
	rand.Read(c.node[:])
	c.nodeText = []byte(c.node.String())
	c.generation = 0
	c.seqs = sequence{}
}

// Do sends one command and returns the flat answer: nil for null, the bytes of
// a simple or bulk string or integer as a list of one; nested answers come flattened,
// with nil for a null in them. An error reply comes back as *wire.Error.
// Without a connection, Do waits for one until ctx ends; the *UnavailableError then names
// every server tried and why. Nothing is sent under a ctx that has ended already. A command whose fate is unknown when the connection breaks is
// sent again only where idempotent is true; else its error wraps ErrUnsure.
//
// Refusals that pass (wire.Word.Retryable) are waited out too. UNCONFIGURED only with
// Options.Node: whoever administers a cluster wants to know at once.
func (c *Client) Do(ctx context.Context, idempotent bool, args ...[]byte) ([][]byte, error) {
	if len(args) == 0 {
		return nil, errors.New("client: Do without a command")
	}
	k := c.newCall(once)
	if idempotent {
		k.kind = repeatable
	}
	k.args = append(k.args, args...)
	var answer [][]byte
	err := c.call(ctx, k, func(parts [][]byte) error { answer = slices.Clone(parts); return nil })
	return answer, err
}

// Node returns this client's node id; zero without Options.Node. It changes
// when the cluster has given the node up and the client comes back as a new one.
func (c *Client) Node() wire.NodeID {
	if !c.o.Node {
		return wire.NodeID{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node
}

// Close ends the connection and fails what waits with ErrClosed; changes that were
// sent and not answered wrap ErrUnsure too. A node with nothing unanswered leaves the
// cluster first, for which it waits a quarter of a second at most. The second Close does nothing.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		c.wg.Wait()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.leave()
	c.mu.Lock()
	c.stop() // under the lock: no goroutine is started while the last one is awaited
	c.mu.Unlock()
	c.wg.Wait() // run has failed what was sent; nothing is sent any more
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failAllLocked(ErrClosed)
	c.room.failLocked()
	return nil
}

// failAllLocked ends all calls that wait for a connection or a next try.
func (c *Client) failAllLocked(cause error) {
	list := append(c.backlog, c.resting...)
	c.backlog, c.resting = nil, nil
	for _, k := range list {
		if k.state.Load() != abandoned {
			c.failLocked(k, cause)
		}
	}
}

// failLocked ends a call that is in no list any more.
func (c *Client) failLocked(k *call, cause error) {
	switch _, told := cause.(*UnavailableError); {
	case told:
		k.err = cause
	case k.unsure:
		k.err = fmt.Errorf("%s: %w: %w", k.args[0], ErrUnsure, cause)
	default:
		k.err = fmt.Errorf("%s: %w", k.args[0], cause)
	}
	c.ackLocked(k)
	k.state.Store(answered)
	k.wake()
}

// flat turns a reply into the form that Do returns.
func flat(r resp.Reply) ([][]byte, error) {
	switch r.Type {
	case '_':
		return nil, nil
	case '-', '!':
		return nil, wire.ParseError(string(r.Bytes))
	}
	return appendFlat(make([][]byte, 0, max(1, len(r.Elems))), r), nil
}
