package client

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// fake is a server that follows a script: for what real servers do only when
// they are ill. It answers handshakes properly unless the script does.
type fake struct {
	t        *testing.T
	l        net.Listener
	password string

	mu     sync.Mutex
	script func(c *fakeConn, args []string) // nil answers +OK; may be replaced at any time
	seen   []seen
	conns  int
	open   map[net.Conn]bool
	wg     sync.WaitGroup
}

type seen struct {
	conn int // from 1
	args []string
}

type fakeConn struct {
	net.Conn
	n int
	f *fake
}

func (c *fakeConn) answer(b []byte)    { _, _ = c.Write(b) }
func (c *fakeConn) ok()                { c.answer(resp.AppendSimple(nil, "OK")) }
func (c *fakeConn) refuse(text string) { c.answer(resp.AppendError(nil, text)) }

// outcome answers a change.
func (c *fakeConn) outcome(version uint64) {
	o := wire.Outcome{Version: version}
	c.answer(resp.AppendCommand(nil, o.AppendTo(nil)...))
}

func newFake(t *testing.T, script func(c *fakeConn, args []string)) *fake {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, l: l, script: script, open: make(map[net.Conn]bool)}
	f.wg.Go(f.accept)
	t.Cleanup(f.close)
	return f
}

func (f *fake) addr() string { return f.l.Addr().String() }

func (f *fake) close() {
	f.l.Close()
	f.mu.Lock()
	for c := range f.open {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

func (f *fake) accept() {
	for {
		nc, err := f.l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns++
		f.open[nc] = true
		c := &fakeConn{nc, f.conns, f}
		f.mu.Unlock()
		f.wg.Go(func() { f.serve(c) })
	}
}

func (f *fake) serve(c *fakeConn) {
	defer c.Close()
	r := resp.NewReader(c, resp.Limits{})
	// Scripts are about what happens between: handshake and goodbye are the usual
	// ones but in tests of their own.
	scripted := func(cmd string) bool {
		switch cmd {
		case "HELLO", "PING":
			return false
		case wire.CmdJoin:
			return strings.HasPrefix(f.t.Name(), "TestJoin")
		case wire.CmdLeave:
			return strings.HasPrefix(f.t.Name(), "TestLeave")
		}
		return true
	}
	for {
		raw, err := r.ReadCommand()
		if err != nil {
			return
		}
		args := make([]string, len(raw))
		for i, a := range raw {
			args[i] = string(a)
		}
		f.mu.Lock()
		f.seen = append(f.seen, seen{c.n, args})
		script := f.script
		f.mu.Unlock()
		switch {
		case script != nil && scripted(args[0]):
			script(c, args)
		default:
			f.usual(c, args)
		}
	}
}

// usual answers as a healthy server.
func (f *fake) usual(c *fakeConn, args []string) {
	switch args[0] {
	case "HELLO":
		if f.password != "" && strings.Join(args[1:], " ") != "3 AUTH default "+f.password {
			c.refuse("WRONGPASS that is not the password of this cluster")
			return
		}
		c.answer(resp.AppendBulkString(resp.AppendBulkString(resp.AppendMapHeader(nil, 3, 1), "server"), "fake"))
	case wire.CmdJoin:
		j := wire.Joined{Version: wire.Version, ServerName: "fake", ClusterName: "c", Lease: time.Second, MaxValue: 1 << 20}
		c.answer(resp.AppendCommand(nil, j.AppendTo(nil)...))
	case wire.CmdCommit:
		c.outcome(1)
	case wire.CmdLoad:
		s := wire.Session{Key: []byte(args[2])}
		c.answer(resp.AppendCommand(nil, s.AppendTo(nil)...))
	default:
		c.ok()
	}
}

func (f *fake) setScript(s func(c *fakeConn, args []string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = s
}

// commands returns what came, as "conn: args", without handshakes.
func (f *fake) commands() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seen {
		if s.args[0] != "HELLO" && s.args[0] != wire.CmdJoin && s.args[0] != wire.CmdLeave {
			list = append(list, fmt.Sprintf("%d: %s", s.conn, strings.Join(s.args, " ")))
		}
	}
	return list
}

// named returns the arguments of all commands of that name, in order.
func (f *fake) named(cmd string) (list []seen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seen {
		if s.args[0] == cmd {
			list = append(list, s)
		}
	}
	return list
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newClient(t testing.TB, o Options) *Client {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// long ends a test that hangs; no machine is so busy that anything here takes as long.
const long = time.Minute

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// until polls a condition with a deadline.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(long); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

func args(s ...string) (list [][]byte) {
	for _, a := range s {
		list = append(list, []byte(a))
	}
	return list
}

func commit(key string) *wire.Commit {
	return &wire.Commit{Write: wire.Write{Dataset: []byte("d"), Key: []byte(key)}, Idle: wire.KeepIdle}
}
