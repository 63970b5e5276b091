package stripe

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
)

func config(voters string, others string) raft.Configuration {
	var c raft.Configuration
	for _, id := range voters {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Suffrage: raft.Voter})
	}
	for _, id := range others {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Suffrage: raft.Nonvoter})
	}
	return c
}

// A lease counts from when the majority that knew least was asked; servers
// without a vote, other terms and other reigns count for nothing.
func TestWhoseWordALeaseCounts(t *testing.T) {
	var now time.Duration = 1000
	c := newContact("a", func() time.Duration { return now })
	if c.leased() != 0 {
		t.Fatal("a lease before any reign")
	}
	c.begin(3, config("abc", "x"))
	c.confirm("x", 3, 900, 1)
	c.confirm("b", 2, 900, 1)
	if c.leased() != 0 {
		t.Fatal("a lease by a server without a vote, or by another term")
	}
	c.confirm("b", 3, 900, 1)
	if got := c.leased(); got != 900 {
		t.Fatalf("lease from %d", got)
	}
	c.confirm("b", 3, 800, 1) // an answer that comes late
	c.confirm("c", 3, 950, 1)
	if got := c.leased(); got != 950 {
		t.Fatalf("lease from %d", got)
	}
	c.require(config("abc", "x"), config("abcx", "")) // four need three
	if got := c.leased(); got != 900 {
		t.Fatalf("while x gets its vote: lease from %d", got)
	}
	c.require(config("ab", ""))
	now = 2000
	if got := c.leased(); got != 900 {
		t.Fatalf("two need both: lease from %d", got)
	}
	c.forgo()
	if c.leased() != 0 {
		t.Fatal("a lease after a hand-over was begun")
	}
	c.end()
	c.begin(5, config("abc", ""))
	if c.leased() != 0 {
		t.Fatal("a lease of an earlier reign")
	}
	c.begin(6, config("a", ""))
	if c.leased() != 2000 {
		t.Fatal("the only voter needs nobody")
	}
}

// After a pause, however long, no lease is left: the clock goes on meanwhile.
func TestAPausedActiveHasNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mono := sinceStart()
		c := newContact("a", mono)
		k := newConfirmer(func() raft.Future { return awaited(func() error { return c.await(mono()) }) }, 300*time.Millisecond)
		k.mono, k.recent = mono, c.leased
		c.begin(3, config("abc", ""))
		c.confirm("b", 3, mono(), 1)
		if err := k.confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(230 * time.Millisecond) // within 0.8 of the heartbeat
		if err := k.confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		answer := make(chan error, 1)
		go func() { answer <- k.confirm(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-answer:
			t.Fatalf("answered without anybody's word: %v", err)
		default:
		}
		c.confirm("c", 3, mono()-time.Millisecond, 1) // was asked before the read
		synctest.Wait()
		select {
		case err := <-answer:
			t.Fatalf("answered by an older word: %v", err)
		default:
		}
		c.end()
		if err := <-answer; err == nil {
			t.Fatal("confirmed after the reign")
		}
		k.await()
	})
}

// Calls to a server that is away wait until it is back, and end with the reign or
// with its membership.
func TestCallsWaitForASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContact("a", sinceStart())
		c.begin(3, config("abc", ""))
		call := func(term uint64) chan error {
			done := make(chan error, 1)
			go func() {
				waited, err := c.reachable("b", term)
				if waited && err == nil {
					err = errOutdated
				}
				done <- err
			}()
			synctest.Wait()
			return done
		}
		if err := <-call(3); err != nil {
			t.Fatal(err)
		}
		c.lost("b", 3)
		waits := call(3)
		if len(waits) > 0 {
			t.Fatal("did not wait")
		}
		c.confirm("b", 3, 1, 1)
		if err := <-waits; err != errOutdated {
			t.Fatal(err)
		}
		if err := <-call(3); err != nil {
			t.Fatal(err)
		}
		c.lost("b", 3)
		waits = call(3)
		c.require(config("ac", ""))
		if err := <-waits; err == nil {
			t.Fatal("called one that was removed")
		}
		if err := <-call(2); err == nil {
			t.Fatal("called in an old term")
		}
		c.close()
		if err := <-call(3); err == nil {
			t.Fatal("called while closing")
		}
	})
}

// The log is not cut short while somebody needs it.
func TestTheLogIsHeldForWhoGetsASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &raftlog.Memory{}
		l := heldLog{m, new(hold)}
		for i := uint64(1); i <= 20; i++ {
			if err := l.StoreLog(&raft.Log{Index: i, Data: []byte{1}}); err != nil {
				t.Fatal(err)
			}
		}
		first := func(want uint64) {
			t.Helper()
			if got, _ := l.FirstIndex(); got != want {
				t.Errorf("the log begins with %d, not %d", got, want)
			}
		}
		release := l.held.begin(5)
		l.DeleteRange(1, 10)
		first(5)
		l.DeleteRange(15, 20) // the end is not held
		if last, _ := l.LastIndex(); last != 14 {
			t.Errorf("the log ends with %d", last)
		}
		release()
		l.DeleteRange(5, 10)
		first(5)
		time.Sleep(holdGrace + time.Second)
		l.DeleteRange(5, 10)
		first(10) // what a snapshot that ends there is sent with
		l.held.begin(10)
		l.DeleteRange(10, 13) // a later one was written meanwhile
		first(10)
	})
}

// A server that follows knows the time, though entries come rarely and late.
func TestANewActiveGoesOnInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLogClock()
		c.wall = func() time.Time { return time.Now().Add(24 * time.Hour) } // this machine's is a day off
		const begun = 5_000_000
		c.follow(begun)
		time.Sleep(3 * time.Second)
		c.follow(begun + 1000) // stamped two seconds before it was applied
		time.Sleep(time.Second)
		c.start(begun+1000, false)
		if got := c.read(); got != begun+4000 {
			t.Errorf("log time %d after four seconds, not %d", got-begun, 4000)
		}
		c.pause()
		time.Sleep(time.Minute)
		c.follow(begun + 70_000) // another one was active, and its time ran slower or faster
		c.start(begun+70_000, false)
		if got := c.read(); got != begun+70_000 {
			t.Errorf("log time %d, not 70000", got-begun)
		}
	})
}
