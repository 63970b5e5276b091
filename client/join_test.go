package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestJoinWaitsForConfigure(t *testing.T) {
	f := newFake(t, nil)
	f.setScript(func(c *fakeConn, args []string) {
		if args[0] == wire.CmdJoin && c.n < 3 {
			c.refuse("UNCONFIGURED run cluster-tool configure")
			return
		}
		f.usual(c, args)
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	if _, err := c.Load(within(t, long), &wire.Load{Dataset: []byte("d"), Key: []byte("k"), Mode: wire.LoadRead}); err != nil {
		t.Fatal(err)
	}
	for _, j := range f.named(wire.CmdJoin) {
		if j.args[3] != "1" {
			t.Errorf("a refused join counted as a generation: %v", j)
		}
	}
}

func TestJoinRefusedAsGone(t *testing.T) {
	f := newFake(t, nil)
	f.setScript(func(c *fakeConn, args []string) {
		switch {
		case args[0] == wire.CmdJoin && args[3] != "1":
			c.refuse("NODEGONE start anew")
		case args[0] == wire.CmdCommit && c.n == 1:
			if args[2] == "second" {
				c.Close()
			}
		default:
			f.usual(c, args)
		}
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	first := c.Node()
	fate := make(chan error, 1)
	go func() { _, err := c.Commit(within(t, long), commit("first")); fate <- err }()
	until(t, "sent", func() bool { return len(f.named(wire.CmdCommit)) == 1 })
	_, err := c.Commit(within(t, long), commit("second"))
	if !errors.Is(err, ErrUnsure) {
		t.Errorf("a change under the lost node id: %v", err)
	}
	if err := <-fate; !errors.Is(err, ErrUnsure) {
		t.Errorf("a change under the lost node id: %v", err)
	}
	w := commit("third")
	if _, err := c.Commit(within(t, long), w); err != nil || w.Seq != 1 || w.Node == first || w.Node != c.Node() {
		t.Errorf("as a new node: %+v, %v", w.Write, err)
	}
	if n := len(f.named(wire.CmdCommit)); n != 3 {
		t.Errorf("%d commits were sent: %v", n, f.commands())
	}
}

// A NODEGONE to a change says that this sending was not carried out.
func TestNodeGoneWhileConnected(t *testing.T) {
	f := newFake(t, nil)
	f.setScript(func(c *fakeConn, args []string) {
		if c.n == 1 {
			c.refuse("NODEGONE start anew")
			return
		}
		f.usual(c, args)
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	w := commit("k")
	if _, err := c.Commit(within(t, long), w); err != nil || w.Node != c.Node() {
		t.Errorf("%+v, %v", w.Write, err)
	}
	if joins := f.named(wire.CmdJoin); len(joins) != 2 || joins[0].args[2] == joins[1].args[2] || joins[1].args[3] != "1" {
		t.Errorf("joins: %v", joins)
	}
}

func TestNotActiveIsFollowed(t *testing.T) {
	active := newFake(t, nil)
	passive := newFake(t, func(c *fakeConn, args []string) { c.refuse("NOTACTIVE the active server is " + active.addr() + ".") })
	c := newClient(t, Options{Hosts: []string{passive.addr()}, Node: true})
	if _, err := c.Commit(within(t, long), commit("k")); err != nil {
		t.Fatal(err)
	}
	if len(active.named(wire.CmdCommit)) != 1 {
		t.Error("the active server was not asked")
	}
}

func TestJoinFollowsNotActive(t *testing.T) {
	active := newFake(t, nil)
	passive := newFake(t, func(c *fakeConn, args []string) { c.refuse("NOTACTIVE the active server is " + active.addr()) })
	c := newClient(t, Options{Hosts: []string{passive.addr()}, Node: true})
	if _, err := c.Commit(within(t, long), commit("k")); err != nil {
		t.Fatal(err)
	}
}

func TestTwoServersThatNameEachOther(t *testing.T) {
	in(t, func(t *testing.T) {
		names := func(other string) func(string) string {
			return func(cmd string) string {
				if cmd == wire.CmdCommit {
					return "NOTACTIVE ask " + other
				}
				return ""
			}
		}
		s := newSeveral(map[string]func(string) string{"a:1": names("b:1"), "b:1": names("a:1")})
		c := s.client(t, "a:1")
		if _, err := c.Commit(within(t, 300*time.Millisecond), commit("k")); !wire.Is(err, wire.ErrNotActive) {
			t.Errorf("got %v", err)
		}
		if a, b := s.count("a:1", wire.CmdCommit), s.count("b:1", wire.CmdCommit); a == 0 || b == 0 || a+b > 100 {
			t.Errorf("%d and %d tries in 300 ms: both are asked, with pauses", a, b)
		}
		c.Close()
	})
}

func TestWrongPasswordEndsTheWaiting(t *testing.T) {
	f := newFake(t, nil)
	f.password = "right"
	c := newClient(t, Options{Hosts: []string{f.addr()}, Password: "wrong", Node: true})
	_, err := c.Commit(within(t, long), commit("k"))
	if !wire.Is(err, wire.ErrWrongPass) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "TC_PASSWORD_FILE") {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("%q repeats the password", err)
	}
	good := newClient(t, Options{Hosts: []string{f.addr()}, Password: "right", Node: true})
	if _, err := good.Commit(within(t, long), commit("k")); err != nil {
		t.Error(err)
	}
}

func TestNobodyThereNamesEachServer(t *testing.T) {
	a, b := newFake(t, nil), newFake(t, nil)
	a.close()
	b.close()
	c := newClient(t, Options{Hosts: []string{a.addr(), b.addr()}})
	var e *UnavailableError
	var err error
	for patience := 100 * time.Millisecond; (e == nil || len(e.Servers) < 2) && patience < long; patience *= 2 {
		_, err = c.Do(within(t, patience), true, args("PING")...) // on a busy machine the first one may have tried nobody
		errors.As(err, &e)
	}
	if !errors.As(err, &e) || len(e.Servers) != 2 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{a.addr(), b.addr(), "connection refused"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
}

func TestGarbageIsNotWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(nc, "HTTP/1.1 400 Bad Request\r\n\r\n")
			nc.Close()
		}
	}()
	c := newClient(t, Options{Hosts: []string{l.Addr().String()}})
	var e *resp.ProtocolError
	if _, err := c.Do(within(t, long), true, args("GET", "k")...); !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}

func TestAddressInNotActive(t *testing.T) {
	for text, want := range map[string]string{
		"this server is not active; ask terracotta-2:9410.": "terracotta-2:9410",
		"ask [::1]:9410, please":                            "[::1]:9410",
		"this server is not active yet":                     "",
		"note: nothing":                                     "",
		"at 12:34:56":                                       "",
		":9410":                                             "",
	} {
		if got := activeIn(text); got != want {
			t.Errorf("%q names %q, want %q", text, got, want)
		}
	}
}

func TestJoinAtAnotherKindOfServer(t *testing.T) {
	f := newFake(t, func(c *fakeConn, args []string) { c.refuse("ERR unknown command") })
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	if _, err := c.Commit(within(t, long), commit("k")); err == nil || !strings.Contains(err.Error(), "is that the port of a Terracotta server") {
		t.Errorf("got %v", err)
	}
}
