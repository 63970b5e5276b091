package stripe

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A server that was removed while it was away finds that out, and joins anew with
// the data it has.
func TestARemovedServerJoinsAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{})
	c.form()
	c.do("a")
	id := c.servers[2].Status().ServerID
	c.kill(2)
	a := c.settle()
	if err := c.servers[a].removeMember(raft.ServerID(id)); err != nil {
		t.Fatal(err)
	}
	c.do("b")
	c.start(2)
	c.settle()
	c.do("c")
	c.equal("a", "b", "c")
	if c.servers[2].Status().ServerID != id {
		t.Error("it has another identity")
	}
}

// The state of a stripe of several is not started as that of a sole server, nor
// without the file that says which stripe it is of.
func TestStateOfSeveralIsNotMistaken(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Config{})
	c.form()
	c.kill(0)
	c.kill(1)
	_, err := open(Config{Dir: c.dirs[0], Durability: EveryWrite}, &ledger{}, parts{})
	refusedWith(t, err, "a stripe of 2 servers", "configure all of them")
	if err := os.Remove(filepath.Join(c.dirs[0], stripeFile)); err != nil {
		t.Fatal(err)
	}
	cfg := c.config(0)
	cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(cfg, &ledger{}, parts{})
	refusedWith(t, err, stripeFile, "put the file back")
}

// A sole server's data goes on in a stripe of several: the others join it.
func TestASoleServerGetsPassives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{})
	form(t, s)
	must(t, s, "alone")
	s.Close()
	os.Remove(filepath.Join(dir, stripeFile)) // as an earlier version left it
	c := newClusterIn(t, []string{dir, "", ""}, Config{}, parts{})
	c.settle()
	c.do("together")
	c.equal("alone", "together")
	config, err := c.servers[c.settle()].configuration()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range config.Servers {
		if name, _ := splitAddress(m.Address); !strings.HasPrefix(name, "server-") {
			t.Errorf("a server without a name: %v", m)
		}
	}
}

// A server with a new data root and its former self have one name until it has taken
// that one's place; what is said of the one does not concern the other.
func TestWhoIsAwayIsSaidOnce(t *testing.T) {
	now := time.Second
	var log bytes.Buffer
	s := &Stripe{id: "a", log: slog.New(slog.NewTextHandler(&log, nil)), contact: newContact("a", func() time.Duration { return now })}
	s.cfg.Timers.Heartbeat = 100 * time.Millisecond
	c := config("ab", "c")
	for i, name := range []string{"tc1", "tc2", "tc2"} {
		c.Servers[i].Address = raftAddress(name, string(c.Servers[i].ID))
	}
	s.contact.begin(1, c)
	away := map[string]bool{}
	said := func(what string, lines int) {
		t.Helper()
		for range 3 {
			s.sayOf(c, away)
		}
		if n := strings.Count(log.String(), what); n != lines || strings.Count(log.String(), "\n") != lines {
			t.Errorf("it says %d times %q, not %d times:\n%s", n, what, lines, log.String())
		}
		log.Reset()
	}
	s.contact.confirm("b", 1, now, 1)
	said("server", 0)
	now += time.Second
	s.contact.confirm("c", 1, now, 1)
	said("does not answer", 1)
	now += time.Second
	s.contact.confirm("b", 1, now, 2)
	s.contact.confirm("c", 1, now, 2)
	said("is back", 1)
}

// What decides who may be elected, and who goes on alone, must be the same on all servers.
func TestTimersThatServersCompare(t *testing.T) {
	alike := func(a, b Timers) bool { return a.String() == b.String() }
	three, pair := Timers{Heartbeat: 3, Election: 3, Lease: 1}, Timers{Heartbeat: 3, Election: 3, Lease: 1, Alone: 9}
	lease := func(t Timers) Timers { t.Lease++; return t }
	other := func(t Timers) Timers { t.Election++; return t }
	if !alike(three, lease(three)) || alike(pair, lease(pair)) || alike(three, other(three)) || alike(three, pair) {
		t.Errorf("%v %v", three, pair)
	}
}

// A busy machine may keep the active one from the others for most of a heartbeat
// time-out: nobody else is elected before its end, so it stays.
func TestTheActiveOneWaitsForMostOfAHeartbeat(t *testing.T) {
	c := Config{Self: "a", Members: []Member{{Name: "a", GroupAddr: "a"}, {Name: "b", GroupAddr: "b"}, {Name: "c", GroupAddr: "c"}}, Listener: struct{ net.Listener }{}}
	if err := c.complete(); err != nil || c.Timers.Lease <= c.Timers.Heartbeat*3/4 || c.Timers.Lease >= c.Timers.Election {
		t.Errorf("the timers are %v, %v", c.Timers, err)
	}
}
