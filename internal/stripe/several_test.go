package stripe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// A stripe is founded by one server; the others wait, then join by themselves.
func TestTheOthersJoinTheOneThatIsFormed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{Secret: "sesame", Timers: calm})
	for _, s := range c.servers {
		if st := s.Status(); st.Formed || st.State != wire.StateUninitialized {
			t.Fatalf("before it is formed: %+v", st)
		}
	}
	c.form()
	for _, op := range []string{"a", "b", "c"} {
		c.do(op)
	}
	c.equal("a", "b", "c")
	stripe := c.servers[0].Status().StripeID
	for i, s := range c.servers {
		if s.Status().StripeID != stripe || len(stripe) != 32 {
			t.Errorf("server %d is of stripe %q, not %q", i+1, s.Status().StripeID, stripe)
		}
		if name, addr, ok := s.Active(); name != "server-1" || addr != "client-1:9410" || !ok {
			t.Errorf("server %d takes %q at %q for active", i+1, name, addr)
		}
		if n := len(s.Members()); n != 3 {
			t.Errorf("server %d knows %d servers", i+1, n)
		}
		if i == 0 {
			continue
		}
		if _, err := do(s, "x"); !wire.Is(err, wire.ErrNotActive) || !strings.Contains(err.Error(), " client-1:9410 ") {
			t.Errorf("a passive answers a write: %v", err)
		}
		if err := s.Confirm(context.Background()); !wire.Is(err, wire.ErrNotActive) {
			t.Errorf("a passive answers a read: %v", err)
		}
	}
}

// The active is killed: another one goes on with all that was acknowledged, and
// the old one comes back as a passive.
func TestFailoverLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{Timers: calm}) // nobody takes over who has not to
	c.form()
	stop := c.writers(8)
	for range 3 {
		a := c.settle()
		before := store.Time(c.servers[a].fsm.time.Load()) // what it reads beyond that, nobody else was told
		_, term := c.servers[a].Reign()
		began := time.Now()
		c.kill(a)
		eventually(t, "another server is active", func() bool { b := c.active(); return b >= 0 && b != a })
		b := c.active()
		t.Logf("failover after %v", time.Since(began))
		if _, next := c.servers[b].Reign(); next <= term || c.servers[b].Now() < before {
			t.Errorf("term %d after %d, log time %d after %d", next, term, c.servers[b].Now(), before)
		}
		c.start(a)
		if a := c.settle(); a != b {
			t.Errorf("the one that came back took over")
		}
	}
	acked, unsure, refused := stop()
	t.Logf("%d acknowledged, %d unsure, refused %v", len(acked), len(unsure), refused)
	a := c.settle()
	c.do("end")
	list := c.ledgers[a].list()
	c.equal(list...)
	c.check(list, append(acked, "end"), unsure)
	for i, l := range c.ledgers {
		if l.back {
			t.Errorf("log time went back on server %d", i+1)
		}
	}
}

// Who forms a stripe is its only member, and waits for nobody to be silent.
func TestAStripeIsFormedAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Config{Timers: Timers{Heartbeat: 5 * time.Minute}})
	form(t, c.servers[0])
}

// An orderly hand-over: nobody gets an error but the answer where to go.
func TestHandOverIsQuickAndLosesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{Timers: calm})
	c.form()
	stop := c.writers(8)
	for range 5 {
		a := c.settle()
		began := time.Now()
		if err := c.servers[a].HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, addr, ok := c.servers[a].Active(); !ok || addr == c.servers[a].cfg.self().ClientAddr {
			t.Errorf("after the hand-over %q is active", addr)
		}
		b := c.settle()
		t.Logf("handed over within %v", time.Since(began))
		if b == a {
			t.Error("handed over to itself")
		}
	}
	acked, unsure, refused := stop()
	for word, n := range refused {
		if word != wire.ErrNotActive {
			t.Errorf("%d operations were answered %s", n, word)
		}
	}
	if len(unsure) > 0 {
		t.Errorf("%d operations are unsure after an orderly hand-over", len(unsure))
	}
	a := c.settle()
	list := c.ledgers[a].list()
	c.equal(list...)
	c.check(list, acked, unsure)
}

// A server that was off the network keeps connections that lead nowhere. That must not
// keep it from being elected when it is to take over.
func TestHandOverToAServerThatWasOffTheNetwork(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{Timers: calm})
	c.form()
	var to int
	for range 2 { // it becomes active, and ceases to be: it has connections of its own to the others
		to = c.settle()
		if err := c.servers[to].HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a := c.settle()
	id := raft.ServerID(c.servers[to].id)
	eventually(t, "it has all, and is in touch", func() bool {
		last, ago := c.servers[a].contact.of(id)
		return ago >= 0 && last >= c.servers[a].raft.LastIndex()
	})
	for i := range c.servers {
		if i != to {
			c.links[to][i].lose()
		}
	}
	term := c.servers[a].raft.CurrentTerm()
	if err := c.servers[a].raft.LeadershipTransferToServer(id, raftAddress(serverName(to), string(id))).Error(); err != nil {
		t.Fatal(err)
	}
	b, in := -1, uint64(0)
	eventually(t, "one is active in a later term", func() bool {
		// Raft itself was told: the one before has its lease yet, and may have heard of the new term already.
		b = slices.IndexFunc(c.servers, func(s *Stripe) bool {
			in = s.raft.CurrentTerm()
			return in > term && s.raft.State() == raft.Leader && s.leading.Load() && s.raft.CurrentTerm() == in
		})
		return b >= 0
	})
	if b != to || in != term+1 {
		t.Errorf("server %d was to take over in term %d, and server %d did in term %d", to+1, term+1, b+1, in)
	}
}

// A passive has nobody to hand over to, and a sole server neither.
func TestHandOverWithNobodyToTakeOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{Timers: calm}) // nobody steps down meanwhile
	c.form()
	if err := c.servers[1].HandOver(t.Context()); err != nil {
		t.Errorf("on a passive: %v", err)
	}
	c.kill(1)
	c.kill(2)
	// Without a majority it ceases to be active within the lease; then there is nothing to hand over.
	if err := c.servers[0].HandOver(t.Context()); err == nil && c.servers[0].leading.Load() {
		t.Error("handed over to nobody")
	}
	s, _ := start(t, Config{Durability: MemoryOnly}, parts{})
	form(t, s)
	if err := s.HandOver(t.Context()); err != nil {
		t.Errorf("on a sole server: %v", err)
	}
	if err := s.Promote(t.Context()); !wire.Is(err, wire.ErrBadRequest) {
		t.Errorf("promote of an active server: %v", err)
	}
}

// A server whose disk is gone comes back as a new one in the place of the old.
func TestAWipedDiskJoinsUnderANewIdentity(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{})
	c.form()
	c.do("before")
	old := c.servers[2].Status().ServerID
	c.kill(2)
	c.do("meanwhile")
	c.dirs[2] = t.TempDir()
	c.start(2)
	c.settle()
	c.do("after")
	c.equal("before", "meanwhile", "after")
	if id := c.servers[2].Status().ServerID; id == old {
		t.Error("it has the old identity")
	}
	config, err := c.servers[0].configuration()
	if err != nil || len(config.Servers) != 3 || len(votersOf(config)) != 3 {
		t.Fatalf("members: %v, %v", config, err)
	}
	for _, m := range config.Servers {
		if string(m.ID) == old {
			t.Error("the old identity still belongs to the stripe")
		}
	}
}

// One after the other, every server is replaced on an empty disk.
func TestEveryServerIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{Timers: calm})
	c.form()
	_, term := c.servers[c.settle()].Reign()
	stop := c.writers(4)
	for i := range c.servers {
		if i == c.settle() {
			term++ // by the hand-over
			if err := c.servers[i].HandOver(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.kill(i)
		c.dirs[i] = t.TempDir()
		c.start(i)
		c.settle()
	}
	acked, unsure, _ := stop()
	a := c.settle()
	// On a machine that is too busy for heartbeats there are more elections than these.
	if _, last := c.servers[a].Reign(); len(unsure) > 0 && last <= term {
		t.Errorf("%d operations are unsure, and nobody but who handed over ceased to be active", len(unsure))
	}
	list := c.ledgers[a].list()
	c.equal(list...)
	c.check(list, acked, unsure)
}

// A server that was away for so long that the log does not go back that far gets
// the state as a snapshot, while changes go on.
func TestALateJoinerGetsASnapshot(t *testing.T) {
	t.Parallel()
	for _, d := range []Durability{EveryWrite, MemoryOnly} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, Config{Durability: d})
			c.parts.trailing = 2
			for i := range c.servers { // again, with a short log
				c.kill(i)
				c.start(i)
			}
			c.form()
			c.kill(2)
			want := numbered("op", 150)
			for i, op := range want {
				c.do(op)
				if i%50 == 25 {
					for _, s := range c.running() {
						if err := s.snapshot(); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			stop := c.writers(2)
			c.start(2)
			c.settle()
			acked, unsure, _ := stop()
			a := c.settle()
			list := c.ledgers[a].list()
			c.equal(list...)
			c.check(list, append(acked, want...), unsure)
		})
	}
}

// An active that is cut off serves nothing and makes nothing, as soon as another
// one can; the others go on.
func TestACutOffActiveServesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{})
	c.form()
	c.do("before")
	a := c.settle()
	old := c.servers[a]
	var stale atomic.Bool
	var reads atomic.Int64
	var newest atomic.Int64 // operations acknowledged by the new active
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 { // readers of the old active, all the time
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				floor := newest.Load()
				n := int64(len(c.ledgers[a].list()))
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				if old.Confirm(ctx) == nil {
					reads.Add(1)
					if n < floor {
						stale.Store(true)
					}
				}
				cancel()
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	newest.Store(1)
	c.isolate(a, true)
	lost := make(chan error, 1)
	go func() {
		_, err := do(old, "lost")
		lost <- err
	}()
	acked, unsure := []string{"before"}, []string{"lost"}
	for i := range 50 {
		op := fmt.Sprint("after-", i)
		eventually(t, "another server agrees", func() bool {
			for j, s := range c.servers {
				if j == a || !s.leading.Load() {
					continue
				}
				switch _, err := do(s, op); {
				case err == nil:
					acked = append(acked, op)
					newest.Store(int64(len(acked)))
					return true
				case wire.Is(err, wire.ErrUnsure):
					unsure = append(unsure, op)
					op += "-again"
				}
			}
			return false
		})
	}
	eventually(t, "the old one knows", func() bool { return !old.leading.Load() })
	if err := <-lost; !wire.Is(err, wire.ErrUnsure) && !wire.Is(err, wire.ErrNotActive) {
		t.Errorf("a write on the one that is cut off: %v", err)
	}
	if _, err := do(old, "refused"); !wire.Is(err, wire.ErrNotActive) {
		t.Errorf("a write on the one that knows that it is cut off: %v", err)
	}
	eventually(t, "it shows that it cannot serve", func() bool { return old.Status().State == wire.StateActiveSuspended })
	c.isolate(a, false)
	c.settle()
	close(done)
	wg.Wait()
	if stale.Load() {
		t.Error("it served what was not true any more")
	}
	t.Logf("%d reads", reads.Load())
	c.do("end")
	list := c.ledgers[c.settle()].list()
	c.equal(list...)
	c.check(list, append(acked, "end"), unsure)
}

// All servers are stopped and started again, on other ports and with another
// network: they find each other by name.
func TestAllServersMoveAndRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{})
	c.form()
	c.do("a")
	moved := newClusterOn(t, c)
	if st := moved.servers[0].Status(); st.State == wire.StateActive {
		t.Fatalf("alone: %+v", st)
	}
	moved.settle()
	moved.do("b")
	moved.equal("a", "b")
}

// Without a majority nothing is made, and the states say so.
func TestWithoutAMajorityServersAreSuspended(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{Timers: Timers{Heartbeat: defaultHeartbeat}}) // whoever is elected
	c.form()
	c.do("a")
	c.kill(0)
	c.settle()
	if c.active() != 1 {
		c.kill(1)
	} else {
		c.kill(2)
	}
	left := c.running()[0]
	eventually(t, "the last one is suspended", func() bool { return strings.HasSuffix(left.Status().State, "_SUSPENDED") })
	c.kill(slices.Index(c.servers, left))
	c.start(0)
	eventually(t, "a cold one is suspended", func() bool { return c.servers[0].Status().State == wire.StateStartSuspended })
	c.start(1)
	c.settle()
	c.do("b")
	c.equal("a", "b")
}

// A passive server that comes back far behind is none before it has what it lacks: what
// the active one had ready for it when it left does not count.
func TestAPassiveThatIsFarBehindSaysSo(t *testing.T) {
	t.Parallel()
	c := newClusterIn(t, make([]string, 3), Config{}, parts{trailing: 2})
	c.form()
	a, away := c.settle(), raftID(c.servers[2])
	c.kill(2)
	eventually(t, "it is missed", func() bool { return !c.servers[a].inTouch(away) }) // nothing is on its way any more
	const many = 3 * caughtUp
	for i, op := range numbered("op", many) {
		c.do(op)
		if i%caughtUp == caughtUp/2 {
			for _, s := range c.running() {
				if err := s.snapshot(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i := range 2 { // so that what was ready comes long before the rest
		c.links[i][2].set(false, false, 50*time.Millisecond)
	}
	c.start(2)
	var st Status
	if !within(time.Minute, func() bool { st = c.servers[2].Status(); return st.State == wire.StatePassive }) {
		t.Fatalf("it does not come back: %+v", st)
	}
	if st.Applied+caughtUp < many {
		t.Errorf("it says %s, and has applied %d entries of %d", st.State, st.Applied, many)
	}
	for i := range 2 {
		c.links[i][2].set(false, false, 0)
	}
	c.equal(c.ledgers[c.settle()].list()...)
}
