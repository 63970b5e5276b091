package store

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// filled is a store with sessions of eight attributes of 128 bytes.
func filled(b *testing.B, sessions int) *Store {
	s := newStore(b)
	fillWith(sessions, func(op []byte) {
		if out := s.Apply(1, op); out.Err != nil {
			b.Fatal(out.Err)
		}
	})
	return s
}

// fillWith makes the log that makes so many sessions of 8 attributes of 128 bytes.
func fillWith(sessions int, apply func(op []byte)) {
	apply(AppendConfigure(nil, testCluster(1<<40)))
	apply(AppendOpen(nil, &wire.Open{Dataset: shop, LockMode: []byte("none")}))
	apply(AppendJoin(nil, &wire.Join{Node: nodeA, Generation: 1, Low: 1}))
	c := &wire.Create{Idle: 30 * time.Minute, Write: wire.Write{Dataset: shop, Node: nodeA}}
	for i := range 8 {
		c.Set = append(c.Set, wire.Attribute{Name: fmt.Appendf(nil, "attribute-%d", i), Value: []byte(strings.Repeat("x", 128))})
	}
	var op []byte
	for i := range sessions {
		c.Key, c.Seq, c.Low = benchKey(i), uint64(i+1), uint64(i+1)
		op = AppendCreate(op[:0], c)
		apply(op)
	}
}

func benchKey(i int) []byte { return fmt.Appendf(nil, "abc.%022d", i) }

func BenchmarkApplyCommit(b *testing.B) {
	const sessions = 10_000
	s := filled(b, sessions)
	keys := make([][]byte, sessions)
	for i := range keys {
		keys[i] = benchKey(i)
	}
	c := &wire.Commit{Idle: wire.KeepIdle, Set: attrs("attribute-3", strings.Repeat("y", 128)),
		Write: wire.Write{Dataset: shop, Node: nodeA, Token: wire.Token{Term: 1, Counter: 1}}}
	var op []byte
	b.ReportAllocs()
	seq := uint64(sessions)
	for i := 0; b.Loop(); i++ {
		seq++
		c.Key, c.Seq, c.Low, c.Token.Index = keys[i%sessions], seq, seq, s.Index()
		op = AppendCommit(op[:0], c)
		if out := s.Apply(2, op); out.Err != nil || out.Dropped != nil {
			b.Fatal(out)
		}
	}
}

func BenchmarkView(b *testing.B) {
	const sessions = 10_000
	s := filled(b, sessions)
	keys := make([][]byte, sessions)
	for i := range keys {
		keys[i] = benchKey(i)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		bytes := 0
		f := func(r *Record) { bytes += len(r.Attributes()) }
		for i := 0; pb.Next(); i++ {
			if err := s.View(shop, keys[i%sessions], f); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkTouch(b *testing.B) {
	s := filled(b, 10_000)
	list := make([]Touch, 100)
	b.ReportAllocs()
	now := Time(10)
	for b.Loop() {
		now++
		for i := range list {
			list[i] = Touch{benchKey((int(now)*100 + i) % 10_000), now}
		}
		s.Apply(now, AppendTouch(nil, shop, list))
	}
}

// BenchmarkDueIdle is what a look costs when nobody's time is up.
func BenchmarkDueIdle(b *testing.B) {
	s := filled(b, 200_000)
	b.ReportAllocs()
	for b.Loop() {
		if due, prune := s.Due(1000, 100); due != nil || prune {
			b.Fatal("something is due")
		}
	}
}

// BenchmarkSnapshot is how long applying waits for a snapshot of 200,000
// sessions to be taken, and how long it takes to write.
func BenchmarkSnapshot(b *testing.B) {
	s := filled(b, 200_000)
	var taken time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		n := s.Snapshot()
		taken += time.Since(start)
		size, err := n.WriteTo(io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
		n.Release()
	}
	b.ReportMetric(float64(taken.Milliseconds())/float64(b.N), "ms-waiting/op")
}

// BenchmarkRestore is a start with 200,000 sessions. It also tells how much
// memory a session takes, beside what is accounted for it.
func BenchmarkRestore(b *testing.B) {
	const sessions = 200_000
	var buf bytes.Buffer
	n := filled(b, sessions).Snapshot()
	if _, err := n.WriteTo(&buf); err != nil {
		b.Fatal(err)
	}
	n.Release()
	var s *Store
	for b.Loop() {
		if s != nil {
			s.Close()
		}
		s = New()
		if err := s.Restore(bytes.NewReader(buf.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(buf.Len()))
	buf = bytes.Buffer{}
	runtime.GC()
	var with, without runtime.MemStats
	runtime.ReadMemStats(&with)
	b.ReportMetric(float64(s.Offheap()[0].Used)/sessions, "accounted-B/session")
	s = nil
	runtime.GC()
	runtime.ReadMemStats(&without)
	b.ReportMetric(float64(with.HeapAlloc-without.HeapAlloc)/sessions, "heap-B/session")
}
