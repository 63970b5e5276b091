package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// What is freed is overwritten: who reads it all the same finds nonsense.
func TestMain(m *testing.M) {
	poison = 0xDB
	os.Exit(m.Run())
}

// newStore returns a store that is looked through and closed at the end of the test.
func newStore(t interface {
	Fatalf(string, ...any)
	Cleanup(func())
}) *Store {
	s := New()
	t.Cleanup(func() {
		if fault := s.fault(); fault != "" {
			t.Fatalf("the store's memory: %s", fault)
		}
		s.Close()
	})
	return s
}

// fault compares the parts of each segment with each other.
func (s *Store) fault() string {
	kept := uint64(0)
	for _, d := range s.st.Load().sortedDatasets() {
		paired := 0
		for i := range d.segments {
			g := &d.segments[i]
			g.mu.RLock()
			fault, users := g.fault()
			for _, k := range g.kept {
				kept += uint64(blockBytes(g.block(k.r).size()))
			}
			g.mu.RUnlock()
			if fault != "" {
				return fmt.Sprintf("segment %d of %q: %s", i, d.name, fault)
			}
			paired += users
		}
		for _, l := range d.users.leaves {
			paired -= len(l)
		}
		if paired != 0 {
			return fmt.Sprintf("%d sessions with a user are missing in the list", paired)
		}
	}
	if n := s.st.Load().epochs.kept.Load(); n != kept {
		return fmt.Sprintf("%d bytes are kept, and %d are counted", kept, n)
	}
	return ""
}

func (g *segment) fault() (fault string, users int) {
	seen := map[ref]bool{}
	var used, waiting, traces uint64
	n := 0
	g.index.tables(func(t *table) {
		inTable := 0
		for _, s := range t.slots {
			if s == 0 {
				continue
			}
			inTable++
			b := g.block(slotRef(s))
			h := hash(b.key())
			if found, at := g.look(h, b.key()); found == nil || at != slotRef(s) || seen[at] {
				fault = fmt.Sprintf("%q is not found where it is", b.key())
			}
			seen[slotRef(s)] = true
			used += uint64(blockBytes(len(b)))
			if b.kind() == kindTrace {
				traces++
			} else if b.due() > 0 {
				waiting++
			}
			if q := g.queue(b); b.place() >= 0 && q.s[b.place()].r != slotRef(s) || b.place() < 0 && b.due() > 0 {
				fault = fmt.Sprintf("%q is not where it says in the queue", b.key())
			}
			if b.kind() == kindRecord && b.userLen() > 0 {
				users++
			}
		}
		if inTable != t.n {
			fault = fmt.Sprintf("a table counts %d, and holds %d", t.n, inTable)
		}
		n += inTable
	})
	for i, k := range g.kept {
		if at, ok := g.block(k.r).keptAt(); !ok || at != i || g.block(k.r).born() != k.born {
			fault = "a block that is kept does not know its place"
		}
		if seen[k.r] {
			fault = "a block is kept twice"
		}
		seen[k.r] = true
		used += uint64(blockBytes(g.block(k.r).size()))
	}
	loose := uint64(0)
	for _, k := range g.arena.chunks {
		for i, word := range k.loose {
			loose += uint64(bits.OnesCount64(word)) * pageBytes
			if word&k.taken[i] != 0 {
				fault = "a page is taken and free"
			}
		}
	}
	switch {
	case fault != "":
	case loose != g.arena.loose:
		fault = fmt.Sprintf("%d bytes of free pages are kept, and %d are counted", loose, g.arena.loose)
	case n != g.index.n:
		fault = fmt.Sprintf("the index counts %d, and holds %d", g.index.n, n)
	case used != g.arena.used || uint64(len(seen)) != g.arena.blocks:
		fault = fmt.Sprintf("%d blocks with %d bytes are in use, %d with %d are known", g.arena.blocks, g.arena.used, len(seen), used)
	case waiting != uint64(len(g.due.s)) || traces != uint64(len(g.ends.s)):
		fault = fmt.Sprintf("%d and %d wait in the queues, not %d and %d", len(g.due.s), len(g.ends.s), waiting, traces)
	case used > g.arena.mapped:
		fault = "more is in use than was taken"
	}
	return fault, users
}

// The memory of everything that has gone is given back, to the last byte, however
// it came to go and whatever snapshots were held meanwhile.
func TestLawMemoryIsGivenBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t)
		p := lawStart(s)
		var points []*Snapshot
		var want [][]byte
		for i := rapid.IntRange(1, 120).Draw(t, "steps"); i > 0; i-- {
			next := p.draw(t)
			s.Apply(next.now, next.op)
			switch rapid.IntRange(0, 15).Draw(t, "snapshot") {
			case 0:
				points = append(points, s.Snapshot())
				want = append(want, snapshotOf(t, s))
			case 1:
				if len(points) > 0 {
					at := rapid.IntRange(0, len(points)-1).Draw(t, "which")
					var buf bytes.Buffer
					if _, err := points[at].WriteTo(&buf); err != nil || !bytes.Equal(buf.Bytes(), want[at]) {
						t.Fatalf("a snapshot changed under later writes (%v)", err)
					}
					points[at].Release()
					points = append(points[:at], points[at+1:]...)
					want = append(want[:at], want[at+1:]...)
				}
			}
			if i%10 == 0 {
				if fault := s.fault(); fault != "" {
					t.Fatalf("%s", fault)
				}
			}
		}
		for _, n := range points {
			n.Release()
		}
		endAll(s)
		if m := s.Memory(); m != (Memory{}) {
			t.Fatalf("everything has gone, but %+v", m)
		}
	})
}

// endAll ends all sessions and waits for their tombstones' end.
func endAll(s *Store) {
	w := wire.Write{Dataset: shop, Node: wire.NodeID{0: 9}, Low: 1}
	now := s.Now()
	s.Apply(now, AppendJoin(nil, &wire.Join{Node: w.Node, Generation: 1, Low: 1}))
	for _, d := range s.st.Load().sortedDatasets() {
		for i := range d.segments {
			var keys [][]byte
			d.segments[i].index.tables(func(t *table) {
				for _, slot := range t.slots {
					if slot != 0 {
						keys = append(keys, bytes.Clone(d.segments[i].block(slotRef(slot)).key()))
					}
				}
			})
			for _, key := range keys {
				w.Key, w.Seq, w.Low = key, w.Seq+1, w.Seq+1
				s.Apply(now, AppendInvalidate(nil, &wire.Invalidate{Write: w, Reason: []byte("end")}))
			}
		}
	}
	for range 3 { // an old key becomes a tombstone first
		now += ms(time.Hour)
		s.Apply(now, AppendPrune(nil, 1<<30))
	}
}

// A state that Restore or Close replaces is given back when its last snapshot is.
func TestSnapshotOutlivesItsState(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "ann", time.Minute, 0, "a", "1"))
	want := r.snapshot()
	points := []*Snapshot{r.Store.Snapshot(), r.Store.Snapshot()}
	old := r.st.Load()
	if err := r.Restore(bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	r.Store.Close()
	for _, n := range points {
		if old.datasets.Load() == nil || (*old.datasets.Load())["shop"].segments[0].closed {
			t.Fatal("the memory went while a snapshot held it")
		}
		var buf bytes.Buffer
		if _, err := n.WriteTo(&buf); err != nil || !bytes.Equal(buf.Bytes(), want) {
			t.Fatalf("the snapshot changed (%v)", err)
		}
		n.Release()
		n.Release() // as often as one likes
	}
	for i := range (*old.datasets.Load())["shop"].segments {
		if g := &(*old.datasets.Load())["shop"].segments[i]; !g.closed || g.arena.mapped != 0 {
			t.Fatal("the memory was not given back")
		}
	}
	r.refusedView("s", wire.ErrUnconfigured)
}

// What only an older snapshot had goes with it, though a later one is still held.
func TestEachSnapshotHoldsItsOwn(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0, "a", "1"))
	older := r.Store.Snapshot()
	r.ok(r.set(nodeA, "s", r.ticket("s"), "a", "2"))
	later := r.Store.Snapshot()
	if m := r.Memory(); m.Blocks != 2 || m.Held == 0 {
		t.Fatalf("one older form is held: %+v", m)
	}
	r.ok(r.set(nodeA, "s", r.ticket("s"), "a", "3"))
	older.Release()
	if m := r.Memory(); m.Blocks != 2 {
		t.Fatalf("what nobody holds is still there: %+v", m)
	}
	later.Release()
	if m := r.Memory(); m.Blocks != 1 || m.Held != 0 {
		t.Fatalf("what nobody holds is still there: %+v", m)
	}
}

func (r *rig) refusedView(key string, word wire.Word) {
	r.Helper()
	if err := r.View(shop, []byte(key), func(*Record) {}); err == nil || err.Word != word {
		r.Fatalf("%q: %v; want %s", key, err, word)
	}
}

// Whatever sessions grow to and however many end, most of the memory that is taken is used.
func TestMemoryOfManySizesIsMovedTogether(t *testing.T) {
	s := newStore(t)
	apply := func(op []byte) {
		if out := s.Apply(s.Now()+1, op); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	apply(AppendConfigure(nil, testCluster(1<<40)))
	apply(AppendOpen(nil, &wire.Open{Dataset: shop, LockMode: []byte("none"), Concurrency: 1}))
	apply(AppendJoin(nil, &wire.Join{Node: nodeA, Generation: 1, Low: 1}))
	seq := uint64(0)
	write := func(i int) wire.Write {
		seq++
		return wire.Write{Dataset: shop, Key: fmt.Append(nil, "session-", i), Node: nodeA, Seq: seq, Low: seq,
			Token: wire.Token{Term: 1, Counter: 1, Index: s.Index()}}
	}
	value := func(n int) []wire.Attribute { return []wire.Attribute{{Name: []byte("v"), Value: make([]byte, n)}} }
	const sessions = 20_000
	a := &s.st.Load().sortedDatasets()[0].segments[0].arena
	tight := func(when string) {
		t.Helper()
		t.Logf("%s: %d KiB used, %d taken, %d mapped", when, a.used>>10, a.taken>>10, a.mapped>>10)
		if a.taken > a.used+a.used/compactShare+2*compactSlack {
			t.Errorf("%s: %d bytes are used of %d", when, a.used, a.taken)
		}
		if a.loose > a.taken/looseShare+looseLeast {
			t.Errorf("%s: %d bytes of free pages are kept beside %d", when, a.loose, a.taken)
		}
	}
	for i := range sessions {
		apply(AppendCreate(nil, &wire.Create{Write: write(i), Set: value(i % 500)}))
	}
	tight("made")
	for i := range sessions { // in another order, to another size
		apply(AppendCommit(nil, &wire.Commit{Write: write(i * 7919 % sessions), Idle: wire.KeepIdle, Set: value(300 + i*31%700)}))
	}
	tight("grown")
	point := s.Snapshot()
	for i := range sessions {
		if i%8 != 0 {
			apply(AppendInvalidate(nil, &wire.Invalidate{Write: write(i), Reason: []byte("x")}))
		}
	}
	if held := s.Memory().Held; held == 0 || held > a.used {
		t.Errorf("a snapshot holds %d bytes of %d", held, a.used)
	}
	point.Release()
	point = s.Snapshot()
	want, got := sha256.New(), sha256.New()
	if _, err := point.WriteTo(want); err != nil {
		t.Fatal(err)
	}
	if !a.sparse() {
		t.Error("there is nothing to move while a snapshot is held")
	}
	for i := range 100 {
		apply(AppendCommit(nil, &wire.Commit{Write: write(i * 8), Idle: wire.KeepIdle, Set: value(i % 900)}))
	}
	if _, err := point.WriteTo(got); err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Fatalf("the snapshot changed when blocks could be moved (%v)", err)
	}
	point.Release()
	now := s.Now() + ms(tombstoneLife)
	s.Apply(now, AppendPrune(nil, sessions/2)) // half of the tombstones
	for i := range sessions / 8 {
		apply(AppendCommit(nil, &wire.Commit{Write: write(i * 8), Idle: wire.KeepIdle, Set: value(i % 900)}))
		s.Apply(s.Now(), AppendPrune(nil, 2))
	}
	tight("ended")
}
