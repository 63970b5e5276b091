package client

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// The session commands fill in Node, Seq and Low of their argument. A change
// whose connection breaks is repeated with the same number on the next one, so it is made once.
// ctx ends the waiting, not the change: its fate is then unknown and the error wraps ErrUnsure.
// Arguments must not be changed before the call returns; the client keeps no hold of them after.

// Open opens a dataset. The client remembers how, and opens it again when a
// server that lost it (restarted without a data root) answers NODATASET.
func (c *Client) Open(ctx context.Context, o *wire.Open) error {
	k := c.newCall(repeatable)
	k.args = o.AppendArgs(k.args)
	if err := c.call(ctx, k, nil); err != nil {
		return err
	}
	kept := wire.Open{Concurrency: o.Concurrency}
	for _, f := range []struct{ to, from *[]byte }{{&kept.Dataset, &o.Dataset}, {&kept.Offheap, &o.Offheap},
		{&kept.Disk, &o.Disk}, {&kept.Tags, &o.Tags}, {&kept.LockMode, &o.LockMode}} {
		*f.to = append([]byte{}, *f.from...)
	}
	c.mu.Lock()
	c.opened[string(o.Dataset)] = kept
	c.mu.Unlock()
	return nil
}

// reopened opens the dataset again where err says that the server has lost it,
// and reports whether the command is worth another try. The refused command
// was not carried out, so the try takes a new number.
func (c *Client) reopened(ctx context.Context, dataset []byte, err error) (bool, error) {
	if !wire.Is(err, wire.ErrNoDataset) {
		return false, err
	}
	c.mu.Lock()
	o, ok := c.opened[string(dataset)]
	c.mu.Unlock()
	if !ok {
		return false, err
	}
	if openErr := c.Open(ctx, &o); openErr != nil {
		return false, fmt.Errorf("open dataset %q again: %w", dataset, openErr)
	}
	return true, err
}

// Load reads a session. Refusals such as SESSIONGONE come as *wire.Error. What is in
// the answer is the caller's own; its attributes stand in l.Room where that is long enough.
func (c *Client) Load(ctx context.Context, l *wire.Load) (wire.Session, error) {
	for tries := 0; ; tries++ {
		k := c.newCall(asNode)
		k.args = l.AppendArgs(k.args)
		var s wire.Session
		err := c.call(ctx, k, func(answer [][]byte) (err error) {
			l.Node = k.node
			s, err = wire.ParseSession(answer, l.Room)
			return err
		})
		if err == nil {
			return s, nil
		}
		if again, err := c.reopened(ctx, l.Dataset, err); !again || tries > 0 {
			return wire.Session{}, err
		}
	}
}

// Create makes a new session.
func (c *Client) Create(ctx context.Context, w *wire.Create) (wire.Outcome, error) {
	return c.write(ctx, &w.Write, func(k *call) [][]byte { return w.AppendArgs(k.args) })
}

// Commit changes attributes of a session.
func (c *Client) Commit(ctx context.Context, w *wire.Commit) (wire.Outcome, error) {
	return c.write(ctx, &w.Write, func(k *call) [][]byte { return w.AppendWith(k.args, k.token[:0]) })
}

// Invalidate ends a session for good.
func (c *Client) Invalidate(ctx context.Context, w *wire.Invalidate) (wire.Outcome, error) {
	return c.write(ctx, &w.Write, func(k *call) [][]byte { return w.AppendArgs(k.args) })
}

// Renew gives a session a new key, and perhaps a user.
func (c *Client) Renew(ctx context.Context, w *wire.Renew) (wire.Outcome, error) {
	return c.write(ctx, &w.Write, func(k *call) [][]byte { return w.AppendArgs(k.args) })
}

// write sends a change; arguments appends them to those of the call. A refusal is in the error, never in the Outcome.
func (c *Client) write(ctx context.Context, w *wire.Write, arguments func(*call) [][]byte) (wire.Outcome, error) {
	for tries := 0; ; tries++ {
		k := c.newCall(change)
		k.args = arguments(k)
		k.numbers = w
		var o wire.Outcome
		err := c.call(ctx, k, func(answer [][]byte) (err error) {
			o, err = wire.ParseOutcome(answer)
			o.Dropped = slices.Clone(o.Dropped)
			return err
		})
		if err == nil {
			return o, nil
		}
		if again, err := c.reopened(ctx, w.Dataset, err); !again || tries > 0 {
			return wire.Outcome{}, err
		}
	}
}

// UserSessions lists the sessions of a user.
func (c *Client) UserSessions(ctx context.Context, dataset, user string) ([]wire.UserSession, error) {
	answer, err := c.Do(ctx, true, []byte(wire.CmdUser), []byte(dataset), []byte(user))
	if err != nil {
		return nil, err
	}
	return wire.ParseUserSessions(answer)
}

// The administrative commands, for the cluster tool. Give the Client one host:
// they ask the server that answers first.

// Status asks the server how it is. Unconfigured servers answer, too.
func (c *Client) Status(ctx context.Context) (s wire.Status, err error) {
	err = c.document(ctx, true, &s, []byte(wire.CmdStatus))
	return s, err
}

// Dump asks the server for all that it can tell of itself.
func (c *Client) Dump(ctx context.Context) (d wire.Dump, err error) {
	err = c.document(ctx, true, &d, []byte(wire.CmdDump))
	return d, err
}

// Configure forms the cluster. It may be repeated: the same content again is a success.
func (c *Client) Configure(ctx context.Context, r *wire.ConfigureRequest) (a wire.ConfigureAnswer, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return a, fmt.Errorf("%s: %w", wire.CmdConfigure, err)
	}
	err = c.document(ctx, true, &a, []byte(wire.CmdConfigure), body)
	return a, err
}

// Stop stops the server in order. A server that is stopping already is a success.
func (c *Client) Stop(ctx context.Context) error { return c.stopWith(ctx) }

// StopCluster stops the server as one of all those of its stripe: it hands
// nothing over.
func (c *Client) StopCluster(ctx context.Context) error {
	return c.stopWith(ctx, []byte(wire.StopCluster))
}

func (c *Client) stopWith(ctx context.Context, args ...[]byte) error {
	k := c.newCall(once)
	k.args = append(append(k.args, []byte(wire.CmdStop)), args...)
	if err := c.call(ctx, k, nil); !wire.Is(err, wire.ErrStopping) {
		return err
	}
	return nil
}

// document sends a command whose answer is one JSON document.
func (c *Client) document(ctx context.Context, idempotent bool, into any, args ...[]byte) error {
	answer, err := c.Do(ctx, idempotent, args...)
	if err != nil {
		return err
	}
	if len(answer) != 1 {
		return fmt.Errorf("%s: answer has %d parts, not one document", args[0], len(answer))
	}
	if err := json.Unmarshal(answer[0], into); err != nil {
		return fmt.Errorf("%s: answer: %w", args[0], err)
	}
	return nil
}
