package client

import (
	"slices"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestLeaveAtClose(t *testing.T) {
	for name, f := range map[string]struct {
		node   bool
		script func(c *fakeConn, args []string) // of what comes before Close; nil = a healthy server
		leaves bool
	}{
		"after its work":       {true, nil, true},
		"no node":              {false, nil, false},
		"a change is open":     {true, func(c *fakeConn, args []string) {}, false},
		"a change was refused": {true, func(c *fakeConn, args []string) { c.refuse("SESSIONGONE logout") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := newFake(t, nil)
			server.setScript(func(c *fakeConn, args []string) {
				if f.script == nil || args[0] != wire.CmdCommit {
					server.usual(c, args)
					return
				}
				f.script(c, args)
			})
			c := newClient(t, Options{Hosts: []string{server.addr()}, Node: f.node})
			id := c.Node()
			until(t, "connected", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.cn != nil })
			if f.node {
				_, _ = c.Commit(within(t, 100*time.Millisecond), commit("k"))
			}
			c.Close()
			left := server.named(wire.CmdLeave)
			if (len(left) == 1) != f.leaves || f.leaves && !slices.Equal(left[0].args, []string{wire.CmdLeave, id.String()}) {
				t.Errorf("sent %v of %v", left, id)
			}
		})
	}
}

// A server that says nothing, or that all is lost, holds Close up for a moment only.
func TestLeaveIsNoReasonToWait(t *testing.T) {
	for name, answer := range map[string]func(c *fakeConn){
		"silence": func(c *fakeConn) {},
		"hung up": func(c *fakeConn) { c.Close() },
		"busy":    func(c *fakeConn) { c.refuse("BUSY later") },
		"unknown": func(c *fakeConn) { c.refuse("ERR unknown command") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newFake(t, nil)
			server.setScript(func(c *fakeConn, args []string) {
				if args[0] == wire.CmdLeave {
					answer(c)
					return
				}
				server.usual(c, args)
			})
			c := newClient(t, Options{Hosts: []string{server.addr()}, Node: true})
			if _, err := c.Commit(within(t, 5*time.Second), commit("k")); err != nil {
				t.Fatal(err)
			}
			closed := make(chan struct{})
			go func() { c.Close(); close(closed) }()
			select {
			case <-closed:
			case <-time.After(10 * leaveWait):
				t.Fatal("Close hangs")
			}
			if n := len(server.named(wire.CmdLeave)); n != 1 {
				t.Errorf("it said goodbye %d times", n)
			}
			if n := len(server.named(wire.CmdJoin)); n > 2 {
				t.Errorf("it joined %d times", n)
			}
		})
	}
}
