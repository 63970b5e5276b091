//go:build unix

package history

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Sequences that have a name, each with the answer that it must have.

func create(t *testing.T, c Node, key, value string) wire.Token {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := &wire.Create{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(key)}, Set: []wire.Attribute{{Name: []byte("a"), Value: []byte(value)}}}
	o, err := c.Create(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	return o.Token
}

func change(t *testing.T, c Node, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := c.Load(ctx, &wire.Load{Dataset: []byte(dataset), Key: []byte(key), Mode: wire.LoadRead})
	if err == nil {
		var o wire.Outcome
		o, err = c.Commit(ctx, &wire.Commit{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(key), Token: s.Token}, Idle: wire.KeepIdle,
			Set: []wire.Attribute{{Name: []byte("a"), Value: []byte(value)}}})
		if err == nil && len(o.Dropped) > 0 {
			err = errors.New("it was dropped")
		}
	}
	if err != nil {
		t.Fatalf("change to %q: %v", value, err)
	}
}

// A passive dies, the others go on and die, the passive comes back alone: it has old
// data and must not serve it, nor take changes. With one of the others it serves the new.
func TestAPassiveThatMissedChangesServesNothingAlone(t *testing.T) {
	t.Parallel() // it mostly waits
	c := startCluster(t, 1)
	list := nodes(t, c.net, 1, c.Addrs()...)
	create(t, list[0], "k", "old")
	c.AwaitInService()
	behind := c.passive()
	behind.Kill()
	change(t, list[0], "k", "new")
	var others []*testcluster.Cluster
	for _, s := range c.Servers {
		if s != behind {
			s.Kill()
			others = append(others, s)
		}
	}
	behind.Start()
	alone, err := client.New(client.Options{Hosts: []string{behind.Addr()}, Node: true, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	for _, node := range []Node{list[0], alone} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if v, err := read(ctx, node, "k"); err == nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a server alone answers %q, %v", v, err)
		}
	}
	if st := behind.Status().State; st == wire.StateActive || behind.Engine().Serves() {
		t.Errorf("a server alone is %s", st)
	}
	others[0].Start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if v, err := read(ctx, list[0], "k"); v != "new" || err != nil {
		t.Errorf("two of three servers answer %q, %v", v, err)
	}
	others[1].Start()
	c.AwaitInService()
}

// leaves are what a client makes of an answer.
func leaves(r resp.Reply) (list [][]byte) {
	switch r.Type {
	case '*':
		for _, e := range r.Elems {
			list = append(list, leaves(e)...)
		}
		return list
	case ':':
		return [][]byte{strconv.AppendInt(nil, r.Int, 10)}
	}
	return [][]byte{r.Bytes}
}

// An active server is paused while another one takes over; reads that have waited
// for it meanwhile are not answered from what it has in memory.
func TestAPausedActiveServesNothingOldWhenItWakes(t *testing.T) {
	t.Parallel()                                             // it mostly waits
	p := startProcesses(t, "TC_FAILOVER_TIMERS=1s/1s/500ms") // nobody takes over from one that is only busy
	n := testcluster.NewNetwork(t)
	list := nodes(t, n, 1, p.addrs...)
	create(t, list[0], "k", "old")
	p.awaitInService()
	old := slices.IndexFunc(p.addrs, func(a string) bool { return p.state(slices.Index(p.addrs, a)) == wire.StateActive })
	if old < 0 {
		t.Fatal("no server is active")
	}
	const (
		connections = 200
		many        = 50 // reads on each, before it wakes and after
	)
	readers := make([]*reader, connections)
	for i := range readers {
		readers[i] = dialReader(t, p.addrs[old], "k")
		readers[i].ask(1)
		if v, err := readers[i].answer(); v != "old" || err != nil {
			t.Fatalf("before the pause: %q, %v", v, err)
		}
	}
	p.pause(old)
	for _, r := range readers {
		r.ask(many) // they wait in its sockets
	}
	change(t, list[0], "k", "new")
	p.wake(old)
	var refused int
	for _, r := range readers {
		r.ask(many)
		for range 2 * many {
			switch v, err := r.answer(); {
			case err != nil && !wire.Is(err, wire.ErrNotActive):
				t.Fatalf("refused by %v", err)
			case err != nil:
				refused++
			case v != "new":
				t.Fatalf("a server that was paused answers %q, after %d refusals", v, refused)
			}
		}
	}
	if refused == 0 {
		t.Error("nothing was refused: the paused server did not lose its place, and this proves nothing")
	}
}

// reader asks one server for one session, many times at once, and follows no redirect.
type reader struct {
	t    *testing.T
	nc   net.Conn
	r    *resp.Reader
	load [][]byte
}

func dialReader(t *testing.T, addr, key string) *reader {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
	l := wire.Load{Dataset: []byte(dataset), Key: []byte(key), Node: wire.NodeID{1}, Mode: wire.LoadPeek}
	return &reader{t: t, nc: nc, r: resp.NewReader(nc, resp.Limits{}), load: l.AppendArgs(nil)}
}

func (r *reader) ask(times int) {
	r.t.Helper()
	var out []byte
	for range times {
		out = resp.AppendCommand(out, r.load...)
	}
	if _, err := r.nc.Write(out); err != nil {
		r.t.Fatal(err)
	}
}

// answer returns the value of the session's attribute, or the refusal.
func (r *reader) answer() (string, error) {
	r.t.Helper()
	reply, err := r.r.ReadReply()
	if err != nil {
		r.t.Fatal(err)
	}
	if reply.Type == '-' {
		return "", wire.ParseError(string(reply.Bytes))
	}
	s, err := wire.ParseSession(leaves(reply), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(s.Attributes[0].Value), nil
}
