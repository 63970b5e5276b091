package stripe

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// version starts server i as another version of this software.
func (c *cluster) version(i, newest int, speaks versions) {
	c.t.Helper()
	if c.servers[i] != nil {
		c.kill(i)
	}
	c.parts.newest, c.parts.speaks, c.newer = newest, speaks, newest > 1
	c.start(i)
}

// have is equal where a change that was unsure, and was repeated, may be there twice.
func (c *cluster) have(want ...string) {
	c.t.Helper()
	var list []string
	if !within(time.Minute, func() bool {
		list = nil
		for i, s := range c.servers {
			switch l := c.ledgers[i].list(); {
			case s == nil:
			case list == nil:
				list = l
			case !slices.Equal(l, list):
				return false
			}
		}
		return slices.Equal(slices.Compact(slices.Clone(list)), want)
	}) {
		c.t.Fatalf("the servers have %q, want %q", list, want)
	}
	c.equal(list...)
}

// raise makes server i the active one, and gives it every occasion to raise the format.
func (c *cluster) raise(i int) {
	c.t.Helper()
	if !within(time.Minute, func() bool {
		a := c.settle()
		if a != i {
			s := c.servers[i]
			c.servers[a].raft.LeadershipTransferToServer(raftID(s), raftAddress(s.cfg.Self, s.id)).Error()
		}
		return a == i
	}) {
		c.t.Fatalf("server %d is not active after a minute", i+1)
	}
	for range 3 {
		c.servers[i].raiseFormat()
	}
}

// writes does a change as code does that has a new way to write it: not before the
// stripe's format says that all understand it. It returns what it wrote.
func (c *cluster) writes(op string) string {
	c.t.Helper()
	if f := c.servers[c.settle()].fsm; f.format() > 1 {
		op = "later"
	}
	c.do(op)
	return op
}

func (c *cluster) formats() (list []int) {
	for _, s := range c.running() {
		list = append(list, s.fsm.format())
	}
	return list
}

// The servers of a stripe are upgraded one after the other, while changes go on.
// What only the new version understands is written once all are upgraded, not
// before; then the old version is not let in any more, and does not read the log.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{})
	c.form()
	ops := []string{"old"}
	c.do("old")
	newer := versions{groupMin, groupMax + 1} // speaks the old group protocol too
	for i := range c.servers {
		c.raise(max(0, i-1)) // one of the new version, once there is one
		for _, f := range c.formats() {
			if f != 1 {
				t.Fatalf("%d of 3 are upgraded, and the stripe writes format %d", i, f)
			}
		}
		c.version(i, 2, newer)
		c.settle()
		if i < 2 { // the third may have raised it by now
			ops = append(ops, c.writes("upgraded "+serverName(i)))
			if ops[len(ops)-1] == "later" {
				t.Fatalf("%d of 3 are upgraded, and what the others don't know is written", i+1)
			}
		}
		c.have(ops...)
	}
	eventually(t, "all write the new format", func() bool {
		for _, f := range c.formats() {
			if f != 2 {
				return false
			}
		}
		return true
	})
	ops = append(ops, c.writes("new"))
	if ops[len(ops)-1] != "later" {
		t.Error("all are upgraded, and the old way is gone on with")
	}
	c.have(ops...)
	passive := (c.settle() + 1) % 3
	if err := c.servers[passive].snapshot(); err != nil {
		t.Fatal(err)
	}
	c.have(ops...)

	// With its data the old version does not start, and changes nothing.
	c.kill(passive)
	cfg := c.config(passive)
	cfg.Listener = c.port(passive)
	old := &ledger{}
	if s, err := open(cfg, old, parts{}); err == nil {
		s.Close()
		t.Error("the old version started from what the new one wrote")
	} else if !errors.Is(err, errLater) || !strings.Contains(err.Error(), "start that version") {
		t.Errorf("%v", err)
	}
	c.start(passive) // the new version goes on from it
	c.settle()
	c.have(ops...)

	// Without data it is not let in.
	c.kill(passive)
	if err := os.RemoveAll(c.dirs[passive]); err != nil {
		t.Fatal(err)
	}
	c.version(passive, 1, versions{})
	eventually(t, "it is refused", func() bool {
		return strings.Contains(c.servers[passive].Status().Refusal, "the stripe writes format 2")
	})
	if len(c.ledgers[passive].list()) > 0 {
		t.Error("it has got data")
	}
	c.version(passive, 2, newer)
	c.settle()
	c.have(ops...)
}

// A server that is down may come back in the version that it had before, although it
// has been of the new one: the format waits for it.
func TestRollingUpgradeWaitsForAServerThatIsDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{})
	c.form()
	newer := versions{groupMin, groupMax + 1}
	for _, i := range []int{0, 1} {
		c.version(i, 2, newer)
		c.settle()
	}
	hears := func(i int) {
		t.Helper()
		c.raise(0)
		eventually(t, "the active server hears of the new version", func() bool {
			p, _ := c.servers[0].group.about(c.servers[i].id)
			return p.format() == 2 && c.servers[0].inTouch(raftID(c.servers[i]))
		})
	}
	hears(1)
	c.do("one")
	c.have("one")
	down := c.servers[1]
	c.kill(1)
	eventually(t, "its absence is noticed", func() bool {
		a := c.active()
		return a >= 0 && !c.servers[a].inTouch(raftID(down))
	})
	c.version(2, 2, newer)
	hears(2) // now it has heard so of all
	c.servers[0].raiseFormat()
	for _, f := range c.formats() {
		if f != 1 {
			t.Fatalf("one of three is down, and format %d is written", f)
		}
	}
	c.version(1, 1, versions{})
	c.settle()
	c.do("two")
	c.have("one", "two")
	c.version(1, 2, newer)
	eventually(t, "all write the new format", func() bool { return slices.Equal(c.formats(), []int{2, 2, 2}) })
}

// A pair that goes on with its new server alone does not forget the other one, which
// is of the old version yet, and would not be let in any more.
func TestRollingUpgradeOfAPair(t *testing.T) {
	t.Parallel()
	r, a, b := newPair(t, EverySecond)
	newer := versions{groupMin, groupMax + 1}
	become := func(i, newest int, speaks versions) {
		r.down(i)
		r.parts.newest, r.parts.speaks, r.newer = newest, speaks, newest > 1
		r.start(i)
		r.synced()
	}
	become(b, 2, newer)
	r.tries(func(active, _ int) bool {
		if active == a && r.servers[a].HandOver(t.Context()) != nil {
			return false // this machine is busy
		}
		r.until("the new version is active, or the old one again", func() bool { return r.leads(b) || r.leads(a) })
		if !r.leads(b) {
			return false
		}
		r.down(a)
		r.until("it is alone, or waits", func() bool { return r.leads(b) && r.servers[b].Status().Alone || r.waits(b) })
		return !r.waits(b)
	}, func(int, int) {
		if r.servers[a] == nil {
			become(a, 1, versions{})
		}
	})
	for range 3 {
		r.servers[b].raiseFormat()
	}
	if f := r.servers[b].fsm.format(); f != 1 {
		t.Fatalf("without the other server format %d is written", f)
	}
	r.do("two")
	become(a, 1, versions{}) // as it was
	r.do("three")
	r.have("one", "two", "three")
	become(a, 2, newer)
	r.until("both write the new format", func() bool { return slices.Equal(r.formats(), []int{2, 2}) })
	r.do("later")
	r.have("one", "two", "three", "later")
}

// A server whose version speaks no common version of the group protocol is told so.
func TestOtherVersionsOfTheGroupProtocol(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Config{})
	c.form()
	c.version(1, 1, versions{groupMax + 1, groupMax + 2})
	eventually(t, "it says so", func() bool {
		c.servers[1].look(time.Now())
		return strings.Contains(c.servers[1].Status().Refusal, "upgrade in smaller steps")
	})
}

// What a passive server does not understand it never skips: it stops to apply, says
// so, serves nothing, writes no snapshot, and the newer version goes on from its log.
func TestAnUnknownOperationIsNotSkipped(t *testing.T) {
	t.Parallel()
	var log lines
	c := newCluster(t, 3, Config{Logger: log.logger(t)})
	c.form()
	c.do("a")
	c.have("a")
	a := c.settle()
	old := (a + 1) % 3
	for i, l := range c.ledgers {
		l.mu.Lock()
		l.newer = i != old
		l.mu.Unlock()
	}
	c.do("later")
	c.do("b")
	s := c.servers[old]
	eventually(t, "it says so", func() bool { return s.Status().Later })
	if got := slices.Compact(c.ledgers[old].list()); len(got) != 1 {
		t.Errorf("it applied %q", got)
	}
	eventually(t, "the log says so", func() bool { return log.have("the log was written by a later version: this server does not serve") })
	if err := s.snapshot(); err == nil {
		t.Error("it writes a snapshot")
	}
	c.servers[a].raft.LeadershipTransferToServer(raftID(s), raftAddress(s.cfg.Self, s.id)).Error()
	eventually(t, "another one is active", func() bool { a := c.active(); return a >= 0 && a != old })
	c.kill(old)
	c.newer = true
	c.start(old)
	c.settle()
	c.have("a", "later", "b")
}

// Law: the head of a snapshot tells what was put in.
func TestSnapshotHeads(t *testing.T) {
	for _, format := range []int{1, 2, 300} {
		for _, past := range []history{nil, {{Number: 3, Owner: "o"}}} {
			h, f, err := readSnapshotHead(bufio.NewReader(bytes.NewReader(append(snapshotHead(past, format), "rest"...))))
			if err != nil || f != format || len(h) != len(past) || len(h) > 0 && !h[0].same(past[0]) {
				t.Errorf("format %d, %v: %v, %d, %v", format, past, h, f, err)
			}
		}
	}
	if _, _, err := readSnapshotHead(bufio.NewReader(bytes.NewReader(binary.AppendUvarint([]byte{snapshotAgreed}, maxFormat+1)))); !errors.Is(err, errDamaged) {
		t.Error(err)
	}
	if err := (&fsm{newest: 1}).reads(2); !errors.Is(err, errLater) {
		t.Error(err)
	}
}
