package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// twins are two stores with the same log, of which only one is drained.
type twins struct {
	s, quiet *Store
	seq      uint64
}

func startTwins(t interface {
	Fatalf(string, ...any)
	Cleanup(func())
}, offheap uint64, segments int) *twins {
	w := &twins{s: newStore(t), quiet: newStore(t)}
	w.apply(0, AppendConfigure(nil, testCluster(offheap)))
	w.apply(0, AppendOpen(nil, &wire.Open{Dataset: shop, LockMode: []byte("none"), Concurrency: segments}))
	w.apply(0, AppendJoin(nil, &wire.Join{Node: nodeA, Generation: 1, Low: 1}))
	return w
}

func (w *twins) apply(later Time, op []byte) wire.Outcome {
	now := w.s.Now() + later
	w.quiet.Apply(now, op)
	return w.s.Apply(now, op)
}

func (w *twins) write(key string) wire.Write {
	w.seq++
	return wire.Write{Dataset: shop, Key: []byte(key), Node: nodeA, Seq: w.seq, Low: w.seq,
		Token: wire.Token{Term: 1, Counter: 1, Index: w.s.Index()}}
}

// set makes a session of n bytes, or rewrites it.
func (w *twins) set(key string, n int) {
	attrs := []wire.Attribute{{Name: []byte("v"), Value: bytes.Repeat([]byte{byte(w.seq)}, n)}}
	if out := w.apply(1, AppendCommit(nil, &wire.Commit{Write: w.write(key), Idle: wire.KeepIdle, Set: attrs})); out.Err != nil {
		w.apply(1, AppendCreate(nil, &wire.Create{Write: w.write(key), Idle: time.Hour, Set: attrs}))
	}
}

var drainKeys = []string{"k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9", "ka", "kb"}

// change applies something to a few sessions; blocks of a snapshot are so small beside
// them that it comes between any two.
func (w *twins) change(t *rapid.T) {
	key := rapid.SampledFrom(drainKeys)
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		switch k := key.Draw(t, "key"); rapid.IntRange(0, 9).Draw(t, "what") {
		default:
			w.set(k, rapid.SampledFrom([]int{10, 11, 3000, 20_000, 33_000, 33_001}).Draw(t, "size"))
		case 0:
			w.apply(1, AppendInvalidate(nil, &wire.Invalidate{Write: w.write(k), Reason: []byte("logout")}))
		case 1:
			w.apply(1, AppendRenew(nil, &wire.Renew{Write: w.write(k), NewKey: []byte(key.Draw(t, "to")), Grace: time.Second}))
		case 2:
			w.apply(1, AppendTouch(nil, shop, []Touch{{[]byte(k), w.s.Now()}}))
		case 3:
			w.apply(ms(2*time.Hour), AppendExpire(nil, shop, [][]byte{[]byte(k)}))
		case 4:
			w.apply(ms(time.Hour), AppendPrune(nil, 3))
		}
	}
}

// between calls f before each write.
type between struct {
	w io.Writer
	f func()
}

func (b between) Write(p []byte) (int, error) {
	b.f()
	return b.w.Write(p)
}

// A snapshot that is drained has the bytes of its moment, whatever is applied at each step of it,
// whichever others are taken, drained and released meanwhile; the store has those of its log; and
// what is let go of is given back once.
func TestLawDrainedSnapshotsAreOfOneMoment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startTwins(t, 1<<24, 2)
		for _, k := range drainKeys {
			w.set(k, rapid.SampledFrom([]int{10, 3000, 33_000}).Draw(t, "size"))
		}
		depth := 0
		var drain func()
		step := func() {
			w.change(t)
			switch what := rapid.IntRange(0, 15).Draw(t, "meanwhile"); {
			case what == 0 && depth < 2:
				drain()
			case what == 1:
				n := w.s.Snapshot()
				defer n.Release()
				w.change(t)
			case what == 2:
				if fault := w.s.fault(); fault != "" {
					t.Fatalf("%s", fault)
				}
			}
		}
		drain = func() {
			depth++
			defer func() { depth-- }()
			want := snapshotOf(t, w.quiet)
			n := w.s.Snapshot()
			defer n.Release()
			w.change(t)
			var got bytes.Buffer
			if _, err := n.Drain(between{&got, step}); err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("a snapshot that was drained is not that of its moment (%v)", err)
			}
			if _, err := n.Drain(io.Discard); err != errDrained {
				t.Fatalf("it was drained twice (%v)", err)
			}
		}
		for range rapid.IntRange(1, 2).Draw(t, "snapshots") {
			drain()
		}
		if !bytes.Equal(snapshotOf(t, w.s), snapshotOf(t, w.quiet)) {
			t.Fatalf("the store is not what its log makes")
		}
		if m := w.s.Memory(); m.Held != 0 || m.Used != w.quiet.Memory().Used {
			t.Fatalf("%+v; the other store has %+v", m, w.quiet.Memory())
		}
	})
}

// Behind what was written nothing is held, though the snapshot is.
func TestChangesBehindADrainedSnapshotHoldNothing(t *testing.T) {
	w := startTwins(t, 1<<24, 2)
	for i := range 200 {
		w.set(fmt.Sprint("k", i), 5000)
	}
	n := w.s.Snapshot()
	defer n.Release()
	for i := range 100 {
		w.set(fmt.Sprint("k", i), 6000)
	}
	if held := w.s.Memory().Held; held < 100*5000 {
		t.Fatalf("%d bytes are held: this test shows nothing", held)
	}
	if _, err := n.Drain(io.Discard); err != nil {
		t.Fatal(err)
	}
	if held := w.s.Memory().Held; held != 0 {
		t.Errorf("%d bytes are held that were written", held)
	}
	for i := range 200 {
		w.set(fmt.Sprint("k", i), 7000)
	}
	if held := w.s.Memory().Held; held != 0 {
		t.Errorf("%d bytes are held of what was changed behind it", held)
	}
}

// Whoever is slow: older forms take no more than they may, and a block.
func TestHeldMemoryIsBounded(t *testing.T) {
	const size = 200_000
	w := startTwins(t, 64*heldLeast, 2)
	w.s.st.Load().heldLimit.Store(10 * size)
	for i := range 100 {
		w.set(fmt.Sprint("k", i), size-i*100)
	}
	n := w.s.Snapshot()
	defer n.Release()
	want := snapshotOf(t, w.quiet)
	i, waits, most := 0, 0, uint64(0)
	var got bytes.Buffer
	_, err := n.Drain(between{&got, func() {
		for range 3 {
			if w.s.Crowded() {
				waits++
				return
			}
			w.set(fmt.Sprint("k", i*37%100), size-i*777%10_000)
			i++
			most = max(most, w.s.Memory().Held)
		}
	}})
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("the snapshot is not that of its moment (%v)", err)
	}
	if may := w.s.MayHold(); waits == 0 || i < 100 || most < may || most > may+uint64(blockBytes(size+1000)) {
		t.Errorf("%d bytes were held of %d at most; %d changes, waited %d times", most, may, i, waits)
	}
	if w.s.Crowded() || w.s.Hurried() {
		t.Error("a snapshot that was written is in the way")
	}
}

// Who stands still is given up, and gives back what it held before it notices;
// who gets on, or was only just taken, is not.
func TestASnapshotThatStandsStillIsGivenUp(t *testing.T) {
	w := startTwins(t, 1<<24, 2)
	for i := range 100 {
		w.set(fmt.Sprint("k", i), 10_000)
	}
	n, calls := w.s.Snapshot(), 0
	defer n.Release()
	size, err := n.Drain(between{io.Discard, func() {
		switch calls++; calls {
		case 5:
			for i := range 100 {
				w.set(fmt.Sprint("k", i), 12_000)
			}
			if given := w.s.GiveUp(1); given != 0 {
				t.Error("it was given up at the first look")
			}
		case 6:
			if given := w.s.GiveUp(1); given != 0 {
				t.Error("it was given up, and had got on")
			}
			later := w.s.Snapshot()
			defer later.Release()
			if given := w.s.GiveUp(1); given != 1 || w.s.Memory().Held != 0 {
				t.Errorf("%d were given up, and %d bytes are held", given, w.s.Memory().Held)
			}
			if fault := w.s.fault(); fault != "" {
				t.Error(fault)
			}
		default:
			if calls > 6 {
				t.Error("it went on")
			}
		}
	}})
	if !errors.Is(err, ErrGivenUp) || size == 0 {
		t.Errorf("%d bytes, %v", size, err)
	}
	if _, err := n.WriteTo(io.Discard); err == nil {
		t.Error("it can be written")
	}
	if !bytes.Equal(snapshotOf(t, w.s), snapshotOf(t, w.quiet)) {
		t.Error("the store is not what its log makes")
	}
}

// A snapshot that is given up before its first session was written does not look for one: the memory has gone.
func TestASnapshotIsGivenUpAtItsStart(t *testing.T) {
	w := startTwins(t, 1<<24, 2)
	for i := range 100 {
		w.set(fmt.Sprint("k", i), 10_000)
	}
	n := w.s.Snapshot()
	_, err := n.Drain(between{io.Discard, func() { n.giveUp(); w.s.st.Load().free() }})
	if !errors.Is(err, ErrGivenUp) {
		t.Error(err)
	}
}

// However sessions are rewritten, to whatever sizes, and however slow the snapshots: what may be
// resident is bounded as operators are told. Nobody waits here but for room.
func TestMostMemoryHoldsWhileSessionsAreRewritten(t *testing.T) {
	const offheap, sessions, segments = 24 << 20, 10_000, 8
	held := uint64(offheap / heldShare)
	w := startTwins(t, offheap, segments)
	w.s.st.Load().heldLimit.Store(held)
	most := mostMemory(offheap, held, segments) + segments*(compactSlack+looseLeast)
	i, peak, refused := 0, uint64(0), 0
	rewrite := func(n int) {
		for range n {
			if w.s.Crowded() {
				return
			}
			// Waves: all are small, all are large, and every mixture between them.
			size := 200 + i/sessions*1900%3500 + i*7919%700
			before := w.s.Offheap()[0].Used
			w.set(fmt.Sprint("key-", i*3571%sessions), size)
			if w.s.Offheap()[0].Used == before {
				refused++
			}
			i++
			if i%16 == 0 {
				m := w.s.Memory()
				if peak = max(peak, m.Resident); m.Resident > most {
					t.Fatalf("after %d changes %d bytes may be resident, more than %d: %+v", i, m.Resident, most, m)
				}
			}
		}
	}
	rewrite(sessions)
	for i < 5*sessions {
		n := w.s.Snapshot()
		if _, err := n.Drain(between{io.Discard, func() { rewrite(200) }}); err != nil {
			t.Fatal(err)
		}
		n.Release()
		rewrite(1000)
	}
	t.Logf("%d KiB at most of %d, of %d accounted; %d changes were refused", peak>>10, most>>10, offheap>>10, refused)
	if refused == 0 || peak < offheap+held {
		t.Error("it was never full: this test shows nothing")
	}
}

// What a snapshot has written is moved together, though it is still held.
func TestBlocksBehindADrainedSnapshotAreMovedTogether(t *testing.T) {
	w := startTwins(t, 64<<20, 1)
	key := func(i int) string { return fmt.Sprint("key-", i) }
	for i := range 10_000 {
		w.set(key(i), 500+i%1000)
	}
	n := w.s.Snapshot()
	defer n.Release()
	if _, err := n.Drain(io.Discard); err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		if i%8 != 0 {
			w.apply(1, AppendInvalidate(nil, &wire.Invalidate{Write: w.write(key(i)), Reason: []byte("x")}))
		}
	}
	a := &w.s.st.Load().sortedDatasets()[0].segments[0].arena
	if a.taken > a.used+a.used/compactShare+2*compactSlack {
		t.Errorf("%d bytes are used of %d", a.used, a.taken)
	}
}

// A snapshot that is taken while another is released keeps what is changed before the other is gone.
func TestASnapshotTakenWhileAnotherIsReleased(t *testing.T) {
	w := startTwins(t, 1<<24, 2)
	for i := range 20 {
		w.set(fmt.Sprint("k", i), 1000)
	}
	d := w.s.st.Load().sortedDatasets()[0]
	older := w.s.Snapshot()
	d.segments[0].mu.RLock() // there the release waits
	released := make(chan struct{})
	go func() {
		older.Release()
		close(released)
	}()
	for len(d.segments[0].epochs.list()) > 0 {
		runtime.Gosched()
	}
	newer := w.s.Snapshot()
	defer newer.Release()
	want := snapshotOf(t, w.quiet)
	for i := range 20 {
		if k := fmt.Sprint("k", i); d.segment([]byte(k)) == &d.segments[1] {
			w.set(k, 2000)
		}
	}
	d.segments[0].mu.RUnlock()
	<-released
	if fault := w.s.fault(); fault != "" {
		t.Error(fault)
	}
	var got bytes.Buffer
	if _, err := newer.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the snapshot is not that of its moment (%v)", err)
	}
}

// Likewise while another is being written.
func TestASnapshotTakenWhileAnotherIsWritten(t *testing.T) {
	w := startTwins(t, 1<<24, 1)
	for i := range 20 {
		w.set(fmt.Sprint("k", i), 1000)
	}
	g := &w.s.st.Load().sortedDatasets()[0].segments[0]
	for range 20 {
		older, writes := w.s.Snapshot(), make(chan struct{}, 100)
		g.mu.Lock() // what was written is not let go of before
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = older.Drain(between{io.Discard, func() { writes <- struct{}{} }})
		}()
		for len(writes) < 3 { // the last of them before the sessions are let go of
			runtime.Gosched()
		}
		for range 1000 {
			runtime.Gosched()
		}
		newer := w.s.Snapshot()
		var want, got bytes.Buffer
		if _, err := newer.WriteTo(&want); err != nil {
			t.Fatal(err)
		}
		for i := range 20 { // an access, say
			h := hash(fmt.Append(nil, "k", i))
			b, at := g.look(h, fmt.Append(nil, "k", i))
			g.touch(h, b, at, b.lastAccess()+1)
		}
		g.mu.Unlock()
		<-drained
		if _, err := newer.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("the snapshot is not that of its moment (%v)", err)
		}
		older.Release()
		newer.Release()
	}
}
