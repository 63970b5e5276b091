package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func ms(d time.Duration) Time { return Time(d / time.Millisecond) }

// due returns how many sessions are due, and expires them if asked.
func (r *rig) due(expire bool) (n int) {
	r.Helper()
	list, _ := r.Due(r.now, 1000)
	for _, d := range list {
		n += len(d.Keys)
		if expire {
			r.ok(r.apply(AppendExpire(nil, d.Dataset, d.Keys)))
		}
	}
	return n
}

func (r *rig) expireNow(key string) bool {
	r.Helper()
	return r.ok(r.apply(AppendExpire(nil, shop, [][]byte{[]byte(key)}))).Existed
}

func TestExpiryBeforeAndAfterTouch(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", time.Minute, 0))
	start := r.now
	r.now = start + ms(time.Minute) - 1
	if r.due(false) != 0 || r.expireNow("s") {
		t.Fatal("the session expired early")
	}
	// The active saw an access at 40 s and proposes it late, with the expiry behind it.
	r.now = start + ms(time.Minute)
	if r.due(false) != 1 {
		t.Fatal("the session is not due")
	}
	r.ok(r.apply(AppendTouch(nil, shop, []Touch{{[]byte("s"), start + ms(40*time.Second)}})))
	if r.expireNow("s") || r.due(false) != 0 {
		t.Fatal("an accessed session expired")
	}
	// An older access changes nothing, one from the future counts as now.
	r.ok(r.apply(AppendTouch(nil, shop, []Touch{{[]byte("s"), start}, {[]byte("nobody"), start}})))
	r.now = start + ms(100*time.Second) - 1
	if r.due(false) != 0 {
		t.Fatal("an older access counted")
	}
	r.ok(r.apply(AppendTouch(nil, shop, []Touch{{[]byte("s"), r.now + 1<<40}})))
	r.now += ms(time.Minute)
	if r.due(true) != 1 {
		t.Fatal("an access from the future kept the session alive")
	}
	r.shows("s", "SESSIONGONE expired")
	r.refused(wire.ErrSessionGone, r.set(nodeA, "s", wire.Token{}, "a", "1"))
}

func TestCommitIsAnAccess(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", time.Minute, 0))
	r.now += ms(50 * time.Second)
	r.ok(r.set(nodeA, "s", r.ticket("s")))
	r.now += ms(50 * time.Second)
	if r.due(true) != 0 {
		t.Fatal("a used session expired")
	}
	r.now += ms(10 * time.Second)
	if r.due(true) != 1 {
		t.Fatal("an idle session did not expire")
	}
}

func TestAbsoluteTimeoutHoldsWhateverTheUse(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", time.Minute, 2*time.Minute))
	for range 3 {
		r.now += ms(30 * time.Second)
		r.ok(r.set(nodeA, "s", r.ticket("s")))
		if r.due(true) != 0 {
			t.Fatal("expired early")
		}
	}
	r.ok(r.renew(nodeA, "s", "s2", 0)) // nor does a new key start it again
	r.now += ms(30 * time.Second)
	if r.due(true) != 1 {
		t.Fatal("outlived its absolute timeout")
	}
	r.shows("s2", "SESSIONGONE expired")
}

func TestShorterIdleTimeoutIsFoundInTime(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", time.Hour, 0))
	r.ok(r.create(nodeA, "t", "", 0, 0))
	for _, key := range []string{"s", "t"} {
		r.ok(r.apply(AppendCommit(nil, &wire.Commit{Write: r.write(nodeA, key, wire.Token{}), Idle: time.Second})))
	}
	r.now += 1000
	if n := r.due(true); n != 2 {
		t.Fatalf("%d are due", n)
	}
}

func TestDueIsBoundedAndFindsAllInTheEnd(t *testing.T) {
	r := newRig(t, 64<<20)
	const sessions = 10_000
	for i := range sessions {
		r.Apply(r.now, AppendCreate(nil, &wire.Create{Idle: time.Minute, Write: wire.Write{
			Dataset: shop, Key: fmt.Appendf(nil, "s%d", i), Node: nodeA, Seq: uint64(i + 1), Low: uint64(i + 1)}}))
	}
	// All are accessed once: the queue is stale throughout.
	r.now += ms(30 * time.Second)
	var list []Touch
	for i := range sessions {
		list = append(list, Touch{fmt.Appendf(nil, "s%d", i), r.now})
	}
	r.ok(r.apply(AppendTouch(nil, shop, list)))
	r.now += ms(30 * time.Second)
	r.due(false)
	for i := range r.st.Load().sortedDatasets()[0].segments {
		if g := &r.st.Load().sortedDatasets()[0].segments[i]; len(g.due.s) > lookAhead && g.due.s[0].at > r.now {
			t.Fatalf("one look went through all %d sessions of a segment", len(g.due.s))
		}
	}
	for range sessions/lookAhead + 2 {
		if n := r.due(false); n != 0 {
			t.Fatalf("%d accessed sessions are due", n)
		}
	}
	r.now += ms(30 * time.Second)
	seen := 0
	for rounds := 0; seen < sessions; rounds++ {
		n := r.due(true)
		if n > 1000 || rounds > 100 {
			t.Fatalf("round %d: %d are due", rounds, n)
		}
		seen += n
	}
	if n := r.Datasets()[0].Sessions; n != 0 || r.due(false) != 0 {
		t.Fatalf("%d sessions are left", n)
	}
}

func TestOldKeyLeadsOnForItsGrace(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "old", "", 0, 0, "a", "1"))
	tok := r.ticket("old")
	out := r.ok(r.apply(AppendRenew(nil, &wire.Renew{Write: r.write(nodeA, "old", tok), NewKey: []byte("new"), Grace: 5 * time.Second})))
	if out.Version != r.Index() || out.Token != tok {
		t.Fatalf("outcome %+v", out)
	}
	r.shows("old", "a=1")
	r.shows("new", "a=1")
	_ = r.View(shop, []byte("old"), func(rec *Record) {
		if string(rec.Key) != "new" {
			t.Fatalf("the old key shows key %q", rec.Key)
		}
	})
	r.ok(r.set(nodeB, "old", r.ticket("old"), "a", "2"))
	r.shows("new", "a=2")
	r.refused(wire.ErrSessionExists, r.create(nodeB, "old", "", 0, 0))
	r.refused(wire.ErrSessionExists, r.renew(nodeB, "old", "new", 0))
	// Of parallel rotations the first counts: a second one through the old key is refused.
	r.now += 1000
	r.refused(wire.ErrSessionGone, r.renew(nodeB, "old", "newer", time.Hour))
	r.shows("old", "a=2")
	r.ok(r.renew(nodeB, "new", "newer", time.Hour))
	for _, key := range []string{"old", "new", "newer"} {
		r.shows(key, "a=2")
	}
	// Each old key keeps to the grace that it had.
	r.now += 4000
	r.ok(r.apply(AppendTouch(nil, shop, nil)))
	r.shows("old", "SESSIONGONE renewed")
	r.shows("new", "a=2")
	r.refused(wire.ErrSessionGone, r.set(nodeA, "old", tok, "a", "3"))
	// Ending through an old key ends all.
	r.ok(r.invalidate(nodeA, "new", "logout"))
	r.shows("newer", "SESSIONGONE logout")
	r.shows("new", "SESSIONGONE logout")
	r.shows("old", "SESSIONGONE renewed")
}

func TestRenewalWithoutGraceEndsEveryOlderKey(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "planted", "", 0, 0, "a", "1"))
	r.ok(r.renew(nodeA, "planted", "rotated", time.Hour))
	r.ok(r.renew(nodeA, "rotated", "mine", 0, "ann")) // login
	r.shows("planted", "SESSIONGONE renewed")
	r.shows("rotated", "SESSIONGONE renewed")
	r.shows("mine", "a=1")
	r.refused(wire.ErrSessionGone, r.renew(nodeB, "planted", "again", 0))
	r.refused(wire.ErrSessionExists, r.renew(nodeB, "mine", "planted", 0))
}

func TestOldKeysAreBounded(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "k00", "", 0, 0, "a", "1"))
	for i := range 20 {
		r.now++
		r.ok(r.renew(nodeA, fmt.Sprintf("k%02d", i), fmt.Sprintf("k%02d", i+1), time.Hour))
	}
	for i := range 20 {
		want := "a=1"
		if i < 20-maxAliases {
			want = "SESSIONGONE renewed"
		}
		r.shows(fmt.Sprintf("k%02d", i), want)
	}
	r.now += ms(time.Hour)
	r.ok(r.apply(AppendPrune(nil, 100)))
	if left := r.st.Load().sortedDatasets()[0]; len(left.record("k20").aliases) != 0 {
		t.Fatal("ended old keys are still bound to the session")
	}
	r.shows("k20", "a=1")
	r.now += ms(time.Hour)
	r.ok(r.apply(AppendPrune(nil, 100)))
	r.shows("k19", "SESSIONUNKNOWN no session has this key")
}

func TestTombstonesOutliveTheReconnectWindow(t *testing.T) {
	c := testCluster(1 << 20)
	if got := lifeOf(c); got != tombstoneLife {
		t.Fatalf("%v", got)
	}
	c.Stripes[0].ReconnectWindow = time.Hour
	if got := lifeOf(c); got != time.Hour+longestRequest {
		t.Fatalf("%v", got)
	}
}

func TestUserSessionsOldestFirst(t *testing.T) {
	r := newRig(t, 1<<20)
	for i, key := range []string{"c", "a", "b"} {
		r.now += Time(i)
		r.ok(r.create(nodeA, key, "ann", 0, 0))
	}
	r.ok(r.create(nodeA, "other", "bob", 0, 0))
	r.ok(r.renew(nodeA, "a", "a2", 0))
	r.ok(r.renew(nodeA, "other", "other2", 0, "ann"))
	keys := func(limit int) (s string) {
		list, err := r.UserSessions(shop, []byte("ann"), limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, us := range list {
			s += string(us.Key) + " "
		}
		return s
	}
	if got := keys(10); got != "c a2 b other2 " {
		t.Fatalf("%q", got)
	}
	if got := keys(2); got != "c a2 " {
		t.Fatalf("%q", got)
	}
	r.ok(r.invalidate(nodeA, "c", "logout"))
	r.ok(r.renew(nodeA, "b", "b2", 0, "")) // logged out, but a session
	if got := keys(10); got != "a2 other2 " {
		t.Fatalf("%q", got)
	}
	if _, err := r.UserSessions([]byte("none"), []byte("ann"), 1); err == nil || err.Word != wire.ErrNoDataset {
		t.Fatal(err)
	}
}

// A session that is renewed all the time is found by every reader all the time:
// by its first key, and in the list of its user.
func TestReadersNeverMissASessionThatMoves(t *testing.T) {
	r := newRig(t, 1<<20)
	// Of old keys that end together the last by name is kept longest: that is the first one here.
	r.ok(r.create(nodeA, "z", "ann", 0, 0, "n", "0"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	read := func(f func() error) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := f(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	read(func() error {
		if err := r.View(shop, []byte("z"), func(rec *Record) { _ = rec.Attributes()[0].Value[0] }); err != nil {
			return err
		}
		return nil
	})
	read(func() error {
		if list, err := r.UserSessions(shop, []byte("ann"), 10); err != nil || len(list) != 1 {
			return fmt.Errorf("user has %d sessions (%v)", len(list), err)
		}
		r.Due(Time(1<<50), 10)
		r.Datasets()
		r.Offheap()
		r.Nodes()
		r.Cluster()
		return nil
	})
	from := "z"
	for i := range 1500 {
		to := fmt.Sprintf("k%d", i)
		w := r.write(nodeA, from, wire.Token{})
		w.Low = w.Seq
		r.ok(r.Apply(r.now, AppendRenew(nil, &wire.Renew{Write: w, NewKey: []byte(to), Grace: time.Hour})))
		r.ok(r.set(nodeA, "z", r.ticket("z"), "n", to))
		from = to
	}
	close(stop)
	wg.Wait()
}
