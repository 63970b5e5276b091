package server_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// An application with a library of another version is told which of the two is older,
// also where that version's TC.JOIN has other arguments.
func TestAnotherVersionOfTheLibraryIsRefused(t *testing.T) {
	srv, _ := carts(t)
	node := "0123456789abcdef0123456789abcdef"
	for _, join := range [][]string{
		{wire.CmdJoin, strconv.Itoa(wire.Version + 1), node, "1", "1", "later"},
		{wire.CmdJoin, strconv.Itoa(wire.Version + 1), node, "1", "1", "later", "more", "arguments"},
		{wire.CmdJoin, strconv.Itoa(wire.Version - 1), node},
	} {
		p := dial(t, srv.Addr())
		text := p.refused(wire.ErrBadRequest, join...)
		for _, want := range []string{"version " + join[1] + " is not spoken", "speaks " + strconv.Itoa(wire.Version), "upgrade the older"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q does not say %q", text, want)
			}
		}
		p.refused(wire.ErrNotJoined, wire.CmdLoad, "carts", "abc.1", node, "R")
	}
}

func TestLifeOfASession(t *testing.T) {
	_, n := carts(t)
	created := n.create("abc.1", "ann", "cart", "book", "theme", "dark")
	if created.Token.Index != created.Version {
		t.Errorf("the ticket of a create has index %d, not the version %d", created.Token.Index, created.Version)
	}
	s := n.load("abc.1")
	if string(s.User) != "ann" || len(s.Attributes) != 2 || s.IdleMax != time.Minute || s.Token.Index != s.Version {
		t.Errorf("loaded %+v", s)
	}
	commit := wire.Commit{Write: n.write("abc.1", s.Token), Idle: wire.KeepIdle, Set: attrs([]string{"cart", "book, disc"}), Remove: [][]byte{[]byte("theme")}}
	first := n.outcome(n.doArgs(commit.AppendArgs(nil)))
	if again := n.outcome(n.doArgs(commit.AppendArgs(nil))); again.Version != first.Version {
		t.Errorf("a repeat was made as version %d, first as %d", again.Version, first.Version)
	}
	if s = n.load("abc.1"); len(s.Attributes) != 1 || string(s.Attributes[0].Value) != "book, disc" {
		t.Errorf("after the commit: %+v", s.Attributes)
	}
	list, err := wire.ParseUserSessions(flat(n.do(wire.CmdUser, "carts", "ann")))
	if err != nil || len(list) != 1 || string(list[0].Key) != "abc.1" {
		t.Errorf("sessions of ann: %v, %v", list, err)
	}
	renew := wire.Renew{Write: n.write("abc.1", s.Token), NewKey: []byte("abc.2"), SetUser: true, User: []byte("bob")}
	n.outcome(n.doArgs(renew.AppendArgs(nil)))
	n.refused(wire.ErrSessionGone, wire.CmdLoad, "carts", "abc.1", n.id.String(), "R")
	if s = n.load("abc.2"); string(s.User) != "bob" {
		t.Errorf("after the renewal the user is %q", s.User)
	}
	end := wire.Invalidate{Write: n.write("abc.2", s.Token), Reason: []byte("logout")}
	if o := n.outcome(n.doArgs(end.AppendArgs(nil))); !o.Existed {
		t.Error("the session that was ended did not exist")
	}
	late := wire.Commit{Write: n.write("abc.2", s.Token), Idle: wire.KeepIdle, Set: attrs([]string{"cart", "zombie"})}
	if why := refusal(t, wire.ErrSessionGone, n.doArgs(late.AppendArgs(nil))); !strings.HasPrefix(why, "logout") {
		t.Errorf("the late commit is told %q", why)
	}
	n.refused(wire.ErrSessionUnknown, wire.CmdLoad, "carts", "nobody", n.id.String(), "R")
}

func TestCommandsBeforeJoin(t *testing.T) {
	c, n := carts(t)
	n.create("k", "")
	p := dial(t, c.Addr())
	p.refused(wire.ErrNotJoined, wire.CmdLoad, "carts", "k", n.id.String(), "R")
	w := wire.Invalidate{Write: n.write("k", wire.Token{}), Reason: []byte("logout")}
	refusal(t, wire.ErrNotJoined, p.doArgs(w.AppendArgs(nil)))
	if s, err := wire.ParseSession(flat(p.do(wire.CmdLoad, "carts", "k", n.id.String(), "P")), nil); err != nil || string(s.Key) != "k" {
		t.Errorf("a peek needs no join: %+v, %v", s, err)
	}
	if got := text(p.do(wire.CmdLoad, "carts", "k")); !strings.HasPrefix(got, "[key k version ") {
		t.Errorf("the labelled form is %s", got)
	}
}

// A node that ends in order is not counted any more; others are.
func TestLeaveShowsInTheStatus(t *testing.T) {
	c, n := carts(t)
	other := join(t, c.Addr(), 2)
	other.refused(wire.ErrBadRequest, wire.CmdLeave, n.id.String())
	dial(t, c.Addr()).refused(wire.ErrNotJoined, wire.CmdLeave, n.id.String())
	if got := c.Status().Nodes; got != 2 {
		t.Fatalf("%d nodes", got)
	}
	n.create("k", "")
	n.outcome(n.do(wire.CmdLeave, n.id.String()))
	if got := c.Status().Nodes; got != 1 {
		t.Errorf("%d nodes after one has left", got)
	}
	w := wire.Invalidate{Write: n.write("k", wire.Token{}), Reason: []byte("logout")}
	refusal(t, wire.ErrNodeGone, n.doArgs(w.AppendArgs(nil)))
	if s := other.load("k"); string(s.Key) != "k" {
		t.Errorf("its session: %+v", s)
	}
}

// A newer connection of a node closes the older one.
func TestNewGenerationClosesTheOldOne(t *testing.T) {
	c, n := carts(t)
	j := wire.Join{Node: n.id, Generation: 2, Low: 1, Label: []byte("again")}
	if r := dial(t, c.Addr()).doArgs(j.AppendArgs(nil)); r.Type != '*' {
		t.Fatalf("second generation: %s", text(r))
	}
	n.closed()
	refusal(t, wire.ErrStale, dial(t, c.Addr()).doArgs(j.AppendArgs(nil)))
}

// Law: answers stand in the order of their commands, whatever waits.
func TestAnswersKeepTheOrderOfCommands(t *testing.T) {
	_, n := carts(t)
	ticket := n.create("k", "").Token
	var burst strings.Builder
	const rounds = 400
	first := n.seq + 1
	for i := range rounds {
		burst.WriteString(command("ECHO", fmt.Sprint("before ", i)))
		w := wire.Commit{Write: n.write("k", ticket), Idle: wire.KeepIdle, Set: attrs([]string{fmt.Sprint("a", i%7), "x"})}
		w.Low = first // nothing of the burst is acknowledged yet
		burst.WriteString(command(strs(w.AppendArgs(nil))...))
		burst.WriteString(command(wire.CmdLoad, "carts", "k", n.id.String(), "R"))
		burst.WriteString(command("NOSUCH"))
	}
	go func() { _, _ = n.nc.Write([]byte(burst.String())) }()
	last := uint64(0)
	for i := range rounds {
		if got := text(n.read()); got != fmt.Sprint("before ", i) {
			t.Fatalf("round %d: %s", i, got)
		}
		o := n.outcome(n.read())
		if o.Version <= last {
			t.Fatalf("round %d: version %d after %d", i, o.Version, last)
		}
		last = o.Version
		if _, err := wire.ParseSession(flat(n.read()), nil); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		refusal(t, wire.ErrGeneric, n.read())
	}
}

func strs(list [][]byte) (out []string) {
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}

func TestDataBeforeConfigure(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	p := dial(t, c.Addr())
	p.want("PONG", "PING")
	j := wire.Join{Node: wire.NodeID{1}, Generation: 1, Low: 1}
	for _, args := range [][]string{strs(j.AppendArgs(nil)), {wire.CmdLoad, "carts", "k"}, {wire.CmdUser, "carts", "ann"}, {wire.CmdOpen, "carts", "", "", "0", "", "none"}} {
		if why := p.refused(wire.ErrUnconfigured, args...); !strings.Contains(why, "cluster-tool configure") || !strings.Contains(why, c.Addr()) {
			t.Errorf("%s: the text does not say what to do: %q", args[0], why)
		}
	}
	st := p.status()
	if st.State != wire.StateActive || st.Cluster != nil {
		t.Errorf("an unconfigured server shows %s, %v", st.State, st.Cluster)
	}
}

func (p *peer) status() (st wire.Status) {
	p.t.Helper()
	if err := json.Unmarshal(p.do(wire.CmdStatus, "JSON").Bytes, &st); err != nil {
		p.t.Fatal(err)
	}
	return st
}

// What was acknowledged is there after a restart and after a kill.
func TestRestartAndKillKeepSessions(t *testing.T) {
	c, n := carts(t, testcluster.Dir(t.TempDir()))
	n.create("k", "ann", "cart", "book")
	for i, stop := range []func(){func() { c.Restart() }, func() { c.Kill(); c.Start() }} {
		stop()
		n = join(t, c.Addr(), byte(10+i))
		n.open("carts")
		if s := n.load("k"); len(s.Attributes) != 1 || string(s.Attributes[0].Value) != "book" {
			t.Errorf("stop %d: %+v", i, s)
		}
	}
}

func TestValueAboveTheLimit(t *testing.T) {
	_, n := carts(t)
	n.create("k", "")
	w := wire.Commit{Write: n.write("k", wire.Token{}), Idle: wire.KeepIdle, Set: attrs([]string{"a", strings.Repeat("x", wire.DefaultMaxValue)})}
	n.outcome(n.doArgs(w.AppendArgs(nil)))
	if s := n.load("k"); len(s.Attributes) != 1 || len(s.Attributes[0].Value) != wire.DefaultMaxValue {
		t.Error("a value of exactly the limit was not kept")
	}
	n.raw(fmt.Sprintf("*2\r\n$4\r\nECHO\r\n$%d\r\n", wire.DefaultMaxValue+1))
	if got := n.closed(); !strings.HasPrefix(got, "-ERR ") {
		t.Errorf("one byte more: %.80q", got)
	}
}
