// Package client talks to a Terracotta cluster: it parses terracotta:// URIs,
// finds the active server, pipelines the commands of many callers over one
// connection, reconnects, and repeats what is safe to repeat.
//
// It is standard library only, so that it costs its users no dependency.
package client

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// URI is a parsed terracotta://host[:port][,host[:port]...][/dataset].
type URI struct {
	Hosts   []string // host:port, the port always written
	Dataset string   // "" where the URI has none
}

// ParseURI parses s; errors show what is wrong and an example.
func ParseURI(s string) (URI, error) { panic("not built") }

// Options is how a Client is made. Hosts is required.
type Options struct {
	Hosts       []string                                                          // host:port
	Password    string                                                            // shared secret, "" = none
	Node        bool                                                              // join the cluster as an application node, with a fresh node id
	Label       string                                                            // shown to operators; "" = the host name
	DialTimeout time.Duration                                                     // for one attempt, 0 = 5 s
	Logger      *slog.Logger                                                      // nil = slog.Default()
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error) // nil = net.Dialer
}

// Client is safe for concurrent use.
type Client struct{}

// New returns a Client that connects in the background and at need. A cluster
// that is not there yet is no error: calls wait for it until their context ends.
func New(o Options) (*Client, error) { panic("not built") }

// Do sends one command and returns the flat answer: nil for null, the bytes of
// a simple or bulk string or integer as a list of one. An error reply comes back as *wire.Error.
// Without a connection, Do waits for one until ctx ends; the error then names
// every server tried and why. A command whose fate is unknown when the connection breaks is
// sent again only where idempotent is true.
func (c *Client) Do(ctx context.Context, idempotent bool, args ...[]byte) ([][]byte, error) {
	panic("not built")
}

// Node returns this client's node id; zero without Options.Node.
func (c *Client) Node() wire.NodeID { panic("not built") }

// The session commands fill in Node, Seq and Low of their argument. A change
// whose connection breaks is repeated with the same number on the next one, so it is made once.
// ctx ends the waiting, not the change: its fate is then unknown and the error wraps ErrUnsure.

func (c *Client) Open(ctx context.Context, o *wire.Open) error { panic("not built") }
func (c *Client) Load(ctx context.Context, l *wire.Load) (wire.Session, error) {
	panic("not built")
}
func (c *Client) Create(ctx context.Context, w *wire.Create) (wire.Outcome, error) {
	panic("not built")
}
func (c *Client) Commit(ctx context.Context, w *wire.Commit) (wire.Outcome, error) {
	panic("not built")
}
func (c *Client) Invalidate(ctx context.Context, w *wire.Invalidate) (wire.Outcome, error) {
	panic("not built")
}
func (c *Client) Renew(ctx context.Context, w *wire.Renew) (wire.Outcome, error) {
	panic("not built")
}
func (c *Client) UserSessions(ctx context.Context, dataset, user string) ([]wire.UserSession, error) {
	panic("not built")
}

// The administrative commands, for the cluster tool.

func (c *Client) Status(ctx context.Context) (wire.Status, error) { panic("not built") }
func (c *Client) Configure(ctx context.Context, r *wire.ConfigureRequest) (wire.ConfigureAnswer, error) {
	panic("not built")
}
func (c *Client) Stop(ctx context.Context) error { panic("not built") }

// Close ends the connection and fails what waits.
func (c *Client) Close() error { panic("not built") }
