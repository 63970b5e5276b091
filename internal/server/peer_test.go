package server_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// peer is a client that speaks plain RESP, well or badly.
type peer struct {
	t  testing.TB
	nc net.Conn
	rd *resp.Reader
}

func dial(t testing.TB, addr string) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute)) // ends a test that hangs; the machine may be busy
	return &peer{t, nc, resp.NewReader(nc, resp.Limits{})}
}

// raw sends bytes as they are.
func (p *peer) raw(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.nc, s); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

func (p *peer) send(args ...string) {
	p.t.Helper()
	p.raw(command(args...))
}

func command(args ...string) string {
	list := make([][]byte, len(args))
	for i, a := range args {
		list[i] = []byte(a)
	}
	return string(resp.AppendCommand(nil, list...))
}

func (p *peer) read() resp.Reply {
	p.t.Helper()
	r, err := p.rd.ReadReply()
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return r
}

func (p *peer) do(args ...string) resp.Reply {
	p.t.Helper()
	p.send(args...)
	return p.read()
}

func (p *peer) doArgs(args [][]byte) resp.Reply {
	p.t.Helper()
	p.raw(string(resp.AppendCommand(nil, args...)))
	return p.read()
}

// want does a command and compares its answer as text.
func (p *peer) want(answer string, args ...string) {
	p.t.Helper()
	if got := text(p.do(args...)); got != answer {
		p.t.Errorf("%s: got %s, want %s", args[0], got, answer)
	}
}

// refused does a command and wants an error with this word; it returns its text.
func (p *peer) refused(word wire.Word, args ...string) string {
	p.t.Helper()
	return refusal(p.t, word, p.do(args...))
}

func refusal(t testing.TB, word wire.Word, r resp.Reply) string {
	t.Helper()
	e := wire.ParseError(string(r.Bytes))
	if r.Type != '-' || e.Word != word {
		t.Errorf("got %s, want the error %s", text(r), word)
	}
	return e.Text
}

// closed wants the server to have closed the connection, perhaps after answers.
func (p *peer) closed() (answers string) {
	p.t.Helper()
	b, err := io.ReadAll(p.nc)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Error("the connection is still open")
	}
	return string(b)
}

// text writes an answer on one line.
func text(r resp.Reply) string {
	switch r.Type {
	case ':', '#':
		return fmt.Sprint(r.Int)
	case '_':
		return "nil"
	case '*', '%', '~', '>':
		var list []string
		for _, e := range r.Elems {
			list = append(list, text(e))
		}
		return "[" + strings.Join(list, " ") + "]"
	case '-':
		return "-" + string(r.Bytes)
	}
	return string(r.Bytes)
}

func flat(r resp.Reply) (list [][]byte) {
	for _, e := range r.Elems {
		list = append(list, e.Bytes)
	}
	return list
}

// node is a peer that has joined and numbers its writes.
type node struct {
	*peer
	id  wire.NodeID
	seq uint64
}

func join(t testing.TB, addr string, id byte) *node {
	t.Helper()
	n := &node{peer: dial(t, addr), id: wire.NodeID{id}}
	j := wire.Join{Node: n.id, Generation: 1, Low: 1, Label: []byte("test")}
	if r := n.doArgs(j.AppendArgs(nil)); r.Type != '*' {
		t.Fatalf("join: %s", text(r))
	}
	return n
}

func (n *node) open(dataset string) {
	n.t.Helper()
	o := wire.Open{Dataset: []byte(dataset), LockMode: []byte("none")}
	if r := n.doArgs(o.AppendArgs(nil)); r.Type == '-' {
		n.t.Fatalf("open: %s", text(r))
	}
}

func (n *node) write(key string, token wire.Token) wire.Write {
	n.seq++
	return wire.Write{Dataset: []byte("carts"), Key: []byte(key), Node: n.id, Seq: n.seq, Low: n.seq, Token: token}
}

func (n *node) create(key, user string, attributes ...string) wire.Outcome {
	n.t.Helper()
	c := wire.Create{Write: n.write(key, wire.Token{}), Idle: time.Minute, User: []byte(user), Set: attrs(attributes)}
	return n.outcome(n.doArgs(c.AppendArgs(nil)))
}

func attrs(pairs []string) (set []wire.Attribute) {
	for i := 0; i+1 < len(pairs); i += 2 {
		set = append(set, wire.Attribute{Name: []byte(pairs[i]), Value: []byte(pairs[i+1])})
	}
	return set
}

func (n *node) outcome(r resp.Reply) wire.Outcome {
	n.t.Helper()
	o, err := wire.ParseOutcome(flat(r))
	if err != nil {
		n.t.Fatalf("outcome %s: %v", text(r), err)
	}
	return o
}

func (n *node) load(key string) wire.Session {
	n.t.Helper()
	r := n.do(wire.CmdLoad, "carts", key, n.id.String(), "R")
	s, err := wire.ParseSession(flat(r), nil)
	if err != nil {
		n.t.Fatalf("load %s: %v", text(r), err)
	}
	return s
}

// greeted is a peer whose PING was answered, at a server with short time-outs: on a busy
// machine they may be over before the PING is there.
func greeted(t testing.TB, addr string) *peer {
	t.Helper()
	p := dial(t, addr)
	eventually(t, "a PING in time", func() bool {
		if _, err := io.WriteString(p.nc, command("PING")); err == nil {
			if r, err := p.rd.ReadReply(); err == nil {
				return string(r.Bytes) == "PONG"
			}
		}
		p = dial(t, addr)
		return false
	})
	return p
}

// eventually polls until ok, and fails the test after a minute.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// carts starts a cluster, and a node with dataset carts open.
func carts(t testing.TB, opts ...testcluster.Option) (*testcluster.Cluster, *node) {
	t.Helper()
	c := testcluster.Start(t, opts...)
	n := join(t, c.Addr(), 1)
	n.open("carts")
	return c, n
}
