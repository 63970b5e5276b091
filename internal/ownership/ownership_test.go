package ownership

import (
	"context"
	"strings"
	"testing"
	"time"

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

func TestRenewGivesATicketAndLogoutHolds(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		first := r.create(m, "old", time.Minute, 0)
		out, err := wait(func(done func(wire.Outcome, error)) {
			r.Renew(m, &wire.Renew{Write: r.write(m, "old", first.Token), NewKey: []byte("new"), SetUser: true, User: []byte("bob")}, done)
		})
		if err != nil || out.Token.Counter == 0 || out.Token.SameGrant(first.Token) || out.Token.Index != out.Version {
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

func TestUnconfiguredClusterRefusesNodes(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		if _, _, err := r.Join(context.Background(), &wire.Join{Generation: 1, Low: 1}, &testConn{}); !wire.Is(err, wire.ErrBadRequest) {
			t.Errorf("the zero node: %v", err)
		}
	})
}
