package ownership

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestCreateCommitLoad(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		out := r.create(m, "k", time.Minute, time.Hour)
		if out.Token.Term == 0 || out.Token.Counter == 0 || out.Token.Index != out.Version {
			t.Errorf("ticket of a create: %v of version %d", out.Token, out.Version)
		}
		if _, err := r.set(m, "k", out.Token, "cart", "JSP Book"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		s, attrs, err := r.read(m, "k", wire.LoadRead)
		if err != nil {
			t.Fatal(err)
		}
		if attrs["cart"] != "JSP Book" || string(s.User) != "ann" || s.Owned {
			t.Errorf("read %v of user %q, owned %v", attrs, s.User, s.Owned)
		}
		if s.Token.Index != s.Version || s.Token.SameGrant(out.Token) {
			t.Errorf("token %v for version %d; the one before was %v", s.Token, s.Version, out.Token)
		}
		near := func(what string, got, want time.Duration) {
			if got < want-time.Second || got > want+time.Second {
				t.Errorf("%s is %v, not about %v", what, got, want)
			}
		}
		near("age", s.Age, 10*time.Second)
		near("idle", s.Idle, 10*time.Second)
		near("idle time-out", s.IdleMax, time.Minute)
		near("remaining", s.Remaining, 59*time.Minute+50*time.Second)

		peek, _, err := r.read(nil, "k", wire.LoadPeek)
		if err != nil || peek.Token != (wire.Token{}) {
			t.Errorf("peek: token %v, error %v", peek.Token, err)
		}
		own, _, err := r.read(m, "k", wire.LoadOwn)
		if err != nil || own.Owned || own.Token.Counter == 0 {
			t.Errorf("load for ownership in this version: %+v, %v", own, err)
		}
	})
}

func TestEveryCommandNeedsItsNode(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		out := r.create(m, "k", 0, 0)
		for name, none := range map[string]*Member{"nil": nil, "zero": {}} {
			_, err := wait(func(done func(wire.Outcome, error)) {
				r.Commit(none, &wire.Commit{Write: r.write(m, "k", out.Token)}, done)
			})
			t.Log(name)
			r.refused(wire.ErrNotJoined, err)
		}
		_, _, err := r.read(nil, "k", wire.LoadRead)
		r.refused(wire.ErrNotJoined, err)
		// Another node's name on this connection.
		other, _ := r.joined(2, 1)
		_, err = wait(func(done func(wire.Outcome, error)) {
			r.Invalidate(m, &wire.Invalidate{Write: r.write(other, "k", out.Token), Reason: []byte("logout")}, done)
		})
		r.refused(wire.ErrBadRequest, err)
	})
}

func TestNewerConnectionReplacesTheOlder(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m1, c1 := r.joined(1, 1)
		out := r.create(m1, "k", 0, 0)
		m2, c2 := r.joined(1, 2)
		if !c1.closed.Load() || c2.closed.Load() {
			t.Error("the older connection must be closed, and only that")
		}
		_, err := r.set(m1, "k", out.Token, "a", "late")
		r.refused(wire.ErrStale, err)
		_, _, err = r.read(m1, "k", wire.LoadRead)
		r.refused(wire.ErrStale, err)
		for _, generation := range []uint64{1, 2} {
			_, _, err := r.tryJoin(1, generation)
			r.refused(wire.ErrStale, err)
		}
		m1.Left() // of the old connection: changes nothing
		if _, err := r.set(m2, "k", out.Token, "a", "b"); err != nil {
			t.Error(err)
		}
	})
}

func TestANodeThatStaysAwayIsRemoved(t *testing.T) {
	timed(t, Config{ReconnectWindow: 30 * time.Second}, func(r *rig) {
		back, _ := r.joined(1, 1)
		gone, _ := r.joined(2, 1)
		out := r.create(gone, "k", 0, 0)
		back.Left()
		gone.Left()
		time.Sleep(20 * time.Second)
		r.joined(1, 2)
		time.Sleep(15 * time.Second)
		if nodes := r.store.Nodes(); len(nodes) != 1 || nodes[0].ID != nodeID(1) {
			t.Fatalf("joined after the window: %v", nodes)
		}
		_, _, err := r.tryJoin(2, 2)
		r.refused(wire.ErrNodeGone, err)
		if _, _, err := r.read(nil, "k", wire.LoadPeek); err != nil {
			t.Errorf("the session of a removed node (version %d): %v", out.Version, err)
		}
	})
}

// A node that was joined before this server started has the whole window from
// when this server became active, and is then removed.
func TestANodeOfAFormerRunIsRemoved(t *testing.T) {
	timed(t, Config{ReconnectWindow: 30 * time.Second}, func(r *rig) {
		r.joined(1, 1)
		r.Ownership.Close()
		next := New(Config{ReconnectWindow: 30 * time.Second}, r.stripe, r.store)
		defer next.Close()
		time.Sleep(25 * time.Second)
		if n := len(r.store.Nodes()); n != 1 {
			t.Fatalf("%d nodes before the window is over", n)
		}
		time.Sleep(10 * time.Second)
		if n := len(r.store.Nodes()); n != 0 {
			t.Fatalf("%d nodes after the window", n)
		}
	})
}

func TestSessionsExpireInTime(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		r.create(m, "idle", time.Minute, 0)
		r.create(m, "absolute", 0, time.Minute)
		r.create(m, "read", time.Minute, 0)
		r.create(m, "peeked", time.Minute, 0)
		r.create(m, "forever", 0, 0)
		for range 7 {
			time.Sleep(9 * time.Second)
			if _, _, err := r.read(m, "read", wire.LoadRead); err != nil {
				t.Fatalf("a session in use: %v", err)
			}
			r.read(nil, "peeked", wire.LoadPeek)
		}
		for _, key := range []string{"idle", "absolute", "peeked"} {
			_, _, err := r.read(m, key, wire.LoadRead)
			r.refused(wire.ErrSessionGone, err)
			if err != nil && !strings.HasPrefix(err.Error(), "SESSIONGONE expired") {
				t.Errorf("%s: %v", key, err)
			}
		}
		time.Sleep(time.Second)
		if n := r.store.Datasets()[0].Sessions; n != 2 {
			t.Errorf("%d sessions are stored, not 2", n)
		}
		time.Sleep(time.Hour)
		if n := r.store.Datasets()[0].Sessions; n != 1 {
			t.Errorf("%d sessions are stored, not 1", n)
		}
	})
}

// Before the entry that expires it, a session whose time is up is gone already.
func TestTimeIsUpBeforeTheEntry(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		r.Ownership.Close() // nobody expires anything now
		r.create(m, "k", time.Second, 0)
		time.Sleep(1500 * time.Millisecond)
		_, _, err := r.read(m, "k", wire.LoadRead)
		r.refused(wire.ErrSessionGone, err)
		if n := r.store.Datasets()[0].Sessions; n != 1 {
			t.Errorf("%d sessions are stored", n)
		}
	})
}

// Reading does not write: accesses are coalesced, and only when they matter.
func TestReadsAreFewEntries(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		r.create(m, "k", 10*time.Minute, 0)
		before := r.store.Index()
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			r.read(m, "k", wire.LoadRead)
		}
		// A minute of reads at a time-out of ten: an entry each six seconds, or seven.
		if n := r.store.Index() - before; n < 5 || n > 12 {
			t.Errorf("a minute of reads made %d operations", n)
		}
		s, _, err := r.read(nil, "k", wire.LoadPeek)
		if err != nil || s.Idle > 8*time.Second {
			t.Errorf("idle for %v, %v", s.Idle, err)
		}
	})
}

func TestManySessionsExpireInBoundedEntries(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		for i := range 2000 {
			r.create(m, "k"+string(rune('A'+i%26))+strings.Repeat("x", i/26), time.Minute, 0)
		}
		time.Sleep(62 * time.Second)
		if n := r.store.Datasets()[0].Sessions; n != 0 {
			t.Errorf("%d sessions are left two seconds after the end of 2000", n)
		}
	})
}

func TestValuesAboveTheLimitAreRefused(t *testing.T) {
	timed(t, Config{MaxValue: 100}, func(r *rig) {
		m, _ := r.joined(1, 1)
		out := r.create(m, "k", 0, 0)
		if _, err := r.set(m, "k", out.Token, "a", strings.Repeat("v", 100)); err != nil {
			t.Error(err)
		}
		_, err := r.set(m, "k", out.Token, "a", strings.Repeat("v", 101))
		r.refused(wire.ErrTooBig, err)
	})
}

func TestRenewKeepsTheTicketAndLogoutHolds(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		first := r.create(m, "old", time.Minute, 0)
		out, err := wait(func(done func(wire.Outcome, error)) {
			r.Renew(m, &wire.Renew{Write: r.write(m, "old", first.Token), NewKey: []byte("new"), SetUser: true, User: []byte("bob")}, done)
		})
		if err != nil || out.Token != first.Token {
			t.Fatalf("renew: %+v, %v", out, err)
		}
		_, _, err = r.read(m, "old", wire.LoadRead)
		r.refused(wire.ErrSessionGone, err)
		if _, err := r.set(m, "new", out.Token, "a", "b"); err != nil {
			t.Error(err)
		}
		list, err := r.UserSessions(context.Background(), []byte(dataset), []byte("bob"))
		if err != nil || len(list) != 1 || string(list[0].Key) != "new" {
			t.Errorf("sessions of the user: %v, %v", list, err)
		}
		end, err := wait(func(done func(wire.Outcome, error)) {
			r.Invalidate(m, &wire.Invalidate{Write: r.write(m, "new", out.Token), Reason: []byte("logout")}, done)
		})
		if err != nil || !end.Existed {
			t.Fatalf("logout: %+v, %v", end, err)
		}
		_, err = r.set(m, "new", out.Token, "a", "still logged in")
		r.refused(wire.ErrSessionGone, err)
	})
}

// A renewal must not make its request's ticket cover what another request
// committed meanwhile.
func TestRenewDoesNotCoverUnreadChanges(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		first := r.create(m, "old", time.Minute, 0)
		if _, err := r.set(m, "old", first.Token, "cart", "none"); err != nil {
			t.Fatal(err)
		}
		slow, _, err := r.read(m, "old", wire.LoadRead)
		if err != nil {
			t.Fatal(err)
		}
		quick, _, _ := r.read(m, "old", wire.LoadRead)
		if out, err := r.set(m, "old", quick.Token, "cart", "book"); err != nil || len(out.Dropped) > 0 {
			t.Fatalf("quick commit: %+v, %v", out, err)
		}
		renewed, err := wait(func(done func(wire.Outcome, error)) {
			r.Renew(m, &wire.Renew{Write: r.write(m, "old", slow.Token), NewKey: []byte("new")}, done)
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.set(m, "new", renewed.Token, "cart", "stale")
		if err != nil || len(out.Dropped) != 1 {
			t.Errorf("a change that had not read the last one was taken: %+v, %v", out, err)
		}
	})
}

func TestTheZeroNodeIsRefused(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		_, _, err := r.Join(context.Background(), &wire.Join{Generation: 1, Low: 1}, &testConn{})
		r.refused(wire.ErrBadRequest, err)
	})
}

// Before configure there is nobody to join, and nothing to load.
func TestUnconfiguredRefusesAndNamesTheTool(t *testing.T) {
	st := store.New()
	s, err := stripe.Open(context.Background(), stripe.Config{Durability: stripe.MemoryOnly}, st)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o := New(Config{}, s, st)
	defer o.Close()
	_, _, err = o.Join(t.Context(), &wire.Join{Node: nodeID(1), Generation: 1, Low: 1}, &testConn{})
	if !wire.Is(err, wire.ErrUnconfigured) || !strings.Contains(err.Error(), "cluster-tool configure") {
		t.Errorf("join: %v", err)
	}
	l := &wire.Load{Dataset: []byte("d"), Key: []byte("k"), Mode: wire.LoadPeek}
	if err := o.Load(t.Context(), nil, l, func(*wire.Session) {}); !wire.Is(err, wire.ErrUnconfigured) {
		t.Errorf("load: %v", err)
	}
}

// A join that the stripe refused may be tried again with the same generation.
func TestARefusedJoinMayBeRepeated(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		_, _, err := r.tryJoin(1, 5) // unknown, and not its first connection
		r.refused(wire.ErrNodeGone, err)
		r.joined(1, 1)
		_, _, err = r.tryJoin(2, 2)
		r.refused(wire.ErrNodeGone, err)
		r.mu.Lock()
		n := len(r.nodes)
		r.mu.Unlock()
		if n != 1 {
			t.Errorf("%d nodes are remembered, not 1", n)
		}
	})
}

// A node that comes back at the moment it is removed is either joined or told
// that it is gone; never joined and gone.
func TestComingBackAtTheLastMoment(t *testing.T) {
	gone := 0
	for away := 9900 * time.Millisecond; away <= 11500*time.Millisecond; away += 50 * time.Millisecond {
		timed(t, Config{ReconnectWindow: 10 * time.Second}, func(r *rig) {
			m, _ := r.joined(1, 1)
			out := r.create(m, "k", 0, 0)
			m.Left()
			time.Sleep(away)
			m, _, err := r.tryJoin(1, 2)
			if err != nil {
				gone++
				r.refused(wire.ErrNodeGone, err)
				return
			}
			time.Sleep(2 * time.Second)
			if _, err := r.set(m, "k", out.Token, "a", "b"); err != nil {
				t.Errorf("joined after %v and then: %v", away, err)
			}
		})
	}
	if gone == 0 {
		t.Error("nobody was ever removed")
	}
}

// Everything at once, for the race detector: nodes that come and go, loads,
// changes and expiry.
func TestEverythingAtOnce(t *testing.T) {
	r := newRig(t, Config{ReconnectWindow: 50 * time.Millisecond})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			m, _ := r.joined(byte(w+1), 1)
			generation := uint64(1)
			seq := uint64(0)
			write := func(key string, tok wire.Token) wire.Write {
				seq++
				return wire.Write{Dataset: []byte(dataset), Key: []byte(key), Node: m.node.id, Seq: seq, Low: seq, Token: tok}
			}
			for i := range 100 {
				key := fmt.Sprint(w, "-", i)
				out, err := wait(func(done func(wire.Outcome, error)) {
					r.Create(m, &wire.Create{Write: write(key, wire.Token{}), Idle: 50 * time.Millisecond, User: []byte("u")}, done)
				})
				if err != nil {
					t.Error(err)
					return
				}
				wait(func(done func(wire.Outcome, error)) {
					r.Commit(m, &wire.Commit{Write: write(key, out.Token), Idle: wire.KeepIdle, Set: []wire.Attribute{{Name: []byte("a"), Value: []byte("b")}}}, done)
				})
				_, attrs, err := r.read(m, key, wire.LoadRead)
				if err == nil && attrs["a"] != "b" {
					t.Errorf("read %v", attrs)
				}
				if err != nil && !wire.Is(err, wire.ErrSessionGone) {
					t.Error(err)
				}
				if i%20 == 19 {
					generation++
					if m, _, err = r.tryJoin(byte(w+1), generation); err != nil {
						t.Error(err)
						return
					}
				}
			}
			if _, err := r.UserSessions(t.Context(), []byte(dataset), []byte("u")); err != nil {
				t.Error(err)
			}
			m.Left()
		})
	}
	wg.Wait()
	for end := time.Now().Add(time.Minute); len(r.store.Nodes()) > 0 || r.store.Datasets()[0].Sessions > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute %d nodes and %d sessions are left", len(r.store.Nodes()), r.store.Datasets()[0].Sessions)
		}
	}
}
