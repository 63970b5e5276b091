package store

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

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
		"long refusal": func(b *blockWriter) {
			hostile(b)
			b.node(&node{Node: Node{ID: nodeA, Generation: 1}, low: 1, outcomes: map[uint64]wire.Outcome{
				4: {Err: &wire.Error{Word: wire.ErrBusy, Text: strings.Repeat("x", maxRefusal+1)}}}})
			b.part(sectionEnd)
		},
		"outcomes of a node": func(b *blockWriter) {
			hostile(b)
			names := slices.Repeat([][]byte{make([]byte, wire.MaxAttributeName)}, maxNodeOutcomes/wire.MaxAttributeName)
			b.node(&node{Node: Node{ID: nodeA, Generation: 1}, low: 1, outcomes: map[uint64]wire.Outcome{4: {Dropped: names}}})
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
