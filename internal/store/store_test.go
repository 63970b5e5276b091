package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

var (
	nodeA = wire.NodeID{0: 1}
	nodeB = wire.NodeID{0: 2}
	shop  = []byte("shop")
)

// rig is a configured store with a dataset and two nodes, and the log that made it so.
type rig struct {
	testing.TB
	*Store
	now   Time
	seq   map[wire.NodeID]uint64
	grant uint64
	log   []logged
}

type logged struct {
	now Time
	op  []byte
}

func testCluster(offheap uint64) *wire.Cluster {
	return &wire.Cluster{
		Name: "MyCluster",
		Stripes: []wire.StripeConfig{{
			Servers:          []wire.ServerConfig{{Name: "tc1", Host: "tc1", Port: 9410, GroupPort: 9430}},
			OffheapResources: []wire.OffheapResource{{Name: "offheap-1", Size: offheap}, {Name: "offheap-2", Size: offheap}},
			DataDirectories:  []wire.DataDirectory{{Name: "PLATFORM", Path: "/p", Platform: true}, {Name: "dataroot-1", Path: "/d"}},
			FailoverPriority: "availability",
		}},
		License: "<a licence/>",
	}
}

func newRig(t testing.TB, offheap uint64) *rig {
	r := &rig{TB: t, Store: newStore(t), now: 1000, seq: map[wire.NodeID]uint64{}}
	r.ok(r.apply(AppendConfigure(nil, testCluster(offheap))))
	r.ok(r.apply(AppendOpen(nil, &wire.Open{Dataset: shop, LockMode: []byte("none"), Concurrency: 4})))
	for _, n := range []wire.NodeID{nodeA, nodeB} {
		r.ok(r.apply(AppendJoin(nil, &wire.Join{Node: n, Generation: 1, Low: 1, Label: []byte("web")})))
	}
	return r
}

func (r *rig) apply(op []byte) wire.Outcome {
	r.log = append(r.log, logged{r.now, slices.Clone(op)})
	before := r.Index()
	out := r.Apply(r.now, op)
	if r.Index() != before+1 {
		r.Fatalf("index went from %d to %d", before, r.Index())
	}
	for i := range op { // the store must have copied what it keeps
		op[i] = 0xAA
	}
	return out
}

func (r *rig) ok(out wire.Outcome) wire.Outcome {
	r.Helper()
	if out.Err != nil {
		r.Fatalf("refused: %v", out.Err)
	}
	return out
}

func (r *rig) refused(word wire.Word, out wire.Outcome) {
	r.Helper()
	if out.Err == nil || out.Err.Word != word {
		r.Fatalf("outcome is %v; want %s", out.Err, word)
	}
}

func (r *rig) write(n wire.NodeID, key string, tok wire.Token) wire.Write {
	r.seq[n]++
	return wire.Write{Dataset: shop, Key: []byte(key), Node: n, Seq: r.seq[n], Low: 1, Token: tok}
}

func attrs(kv ...string) (list []wire.Attribute) {
	for i := 0; i < len(kv); i += 2 {
		list = append(list, wire.Attribute{Name: []byte(kv[i]), Value: []byte(kv[i+1])})
	}
	return list
}

func (r *rig) create(n wire.NodeID, key, user string, idle, absolute time.Duration, kv ...string) wire.Outcome {
	return r.apply(AppendCreate(nil, &wire.Create{Write: r.write(n, key, wire.Token{}), Idle: idle, Absolute: absolute, User: []byte(user), Set: attrs(kv...)}))
}

// ticket is what a load of key at this moment would yield.
func (r *rig) ticket(key string) wire.Token {
	r.Helper()
	r.grant++
	tok := wire.Token{Term: 1, Counter: r.grant}
	if err := r.View(shop, []byte(key), func(rec *Record) { tok.Index = rec.Version }); err != nil {
		r.Fatalf("ticket for %q: %v", key, err)
	}
	return tok
}

func (r *rig) set(n wire.NodeID, key string, tok wire.Token, kv ...string) wire.Outcome {
	return r.apply(AppendCommit(nil, &wire.Commit{Write: r.write(n, key, tok), Idle: wire.KeepIdle, Set: attrs(kv...)}))
}

func (r *rig) remove(n wire.NodeID, key string, tok wire.Token, names ...string) wire.Outcome {
	c := &wire.Commit{Write: r.write(n, key, tok), Idle: wire.KeepIdle}
	for _, name := range names {
		c.Remove = append(c.Remove, []byte(name))
	}
	return r.apply(AppendCommit(nil, c))
}

func (r *rig) invalidate(n wire.NodeID, key, reason string) wire.Outcome {
	return r.apply(AppendInvalidate(nil, &wire.Invalidate{Write: r.write(n, key, wire.Token{}), Reason: []byte(reason)}))
}

func (r *rig) renew(n wire.NodeID, key, to string, grace time.Duration, user ...string) wire.Outcome {
	c := &wire.Renew{Write: r.write(n, key, wire.Token{}), NewKey: []byte(to), Grace: grace}
	if len(user) > 0 {
		c.SetUser, c.User = true, []byte(user[0])
	}
	return r.apply(AppendRenew(nil, c))
}

// look returns "name=value" of the attributes, or the refusal.
func (r *rig) look(key string) string {
	s := ""
	err := r.View(shop, []byte(key), func(rec *Record) {
		for i, at := range rec.Attributes() {
			if i > 0 {
				s += " "
			}
			s += fmt.Sprintf("%s=%s", at.Name, at.Value)
		}
	})
	if err != nil {
		return err.Error()
	}
	return s
}

func (r *rig) shows(key, want string) {
	r.Helper()
	if got := r.look(key); got != want {
		r.Fatalf("%q shows %q; want %q", key, got, want)
	}
}

func (r *rig) snapshot() []byte {
	r.Helper()
	n := r.Store.Snapshot()
	defer n.Release()
	var buf bytes.Buffer
	size, err := n.WriteTo(&buf)
	if err != nil || size != int64(buf.Len()) {
		r.Fatalf("snapshot: %d bytes written, %d announced: %v", buf.Len(), size, err)
	}
	return buf.Bytes()
}

func TestSessionFromCreateToLogout(t *testing.T) {
	r := newRig(t, 1<<20)
	made := r.ok(r.create(nodeA, "s1", "ann", 0, 0, "cart", "book", "lang", "en"))
	if made.Version != r.Index() {
		t.Fatalf("version %d at index %d", made.Version, r.Index())
	}
	r.shows("s1", "cart=book lang=en")
	out := r.ok(r.set(nodeB, "s1", r.ticket("s1"), "cart", "book,cd", "a", ""))
	if out.Version != r.Index() || out.Dropped != nil {
		t.Fatalf("outcome %+v", out)
	}
	r.shows("s1", "a= cart=book,cd lang=en")
	r.ok(r.remove(nodeA, "s1", r.ticket("s1"), "lang"))
	r.shows("s1", "a= cart=book,cd")
	if out := r.ok(r.invalidate(nodeB, "s1", "logout")); !out.Existed {
		t.Fatal("the session did not exist")
	}
	r.shows("s1", "SESSIONGONE logout")
	if out := r.ok(r.invalidate(nodeB, "s1", "again")); out.Existed {
		t.Fatal("the session existed twice")
	}
	r.shows("s1", "SESSIONGONE logout")
	if out := r.ok(r.invalidate(nodeB, "never", "logout")); out.Existed {
		t.Fatal("an unknown session existed")
	}
	r.shows("never", "SESSIONUNKNOWN no session has this key")
}

func TestLateCommitAfterLogoutIsGone(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s1", "", 0, 0, "cart", "book"))
	ticket := r.ticket("s1")
	r.ok(r.invalidate(nodeB, "s1", "logout"))
	late := r.set(nodeA, "s1", ticket, "cart", "cd")
	r.refused(wire.ErrSessionGone, late)
	if late.Err.Text != "logout" {
		t.Fatalf("reason %q", late.Err.Text)
	}
	r.refused(wire.ErrSessionGone, r.create(nodeA, "s1", "", 0, 0))
	r.refused(wire.ErrSessionUnknown, r.set(nodeA, "s2", ticket, "cart", "cd"))
	// For ten minutes of log time, whatever else happens.
	r.now += Time(10*time.Minute/time.Millisecond) - 1
	r.ok(r.apply(AppendPrune(nil, 100)))
	r.refused(wire.ErrSessionGone, r.set(nodeA, "s1", ticket, "cart", "cd"))
	r.now++
	if _, prune := r.Due(r.now, 10); !prune {
		t.Fatal("the tombstone is not due")
	}
	r.ok(r.apply(AppendPrune(nil, 100)))
	r.refused(wire.ErrSessionUnknown, r.set(nodeA, "s1", ticket, "cart", "cd"))
}

// record reads a session that is there.
func (d *dataset) record(key string) *record {
	h := hash([]byte(key))
	b, _ := d.segmentOf(h).look(h, []byte(key))
	r := new(record)
	b.read(r)
	return r
}

// FuzzApply: whatever an operation's bytes are, two stores do the same with
// them, and what comes of it can be restored.
func FuzzApply(f *testing.F) {
	for _, l := range variety(f).log {
		f.Add(l.op)
	}
	f.Add(AppendTouch(nil, shop, []Touch{{[]byte("bob-1"), 1 << 62}}))
	f.Add(AppendExpire(nil, shop, [][]byte{[]byte("bob-1"), []byte("ann-2")}))
	f.Add(AppendPrune(nil, 1000))
	f.Add(AppendLeave(nil, nodeA))
	f.Add(AppendRedisSet(nil, &RedisSet{Key: []byte("k"), Value: []byte("v"), Expires: true, TTL: time.Second}))
	f.Add(AppendRedisDelete(nil, [][]byte{[]byte("k"), []byte("h")}, false))
	f.Add(AppendRedisExpire(nil, &RedisExpire{Key: []byte("k"), TTL: time.Second}))
	f.Add(AppendRedisHSet(nil, []byte("h"), [][]byte{[]byte("a"), []byte("1"), nil, []byte("2")}, false))
	f.Add(AppendRedisHDel(nil, []byte("h"), [][]byte{[]byte("a")}))
	f.Add(AppendRedisRead(nil, &RedisQuery{What: RedisHMGet, Args: [][]byte{[]byte("h"), []byte("a")}}, 100))
	f.Add([]byte(nil))
	start := variety(f).snapshot()
	f.Fuzz(func(t *testing.T, op []byte) {
		a, b := newStore(t), newStore(t)
		if err := errors.Join(a.Restore(bytes.NewReader(start)), b.Restore(bytes.NewReader(start))); err != nil {
			t.Fatal(err)
		}
		for _, now := range []Time{1010, 1 << 41} {
			x, y := a.Apply(now, slices.Clone(op)), b.Apply(now, op)
			if !sameOutcome(x, y) {
				t.Fatalf("%+v, %+v", x, y)
			}
		}
		if o := a.Offheap()[0]; o.Used > o.Size {
			t.Fatalf("%d bytes of %d are used", o.Used, o.Size)
		}
		after := snapshotOf(t, a)
		if !bytes.Equal(after, snapshotOf(t, b)) {
			t.Fatal("snapshots differ")
		}
		c := newStore(t)
		if err := c.Restore(bytes.NewReader(after)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(after, snapshotOf(t, c)) {
			t.Fatal("a restored store differs")
		}
	})
}

// partMark stands for the beginning of a part in what FuzzRestore is given.
var partMark = []byte("\xffpart\xff")
