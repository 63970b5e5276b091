package client

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestLeaveAtClose(t *testing.T) {
	for name, f := range map[string]struct {
		node   bool
		script func(c *fakeConn, args []string) // of what comes before Close; nil = a healthy server
		open   bool                             // a change has no answer when Close comes
		leaves bool
	}{
		"after its work":       {true, nil, false, true},
		"no node":              {false, nil, false, false},
		"a change is open":     {true, func(c *fakeConn, args []string) {}, true, false},
		"a change was refused": {true, func(c *fakeConn, args []string) { c.refuse("SESSIONGONE logout") }, false, true},
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
				ctx, giveUp := context.WithCancel(within(t, long))
				done := make(chan struct{})
				go func() { defer close(done); _, _ = c.Commit(ctx, commit("k")) }()
				until(t, "sent", func() bool { return len(server.named(wire.CmdCommit)) == 1 })
				if f.open {
					giveUp()
				}
				<-done
				giveUp()
			}
			c.Close()
			if f.leaves { // Close does not always wait until the server has read it
				until(t, "it left", func() bool { return len(server.named(wire.CmdLeave)) > 0 })
			}
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
			if _, err := c.Commit(within(t, long), commit("k")); err != nil {
				t.Fatal(err)
			}
			closed := make(chan struct{})
			go func() { c.Close(); close(closed) }()
			select {
			case <-closed:
			case <-time.After(long): // how long exactly: the next test
				t.Fatal("Close hangs")
			}
			until(t, "it says goodbye", func() bool { return len(server.named(wire.CmdLeave)) > 0 })
			if n := len(server.named(wire.CmdLeave)); n != 1 {
				t.Errorf("it said goodbye %d times", n)
			}
			if n := len(server.named(wire.CmdJoin)); n > 2 {
				t.Errorf("it joined %d times", n)
			}
		})
	}
}

// leaveWait is all that a silent server takes.
func TestLeaveWaitsForAMoment(t *testing.T) {
	in(t, func(t *testing.T) {
		s := newSeveral(map[string]func(string) string{"a:1": func(cmd string) string {
			if cmd == wire.CmdLeave {
				return "-"
			}
			return ""
		}})
		c := s.client(t, "a:1")
		get(t, c)
		at := time.Now()
		c.Close()
		if d := time.Since(at); d != leaveWait || s.count("a:1", wire.CmdLeave) != 1 {
			t.Errorf("Close took %v; said goodbye %d times", d, s.count("a:1", wire.CmdLeave))
		}
	})
}
