package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func (r *rig) used() uint64 { return r.Offheap()[0].Used }

func TestWriteThatDoesNotFitChangesNothing(t *testing.T) {
	r := newRig(t, 16<<10)
	empty := r.used()
	r.ok(r.create(nodeA, "s", "", time.Minute, 0, "a", "1"))
	big := strings.Repeat("x", 16<<10)
	before, used := r.look("s"), r.used()
	r.now += 1000
	for _, out := range []wire.Outcome{
		r.set(nodeA, "s", r.ticket("s"), "a", "2", "b", big),
		r.create(nodeA, "s2", "ann", 0, 0, "b", big),
	} {
		r.refused(wire.ErrOutOfOffheap, out)
		if !strings.Contains(out.Err.Text, `"offheap-1"`) || !strings.Contains(out.Err.Text, "16384") {
			t.Fatalf("the refusal names neither resource nor size: %v", out.Err)
		}
	}
	if r.look("s") != before || r.used() != used {
		t.Fatalf("a refused write changed something: %s, %d bytes of %d", r.look("s"), r.used(), used)
	}
	_ = r.View(shop, []byte("s"), func(rec *Record) {
		if rec.LastAccess != 1000 {
			t.Fatalf("a refused commit was an access")
		}
	})
	r.shows("s2", "SESSIONUNKNOWN no session has this key")
	if list, _ := r.UserSessions(shop, []byte("ann"), 1); len(list) != 0 {
		t.Fatal("a refused create is in the user's list")
	}
	// The other resource is another budget.
	r.ok(r.apply(AppendOpen(nil, &wire.Open{Dataset: []byte("two"), Offheap: []byte("offheap-2"), LockMode: []byte("none"), Concurrency: 1})))
	w := r.write(nodeA, "s", wire.Token{})
	w.Dataset = []byte("two")
	r.ok(r.apply(AppendCreate(nil, &wire.Create{Write: w, Set: attrs("a", big[:8<<10])})))
	// Ending gives everything back, byte for byte, once the tombstone is gone.
	r.ok(r.invalidate(nodeA, "s", "logout"))
	r.now += ms(tombstoneLife)
	r.ok(r.apply(AppendPrune(nil, 10)))
	if r.used() != empty {
		t.Fatalf("%d bytes are accounted for nothing", r.used()-empty)
	}
}

func TestLastByteFits(t *testing.T) {
	r := newRig(t, 16<<10)
	r.ok(r.create(nodeA, "s", "", 0, 0, "a", ""))
	room := int(r.Offheap()[0].Size - r.used())
	r.refused(wire.ErrOutOfOffheap, r.set(nodeA, "s", r.ticket("s"), "a", strings.Repeat("x", room+1)))
	r.ok(r.set(nodeA, "s", r.ticket("s"), "a", strings.Repeat("x", room)))
	if o := r.Offheap()[0]; o.Used != o.Size {
		t.Fatalf("%d of %d bytes are used", o.Used, o.Size)
	}
	r.ok(r.set(nodeA, "s", r.ticket("s"), "a", strings.Repeat("y", room))) // as much again is no more
}

func TestFormulaIsAsDocumented(t *testing.T) {
	r := newRig(t, 1<<20)
	at := r.used()
	if at != 4096+4*256 {
		t.Fatalf("an empty dataset counts %d", at)
	}
	step := func(what string, want int, out wire.Outcome) {
		t.Helper()
		r.ok(out)
		if got := int(r.used()) - int(at); got != want {
			t.Fatalf("%s counts %d; want %d", what, got, want)
		}
		at = r.used()
	}
	step("a session", 192+3, r.create(nodeA, "key", "", 0, 0))
	step("an attribute", 48+4+5, r.set(nodeA, "key", r.ticket("key"), "name", "value"))
	step("a longer value", 3, r.set(nodeA, "key", r.ticket("key"), "name", "value123"))
	step("a removal", -8, r.remove(nodeA, "key", r.ticket("key"), "name"))
	step("a set after it", 8, r.set(nodeA, "key", r.ticket("key"), "name", "value123"))
	step("a stub of nothing", 48+5, r.remove(nodeA, "key", r.ticket("key"), "other"))
	step("a user and an alias", 32+3+128+3+4+1, r.renew(nodeA, "key", "key2", time.Second, "ann"))
	step("an end", -(192+4+32+3+48+12+48+5)+64+4+6-(128+3+4)+64+3+6, r.invalidate(nodeA, "key2", "logout"))
}

// A full resource must not keep anybody logged in.
func TestFullResourceRefusesNoEnd(t *testing.T) {
	r := newRig(t, 16<<10)
	reason := strings.Repeat("r", wire.MaxReason)
	n := 0
	for ; ; n++ {
		out := r.create(nodeA, fmt.Sprint(n), "", time.Second, 0)
		if out.Err == nil {
			out = r.renew(nodeA, fmt.Sprint(n), fmt.Sprintf("n%d", n), time.Hour)
		}
		if out.Err != nil {
			r.refused(wire.ErrOutOfOffheap, out)
			break
		}
	}
	for i := range n {
		if i%2 == 0 {
			r.ok(r.invalidate(nodeA, fmt.Sprint(i), reason))
		}
	}
	r.now += 1000
	r.due(true)
	if r.Datasets()[0].Sessions != 0 {
		t.Fatal("sessions are left")
	}
}

func TestUnconfiguredStoreSaysSo(t *testing.T) {
	s := newStore(t)
	w := wire.Write{Dataset: shop, Key: []byte("s"), Node: nodeA, Seq: 1, Low: 1}
	for _, op := range [][]byte{
		AppendOpen(nil, &wire.Open{Dataset: shop, LockMode: []byte("none")}),
		AppendJoin(nil, &wire.Join{Node: nodeA, Generation: 1, Low: 1}),
		AppendLeave(nil, nodeA),
		AppendCreate(nil, &wire.Create{Write: w}),
		AppendCommit(nil, &wire.Commit{Write: w}),
		AppendInvalidate(nil, &wire.Invalidate{Write: w, Reason: []byte("x")}),
		AppendRenew(nil, &wire.Renew{Write: w, NewKey: []byte("t")}),
		AppendTouch(nil, shop, nil),
		AppendExpire(nil, shop, nil),
		AppendPrune(nil, 1),
	} {
		if out := s.Apply(1, op); out.Err == nil || out.Err.Word != wire.ErrUnconfigured || !strings.Contains(out.Err.Text, "cluster-tool configure") {
			t.Fatalf("operation %x: %v", op, out.Err)
		}
	}
	if err := s.View(shop, []byte("s"), nil); err == nil || err.Word != wire.ErrUnconfigured {
		t.Fatal(err)
	}
	if s.Cluster() != nil || s.Offheap() != nil || s.Datasets() != nil || len(s.Nodes()) != 0 {
		t.Fatal("an unconfigured store shows something")
	}
	if s.Index() != 10 {
		t.Fatalf("index %d", s.Index())
	}
}

func TestConfigureOnce(t *testing.T) {
	s := newStore(t)
	configure := func(change func(*wire.Cluster)) *wire.Error {
		c := testCluster(1 << 20)
		change(c)
		return s.Apply(1, AppendConfigure(nil, c)).Err
	}
	for what, change := range map[string]func(*wire.Cluster){
		"no name":              func(c *wire.Cluster) { c.Name = "" },
		"no stripe":            func(c *wire.Cluster) { c.Stripes = nil },
		"another's stripe":     func(c *wire.Cluster) { c.Stripe = 1 },
		"negative stripe":      func(c *wire.Cluster) { c.Stripe = -1 },
		"resource named twice": func(c *wire.Cluster) { c.Stripes[0].OffheapResources[1].Name = "offheap-1" },
	} {
		if err := configure(change); err == nil || err.Word != wire.ErrBadRequest || s.Cluster() != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	same := func(*wire.Cluster) {}
	if err := configure(same); err != nil {
		t.Fatal(err)
	}
	before := snapshotOf(t, s)
	if err := configure(same); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	for what, c := range map[string]struct {
		change func(*wire.Cluster)
		word   wire.Word
	}{
		"another name":          {func(c *wire.Cluster) { c.Name = "Other" }, wire.ErrConfigured},
		"another licence":       {func(c *wire.Cluster) { c.License = "x" }, wire.ErrConfigured},
		"another configuration": {func(c *wire.Cluster) { c.Stripes[0].OffheapResources[0].Size++ }, wire.ErrConflict},
	} {
		if err := configure(c.change); err == nil || err.Word != c.word || !strings.Contains(err.Text, `"MyCluster"`) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	after := newStore(t)
	if err := after.Restore(strings.NewReader(string(before))); err != nil {
		t.Fatal(err)
	}
	after.st.Load().index.Store(s.Index())
	if string(snapshotOf(t, after)) != string(snapshotOf(t, s)) {
		t.Fatal("a refused configuration changed the store")
	}
	if c := s.Cluster(); c.Name != "MyCluster" || c.License != "<a licence/>" {
		t.Fatalf("%+v", c)
	}
}

func TestOpenAgreesOrSaysWhatDiffers(t *testing.T) {
	r := newRig(t, 1<<20)
	open := func(o wire.Open) *wire.Error {
		if o.LockMode == nil {
			o.LockMode = []byte("none")
		}
		return r.apply(AppendOpen(nil, &o)).Err
	}
	name := []byte("app")
	if err := open(wire.Open{Dataset: name, Tags: []byte("eu,web")}); err != nil {
		t.Fatal(err)
	}
	want := wire.DatasetStatus{Name: "app", Offheap: "offheap-1", Disk: "PLATFORM", Segments: chosenSegments,
		LockMode: "none", Tags: "eu,web", Bytes: datasetCost + chosenSegments*segmentCost}
	if got := r.Datasets()[0]; got != want {
		t.Fatalf("%+v", got)
	}
	for _, o := range []wire.Open{{Dataset: name}, {Dataset: name, Offheap: []byte("offheap-1"), Disk: []byte("PLATFORM"), Concurrency: chosenSegments}} {
		if err := open(o); err != nil {
			t.Fatalf("the same again: %v", err)
		}
	}
	for says, o := range map[string]wire.Open{
		"off-heap resource": {Dataset: name, Offheap: []byte("offheap-2")},
		"disk resource":     {Dataset: name, Disk: []byte("dataroot-1")},
		"lock mode":         {Dataset: name, LockMode: []byte("session")},
		"concurrency":       {Dataset: name, Concurrency: 7},
	} {
		if err := open(o); err == nil || err.Word != wire.ErrConflict || !strings.Contains(err.Text, says) {
			t.Fatalf("%s: %v", says, err)
		}
	}
	for says, o := range map[string]wire.Open{
		`off-heap resource "nope"`: {Dataset: []byte("x"), Offheap: []byte("nope")},
		`data directory "nope"`:    {Dataset: []byte("x"), Disk: []byte("nope")},
	} {
		if err := open(o); err == nil || err.Word != wire.ErrNoResource || !strings.Contains(err.Text, says) {
			t.Fatalf("%s: %v", says, err)
		}
	}
	if err := open(wire.Open{Dataset: []byte("x"), Concurrency: wire.MaxConcurrency}); err == nil || err.Word != wire.ErrOutOfOffheap {
		t.Fatalf("segments for a whole resource: %v", err)
	}
	if len(r.Datasets()) != 2 || r.Datasets()[0].Tags != "eu,web" {
		t.Fatalf("%+v", r.Datasets())
	}
}

func TestDatasetsAreBounded(t *testing.T) {
	r := newRig(t, 1<<30)
	for i := range maxDatasets + 10 {
		out := r.apply(AppendOpen(nil, &wire.Open{Dataset: fmt.Appendf(nil, "d%d", i), LockMode: []byte("none"), Concurrency: 1}))
		if out.Err != nil {
			r.refused(wire.ErrConflict, out)
		}
	}
	if n := len(r.Datasets()); n != maxDatasets {
		t.Fatalf("%d datasets", n)
	}
}

func TestLogTimeNeverGoesBack(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0))
	r.now = 50
	r.ok(r.create(nodeA, "t", "", 0, 0))
	if r.Store.Now() != 1000 {
		t.Fatalf("log time %d", r.Store.Now())
	}
	_ = r.View(shop, []byte("t"), func(rec *Record) {
		if rec.Created != 1000 {
			t.Fatalf("created at %d", rec.Created)
		}
	})
}
