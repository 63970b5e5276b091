package stripe

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"os"
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
	c.parts.newest, c.parts.speaks = newest, speaks
	c.start(i)
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
		for range 3 {
			c.running()[0].wake()
		}
		for _, f := range c.formats() {
			if f != 1 {
				t.Fatalf("%d of 3 are upgraded, and the stripe writes format %d", i, f)
			}
		}
		c.version(i, 2, newer)
		c.settle()
		op := "upgraded " + serverName(i)
		c.do(op)
		ops = append(ops, op)
		c.equal(ops...)
	}
	eventually(t, "all write the new format", func() bool {
		for _, f := range c.formats() {
			if f != 2 {
				return false
			}
		}
		return true
	})
	passive := (c.settle() + 1) % 3
	if err := c.servers[passive].snapshot(); err != nil {
		t.Fatal(err)
	}
	c.equal(ops...)

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
	c.equal(ops...)

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
	c.equal(ops...)
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
	c.equal("a")
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
	if got := c.ledgers[old].list(); len(got) != 1 {
		t.Errorf("it applied %q", got)
	}
	if !log.have("the log was written by a later version: this server does not serve") {
		t.Error("the log does not say so")
	}
	if err := s.snapshot(); err == nil {
		t.Error("it writes a snapshot")
	}
	c.servers[a].raft.LeadershipTransferToServer(raftID(s), raftAddress(s.cfg.Self, s.id)).Error()
	eventually(t, "another one is active", func() bool { a := c.active(); return a >= 0 && a != old })
	c.kill(old)
	c.newer = true
	c.start(old)
	c.settle()
	c.equal("a", "later", "b")
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
