package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestDo(t *testing.T) {
	f := newFake(t, func(c *fakeConn, args []string) {
		switch args[0] {
		case "NULL":
			c.answer(resp.AppendNull(nil, 3))
		case "INT":
			c.answer(resp.AppendInt(nil, 42))
		case "EMPTY":
			c.answer(resp.AppendArrayHeader(nil, 0))
		case "MAP":
			c.answer(resp.AppendNull(resp.AppendBulkString(resp.AppendMapHeader(nil, 3, 1), "k"), 3))
		case "NO":
			c.refuse("BADREQUEST arguments")
		default:
			c.answer(resp.AppendBulkString(nil, strings.Join(args, "|")))
		}
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}})
	for cmd, want := range map[string]string{"ECHO a b": `["ECHO|a|b"]`, "INT": `["42"]`, "MAP": `["k" ""]`} {
		got, err := c.Do(within(t, long), true, args(strings.Fields(cmd)...)...)
		if err != nil || fmt.Sprintf("%q", got) != want {
			t.Errorf("%s: got %q, %v; want %s", cmd, got, err, want)
		}
	}
	if got, err := c.Do(within(t, long), true, args("NULL")...); got != nil || err != nil {
		t.Errorf("null: got %q, %v", got, err)
	}
	if got, err := c.Do(within(t, long), true, args("EMPTY")...); got == nil || len(got) != 0 || err != nil {
		t.Errorf("empty: got %q, %v", got, err)
	}
	if _, err := c.Do(within(t, long), true, args("NO")...); !wire.Is(err, wire.ErrBadRequest) {
		t.Errorf("refusal: %v", err)
	}
	if len(f.named(wire.CmdJoin)) != 0 || !c.Node().IsZero() {
		t.Error("a client without Options.Node joined")
	}
}

// Many callers share a connection, and each gets its own answer.
func TestManyCallers(t *testing.T) {
	f := newFake(t, func(c *fakeConn, args []string) { c.answer(resp.AppendBulkString(nil, args[1])) })
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 200 {
				want := fmt.Sprintf("%d-%d", i, j)
				got, err := c.Do(within(t, long), true, args("ECHO", want)...)
				if err != nil || string(got[0]) != want {
					t.Errorf("got %q, %v; want %q", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns != 1 {
		t.Errorf("%d connections", f.conns)
	}
}

// A change whose connection breaks before the answer is repeated with its number, before
// anything new, and in order.
func TestUnansweredChangesAreRepeatedInOrder(t *testing.T) {
	var mu sync.Mutex
	held := 0
	f := newFake(t, nil)
	f.setScript(func(c *fakeConn, args []string) {
		if c.n > 1 {
			f.usual(c, args)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if held++; held == 5 {
			c.Close() // five are in flight
		}
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			w := commit(fmt.Sprint("k", i))
			if _, err := c.Commit(within(t, long), w); err != nil {
				t.Error(err)
			}
			if w.Node != c.Node() || w.Seq == 0 || w.Low != 1 {
				t.Errorf("the write was not filled in: %+v", w.Write)
			}
		})
		until(t, "sent", func() bool { return len(f.named(wire.CmdCommit)) == i+1 || i == 4 })
	}
	wg.Wait()
	if _, err := c.Commit(within(t, long), commit("new")); err != nil {
		t.Fatal(err)
	}
	all := f.named(wire.CmdCommit)
	if len(all) != 11 {
		t.Fatalf("%d commits came: %v", len(all), all)
	}
	for i, s := range all[5:10] {
		first := all[i]
		if s.conn != 2 || strings.Join(s.args, " ") != strings.Join(first.args, " ") {
			t.Errorf("repeat %d is %v, first was %v", i, s, first)
		}
	}
	if low := all[10].args[argLow]; all[10].args[argSeq] != "6" || low != "6" {
		t.Errorf("the next change has number %s and low %s, want 6 and 6", all[10].args[argSeq], low)
	}
	joins := f.named(wire.CmdJoin)
	if len(joins) != 2 || joins[0].args[3] != "1" || joins[1].args[3] != "2" || joins[0].args[2] != joins[1].args[2] {
		t.Errorf("joins: %v", joins)
	}
}

func TestCommandOfUnknownFateIsSentOnce(t *testing.T) {
	f := newFake(t, func(c *fakeConn, args []string) {
		if c.n == 1 {
			c.Close()
			return
		}
		c.ok()
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}})
	_, err := c.Do(within(t, long), false, args("INCR", "x")...)
	if !errors.Is(err, ErrUnsure) || !wire.Is(err, wire.ErrUnsure) || !strings.Contains(err.Error(), f.addr()) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Do(within(t, long), true, args("GET", "x")...); err != nil {
		t.Error(err)
	}
	if n := len(f.named("INCR")); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

func TestPassingRefusalsAreWaitedOut(t *testing.T) {
	for _, word := range []wire.Word{wire.ErrBusy, wire.ErrStopping, wire.ErrUnconfigured, wire.ErrReadOnly, wire.ErrUnsure, wire.ErrSessionBusy} {
		n := 0
		f := newFake(t, func(c *fakeConn, args []string) {
			if n++; n < 3 {
				c.refuse(string(word) + " for now")
				return
			}
			c.outcome(7)
		})
		c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
		o, err := c.Commit(within(t, long), commit("k"))
		all := f.named(wire.CmdCommit)
		if err != nil || o.Version != 7 || len(all) != 3 {
			t.Errorf("%s: %+v, %v after %d tries", word, o, err, len(all))
		}
		for _, s := range all {
			if s.args[argSeq] != "1" || s.args[argLow] != "1" {
				t.Errorf("%s: repeated as %v", word, s.args)
			}
		}
		c.Close()
	}
}

func TestRefusalThatStaysNamesTheServer(t *testing.T) {
	in(t, func(t *testing.T) {
		s := newSeveral(map[string]func(string) string{"a:1": func(cmd string) string {
			if cmd == wire.CmdCommit {
				return "UNCONFIGURED nothing here"
			}
			return ""
		}})
		c := s.client(t, "a:1")
		_, err := c.Commit(within(t, 100*time.Millisecond), commit("k"))
		if !wire.Is(err, wire.ErrUnconfigured) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnsure) {
			t.Errorf("got %v", err)
		}
		for _, part := range []string{"TC.COMMIT", "a:1", "nothing here", "cluster-tool configure"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q lacks %q", err, part)
			}
		}
		c.Close()
	})
}

func TestAdministratorHearsOfUnconfiguredAtOnce(t *testing.T) {
	f := newFake(t, func(c *fakeConn, args []string) { c.refuse("UNCONFIGURED run cluster-tool configure") })
	c := newClient(t, Options{Hosts: []string{f.addr()}})
	if _, err := c.UserSessions(within(t, long), "d", "u"); !wire.Is(err, wire.ErrUnconfigured) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// A caller that leaves gets its error at once, later callers get their own answers,
// and the number it left behind is settled when its answer comes.
func TestAbandonedChange(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	f := newFake(t, nil)
	f.setScript(func(c *fakeConn, args []string) {
		if args[2] == "slow" {
			close(arrived)
			<-release
		}
		f.usual(c, args)
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	if err := c.Open(within(t, long), &wire.Open{Dataset: []byte("d")}); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(within(t, long))
	go func() {
		<-arrived
		leave()
	}()
	_, err := c.Commit(ctx, commit("slow"))
	if !errors.Is(err, ErrUnsure) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	for want := range 3 {
		w := commit("next")
		if _, err := c.Commit(within(t, long), w); err != nil || w.Seq != uint64(want)+2 {
			t.Errorf("%+v, %v", w.Write, err)
		}
		if w.Low > 2 && w.Low != w.Seq || want == 2 && w.Low != w.Seq {
			t.Errorf("number %d, low %d", w.Seq, w.Low)
		}
	}
	if c.room.calls != 0 || c.room.bytes != 0 {
		t.Errorf("room is still taken: %d calls, %d bytes", c.room.calls, c.room.bytes)
	}
}

func TestUnsentCallIsSure(t *testing.T) {
	f := newFake(t, nil)
	f.close()
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	if _, err := c.Commit(within(t, 50*time.Millisecond), commit("k")); errors.Is(err, ErrUnsure) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if len(c.backlog) != 0 || c.room.calls != 0 {
		t.Errorf("%d calls are left", len(c.backlog))
	}
}

func TestCloseEndsTheWaiting(t *testing.T) {
	f := newFake(t, func(c *fakeConn, args []string) {}) // never answers
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	got := make(chan error, 1)
	go func() { _, err := c.Commit(context.Background(), commit("k")); got <- err }()
	until(t, "sent", func() bool { return len(f.named(wire.CmdCommit)) == 1 })
	c.Close()
	if err := <-got; !errors.Is(err, ErrClosed) || !errors.Is(err, ErrUnsure) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Commit(context.Background(), commit("k")); !errors.Is(err, ErrClosed) || errors.Is(err, ErrUnsure) {
		t.Errorf("after Close: %v", err)
	}
}

func TestDatasetIsOpenedAgain(t *testing.T) {
	f := newFake(t, nil)
	opens := 0
	f.setScript(func(c *fakeConn, args []string) {
		if args[0] == wire.CmdOpen {
			opens++
		} else if opens < 2 {
			c.refuse("NODATASET open it first")
			return
		}
		f.usual(c, args)
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	if _, err := c.Commit(within(t, long), commit("k")); !wire.Is(err, wire.ErrNoDataset) {
		t.Errorf("a dataset that was never opened: %v", err)
	}
	if err := c.Open(within(t, long), &wire.Open{Dataset: []byte("d"), LockMode: []byte("none")}); err != nil {
		t.Fatal(err)
	}
	w := commit("k")
	if _, err := c.Commit(within(t, long), w); err != nil || w.Seq != 3 {
		t.Errorf("%+v, %v", w.Write, err)
	}
	if all := f.named(wire.CmdOpen); len(all) != 2 || strings.Join(all[0].args, " ") != strings.Join(all[1].args, " ") {
		t.Errorf("opened with %v", all)
	}
}

func TestTooBigIsNeverSent(t *testing.T) {
	f := newFake(t, nil)
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	if _, err := c.Commit(within(t, long), commit("k")); err != nil { // the fake allows 1 MiB
		t.Fatal(err)
	}
	w := commit("k")
	w.Set = []wire.Attribute{{Name: []byte("a"), Value: make([]byte, 1<<20+1)}}
	if _, err := c.Commit(within(t, long), w); !wire.Is(err, wire.ErrTooBig) {
		t.Errorf("got %v", err)
	}
	if n := len(f.named(wire.CmdCommit)); n != 1 {
		t.Errorf("%d were sent", n)
	}
}

func TestPushMessages(t *testing.T) {
	f := newFake(t, func(c *fakeConn, args []string) {
		c.answer(resp.AppendBulkString(resp.AppendBulkString(resp.AppendPushHeader(nil, 3, 2), "news"), "x"))
		c.ok()
	})
	got := make(chan string, 1)
	c := newClient(t, Options{Hosts: []string{f.addr()}, Push: func(m [][]byte) { got <- fmt.Sprintf("%s", m) }})
	if _, err := c.Do(within(t, long), true, args("GET", "k")...); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m != "[news x]" {
		t.Errorf("got %s", m)
	}
	deaf := newClient(t, Options{Hosts: []string{f.addr()}})
	if _, err := deaf.Do(within(t, long), true, args("GET", "k")...); err != nil {
		t.Fatal(err)
	}
}

func TestWhereTheNumbersStand(t *testing.T) {
	w := commit("k")
	w.Node, w.Seq, w.Low = wire.NodeID{1}, 9, 4
	a := w.AppendArgs(nil)
	if string(a[argNode]) != w.Node.String() || string(a[argSeq]) != "9" || string(a[argLow]) != "4" {
		t.Errorf("%q", a)
	}
	l := wire.Load{Dataset: []byte("d"), Key: []byte("k"), Node: w.Node, Mode: wire.LoadRead}
	if a := l.AppendArgs(nil); string(a[argNode]) != w.Node.String() {
		t.Errorf("%q", a)
	}
}

// A server that does not know either leaves the change unsure, unlike one that
// refuses for the moment.
func TestServerThatIsUnsure(t *testing.T) {
	for word, unsure := range map[wire.Word]bool{wire.ErrUnsure: true, wire.ErrBusy: false} {
		in(t, func(t *testing.T) {
			s := newSeveral(map[string]func(string) string{"a:1": func(cmd string) string {
				if cmd == wire.CmdCommit {
					return string(word) + " sorry"
				}
				return ""
			}})
			c := s.client(t, "a:1")
			if _, err := c.Commit(within(t, 100*time.Millisecond), commit("k")); errors.Is(err, ErrUnsure) != unsure || !wire.Is(err, word) {
				t.Errorf("%s: %v", word, err)
			}
			c.Close()
		})
	}
}

func TestRepeatsComeFirstAndInOrder(t *testing.T) {
	made := func(seq uint64, state int32) *call {
		k := &call{seq: seq}
		k.state.Store(state)
		return k
	}
	load, create := made(0, queued), made(0, queued)
	var got []uint64
	list := inOrder([]*call{load, made(7, queued), made(9, queued), create}, []*call{made(8, resting), made(5, resting)})
	for _, k := range list {
		got = append(got, k.seq)
	}
	if fmt.Sprint(got) != "[5 7 8 9 0 0]" || list[4] != load || list[5] != create {
		t.Errorf("got %v", got)
	}
}
