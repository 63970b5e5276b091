package store

import (
	"bytes"
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
