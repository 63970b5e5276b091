package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// variety is a store with one of everything that a snapshot holds.
func variety(t testing.TB) *rig {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "ann-1", "ann", time.Minute, time.Hour, "cart", "book", "", "unnamed"))
	r.ok(r.create(nodeB, "bob-1", "bob", 0, 0, "cart", strings.Repeat("long ", 100)))
	r.ok(r.remove(nodeB, "ann-1", r.ticket("ann-1"), "cart"))
	tok := r.ticket("bob-1")
	for i := range maxStubs + 3 {
		r.ok(r.remove(nodeB, "bob-1", tok, fmt.Sprintf("gone-%d", i)))
	}
	r.dropped(r.set(nodeA, "ann-1", wire.Token{}, "cart", "late"), "cart")
	r.now += 10
	r.ok(r.renew(nodeA, "ann-1", "ann-2", 5*time.Second))
	r.ok(r.create(nodeA, "short", "", 0, 0))
	r.ok(r.invalidate(nodeB, "short", "logout"))
	r.refused(wire.ErrSessionGone, r.set(nodeB, "short", wire.Token{}, "a", "b"))
	return r
}

// The formats of the log and of snapshots are promises to servers of other versions:
// when this fails, either the change was not meant, or the format version has to rise.
func TestFormatsAreWhatTheyWere(t *testing.T) {
	r := &rig{TB: t, Store: newStore(t)}
	log := sha256.New()
	for _, l := range variety(t).log {
		if kind(l.op[0]) == kindConfigure { // its document may gain fields
			document := `{"name":"MyCluster","stripes":[{"offheap-resources":[{"name":"offheap-1","size":1048576}]}],"stripe":0}`
			l.op = appendBytes(appendBytes([]byte{byte(kindConfigure)}, []byte(document)), []byte("<a licence/>"))
		}
		fmt.Fprintf(log, "%d %x\n", l.now, l.op)
		r.Apply(l.now, l.op)
	}
	if got := hex.EncodeToString(log.Sum(nil)); got != goldenLog {
		t.Errorf("the log's bytes are %s", got)
	}
	snapshot := sha256.Sum256(r.snapshot())
	if got := hex.EncodeToString(snapshot[:]); got != goldenSnapshot {
		t.Errorf("the snapshot's bytes are %s", got)
	}
}

const (
	goldenLog      = "7e34a07255e279fb310dd76f1e315ba950e785af8a3bb322730b015c793f5b32"
	goldenSnapshot = "705ac15ada98d945c73ad52ad01977f39c66e782ee485fa6118d651eb2dbb83a"
)

func TestVarietySurvivesARestore(t *testing.T) {
	r := variety(t)
	good := r.snapshot()
	again := newStore(t)
	if err := again.Restore(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshotOf(t, again), good) {
		t.Fatal("the restored store makes another snapshot")
	}
	if again.st.Load().sortedDatasets()[0].record("bob-1").floor.version == 0 {
		t.Fatal("the variety has no floor")
	}
}

func TestEmptyStoreSnapshots(t *testing.T) {
	s, again := newStore(t), newStore(t)
	if err := again.Restore(bytes.NewReader(snapshotOf(t, s))); err != nil {
		t.Fatal(err)
	}
	if again.Cluster() != nil || again.Index() != 0 {
		t.Fatal("something came from nothing")
	}
}

func (r *rig) mustBeEmpty(why string) {
	r.Helper()
	if r.Cluster() != nil || r.Index() != 0 || r.Store.Now() != 0 || len(r.Nodes()) != 0 || r.Datasets() != nil {
		r.Fatalf("%s: a failed restore left something", why)
	}
}

func TestEveryFlippedByteIsAnError(t *testing.T) {
	good := variety(t).snapshot()
	r := &rig{TB: t, Store: newStore(t)}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := r.Restore(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d of %d was flipped, and nobody noticed", i, len(good))
		}
		r.mustBeEmpty("flipped byte")
	}
}

func TestEveryCutIsAnError(t *testing.T) {
	good := variety(t).snapshot()
	r := &rig{TB: t, Store: newStore(t)}
	for n := range good {
		if err := r.Restore(bytes.NewReader(good[:n])); !errors.Is(err, errDamaged) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(good), err)
		}
	}
	if err := r.Restore(bytes.NewReader(append(slices.Clone(good), 0))); !errors.Is(err, errDamaged) {
		t.Fatalf("a byte too many: %v", err)
	}
	r.mustBeEmpty("cut")
	if err := r.Restore(oneByte{bytes.NewReader(good)}); err != nil {
		t.Fatalf("in single bytes: %v", err)
	}
	r.now = 1010
	r.shows("ann-1", "=unnamed")
}

// oneByte hands out one byte at a time, as a slow connection may.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

func TestLaterSnapshotVersionIsNamed(t *testing.T) {
	bad := variety(t).snapshot()
	bad[len(magic)] = 3
	err := newStore(t).Restore(bytes.NewReader(bad))
	if err == nil || !strings.Contains(err.Error(), "version 3") || !strings.Contains(err.Error(), "reads 2") {
		t.Fatal(err)
	}
}

type failingWriter struct{ left int }

var errDiskFull = errors.New("disk full")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errDiskFull
	}
	return len(p), nil
}

func TestSnapshotReportsAFullDisk(t *testing.T) {
	r := variety(t)
	size := len(r.snapshot())
	for _, left := range []int{0, 20, size - 1} {
		n := r.Store.Snapshot()
		if _, err := n.WriteTo(&failingWriter{left}); !errors.Is(err, errDiskFull) {
			t.Fatalf("with %d bytes left: %v", left, err)
		}
		n.Release()
	}
	if err := r.Restore(brokenDisk{}); !errors.Is(err, errDiskFull) || errors.Is(err, errDamaged) {
		t.Fatalf("a disk that cannot be read: %v", err)
	}
}

type brokenDisk struct{}

func (brokenDisk) Read([]byte) (int, error) { return 0, errDiskFull }

// content frames what a hostile snapshot might say, with checksums that fit.
func content(write func(b *blockWriter)) []byte {
	var buf bytes.Buffer
	b := newBlockWriter(&buf)
	write(b)
	b.close()
	return buf.Bytes()
}

// hostile begins a snapshot with a configured cluster.
func hostile(b *blockWriter) {
	r := newRig(failNow{}, 1<<20)
	defer r.Close()
	b.byte(sectionTimes)
	b.uint(100)
	b.uint(1000)
	b.byte(sectionCluster)
	b.bytes(r.st.Load().document)
	b.bytes(nil)
}

type failNow struct{ testing.TB }

func (failNow) Helper()                   {}
func (failNow) Cleanup(func())            {}
func (failNow) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }

func hostileDataset(b *blockWriter, segments uint64) {
	hostile(b)
	b.part(sectionDataset)
	for _, s := range []string{"shop", "offheap-1", "PLATFORM", "none", ""} {
		b.bytes([]byte(s))
	}
	b.uint(segments)
}

// hostileRecord writes a session as a store would; change makes it one that no store has.
func hostileRecord(b *blockWriter, change func(*record)) {
	r := &record{Record: Record{Key: []byte("s"), Version: 7, Created: 5, LastAccess: 9, attrs: attrs("a", "1", "b", "2")},
		stamps: []stamp{{version: 6}, {version: 7}}, stubs: []stub{{name: []byte("c")}}}
	change(r)
	b.record(r)
}

func TestImpossibleSnapshotsAreRefused(t *testing.T) {
	session := func(change func(*record)) func(*blockWriter) {
		return func(b *blockWriter) {
			hostileDataset(b, 1)
			b.part(sectionSegment)
			b.uint(1)
			hostileRecord(b, change)
			b.uint(0)
			b.part(sectionEnd)
		}
	}
	traces := func(list ...trace) func(*blockWriter) {
		return func(b *blockWriter) {
			hostileDataset(b, 1)
			b.part(sectionSegment)
			b.uint(0)
			b.uint(uint64(len(list)))
			for i := range list {
				b.trace(&list[i])
			}
			b.part(sectionEnd)
		}
	}
	if err := newStore(t).Restore(bytes.NewReader(content(session(func(*record) {})))); err != nil {
		t.Fatalf("the possible one: %v", err)
	}
	for what, write := range map[string]func(*blockWriter){
		"nothing":         func(b *blockWriter) {},
		"unknown section": func(b *blockWriter) { hostile(b); b.byte('?') },
		"unknown part":    func(b *blockWriter) { hostile(b); b.part('?') },
		"end amid a part": func(b *blockWriter) { hostile(b); b.byte(sectionEnd) },
		"segment too few": func(b *blockWriter) { hostileDataset(b, 1); b.part(sectionEnd) },
		"segment too many": func(b *blockWriter) {
			hostileDataset(b, 1)
			for range 2 {
				b.part(sectionSegment)
				b.uint(0)
				b.uint(0)
			}
			b.part(sectionEnd)
		},
		"segment cut": func(b *blockWriter) {
			hostileDataset(b, 1)
			b.part(sectionSegment)
			b.uint(1)
			b.part(sectionEnd)
		},
		"segment goes on": func(b *blockWriter) {
			hostileDataset(b, 1)
			b.part(sectionSegment)
			b.uint(0)
			b.uint(0)
			b.uint(0)
			b.part(sectionEnd)
		},
		"bytes behind end":  func(b *blockWriter) { hostile(b); b.part(sectionEnd); b.byte(0) },
		"sessions nowhere":  func(b *blockWriter) { b.byte(sectionTimes); b.uint(0); b.uint(0); b.part(sectionDataset) },
		"negative time":     func(b *blockWriter) { b.byte(sectionTimes); b.uint(0); b.uint(1 << 63); b.part(sectionEnd) },
		"too many segments": func(b *blockWriter) { hostileDataset(b, wire.MaxConcurrency+1) },
		"no segments":       func(b *blockWriter) { hostileDataset(b, 0); b.part(sectionEnd) },
		"newer than index":  session(func(r *record) { r.Version = 101 }),
		"newer attribute":   session(func(r *record) { r.stamps[0].version = 8 }),
		"access in future":  session(func(r *record) { r.LastAccess = 1001 }),
		"used before made":  session(func(r *record) { r.Created = 10 }),
		"no key":            session(func(r *record) { r.Key = nil }),
		"long key":          session(func(r *record) { r.Key = make([]byte, wire.MaxKey+1) }),
		"attribute twice":   session(func(r *record) { r.attrs[1].Name = []byte("a") }),
		"removed and there": session(func(r *record) { r.stubs[0].name = []byte("b") }),
		"impossible floor":  session(func(r *record) { r.floor.others = 1 }),
		"many stubs":        session(func(r *record) { r.stubs = make([]stub, maxStubs+1) }),
		"negative idle":     session(func(r *record) { r.Idle = (maxMillis + 1) * time.Millisecond }),
		"more than fits":    session(func(r *record) { r.attrs[0].Value = make([]byte, 1<<20) }),
		"alias to nobody":   traces(trace{key: []byte("k"), target: []byte("s"), until: 9}),
		"no reason":         traces(trace{key: []byte("k"), until: 9}),
		"alias and tomb":    traces(trace{key: []byte("k"), target: []byte("s"), reason: []byte("x"), until: 9}),
		"tombstone twice":   traces(trace{key: []byte("k"), reason: []byte("x")}, trace{key: []byte("k"), reason: []byte("x")}),
		"node zero":         func(b *blockWriter) { hostile(b); b.node(&node{Node: Node{Generation: 1}, low: 1}); b.part(sectionEnd) },
		"forgotten outcome": func(b *blockWriter) {
			hostile(b)
			b.node(&node{Node: Node{ID: nodeA, Generation: 1}, low: 5, outcomes: map[uint64]wire.Outcome{4: {}}})
			b.part(sectionEnd)
		},
	} {
		r := &rig{TB: t, Store: newStore(t)}
		if err := r.Restore(bytes.NewReader(content(write))); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		r.mustBeEmpty(what)
	}
}

func TestAnnouncedLengthsAllocateNothing(t *testing.T) {
	huge := map[string]func(*blockWriter){
		"document": func(b *blockWriter) {
			b.byte(sectionTimes)
			b.uint(0)
			b.uint(0)
			b.byte(sectionCluster)
			b.uint(1 << 39)
		},
		"sessions": func(b *blockWriter) { hostileDataset(b, 1); b.part(sectionSegment); b.uint(1 << 62) },
		"attributes": func(b *blockWriter) {
			hostileDataset(b, 1)
			b.part(sectionSegment)
			b.uint(1)
			b.bytes([]byte("s"))
			for range 5 {
				b.uint(0)
			}
			b.bytes(nil)
			b.uint(1 << 62)
			b.bytes([]byte("name"))
			b.stamp(stamp{})
			b.uint(1 << 39)
		},
	}
	for what, write := range huge {
		bad := content(write)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := newStore(t).Restore(bytes.NewReader(bad))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 1<<20 {
			t.Errorf("%s: %d bytes were allocated (%v)", what, n, err)
		}
	}
	s := newStore(t)
	for _, op := range [][]byte{
		{byte(kindTouch), 1, 'd', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		{byte(kindExpire), 1, 'd', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		{byte(kindConfigure), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if out := s.Apply(1, op); out.Err == nil || out.Err.Word != wire.ErrBadRequest {
			t.Errorf("operation %x: %v", op, out.Err)
		}
	}
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

// FuzzRestore: content behind fitting checksums is refused or is a state that
// makes the same snapshot again.
func FuzzRestore(f *testing.F) {
	for _, s := range []*Store{newStore(f), newRig(f, 1<<20).Store, variety(f).Store} {
		b := newBlockReader(bytes.NewReader(snapshotOf(f, s)))
		var all []byte
		for b.next() {
			if b.outside {
				all = append(all, partMark...)
			}
			all = append(all, b.left...)
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		raw := newStore(t)
		if raw.Restore(bytes.NewReader(in)) == nil {
			snapshotOf(t, raw)
		}
		framed := content(func(b *blockWriter) {
			for i, part := range bytes.Split(in, partMark) {
				if i == 0 {
					b.raw(part)
				} else if len(part) > 0 {
					b.part(part[0])
					b.raw(part[1:])
				}
			}
		})
		s := newStore(t)
		if err := s.Restore(bytes.NewReader(framed)); err != nil {
			return
		}
		if again := snapshotOf(t, s); !bytes.Equal(again, framed) && !sameButSpelling(t, again) {
			t.Fatal("a restored store makes a snapshot that does not restore to itself")
		}
	})
}

// sameButSpelling: a number may be spelt longer than needed; then the second snapshot is the plain one.
func sameButSpelling(t *testing.T, again []byte) bool {
	s := newStore(t)
	if err := s.Restore(bytes.NewReader(again)); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(again, snapshotOf(t, s))
}
