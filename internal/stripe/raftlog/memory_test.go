package raftlog

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// TestMemoryLogAgreesWithAMap does to a log in memory what raft may do, and to a
// plain map, and compares; what is read stays as it was when its memory is used again.
func TestMemoryLogAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, plain := &Memory{}, map[uint64][]byte{}
		var first, last uint64 // 0 = empty
		next, fill := uint64(1), byte(0)
		read := map[*raft.Log][]byte{}
		store := func(from uint64, sizes []int) {
			var logs []*raft.Log
			for i, size := range sizes {
				fill++
				l := &raft.Log{Index: from + uint64(i), Term: uint64(fill), Data: bytes.Repeat([]byte{fill}, size)}
				plain[l.Index] = bytes.Clone(l.Data)
				logs = append(logs, l)
			}
			if err := m.StoreLogs(logs); err != nil {
				t.Fatal(err)
			}
			for _, l := range logs {
				clear(l.Data) // a batch is used again
			}
			if first == 0 {
				first = from
			}
			last = from + uint64(len(sizes)) - 1
			next = last + 1
		}
		drop := func(low, high uint64) {
			if err := m.DeleteRange(low, high); err != nil {
				t.Fatal(err)
			}
			for i := low; i <= high; i++ {
				delete(plain, i)
			}
			switch {
			case low <= first && high >= last:
				first, last = 0, 0
			case low <= first:
				first = high + 1
			default:
				last, next = low-1, low
			}
		}
		check := func(i uint64) {
			l := &raft.Log{}
			err := m.GetLog(i, l)
			want, ok := plain[i]
			if ok != (err == nil) || ok && (l.Index != i || !bytes.Equal(l.Data, want)) {
				t.Fatalf("entry %d: %v, %d bytes; want %v, %d bytes", i, err, len(l.Data), ok, len(want))
			}
			if ok && len(want) < 2000 {
				read[l] = want
			}
		}
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{0, 1, 1100, 1100, 1100, slabBytes / 3, slabBytes, slabBytes + 1}), 1, 3)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1, 2:
				store(next, sizes.Draw(t, "sizes"))
			case 3:
				if first > 0 {
					drop(first, rapid.Uint64Range(first, last).Draw(t, "high"))
				}
			case 4:
				if first > 0 {
					drop(rapid.Uint64Range(first, last).Draw(t, "low"), last)
				}
			case 5: // a restored snapshot: the log begins anew behind it
				clear(plain)
				first = 0
				store(next+rapid.Uint64Range(1, 9).Draw(t, "gap"), sizes.Draw(t, "sizes"))
			}
			gotFirst, _ := m.FirstIndex()
			gotLast, _ := m.LastIndex()
			if gotFirst != first || gotLast != last {
				t.Fatalf("the log has entries %d to %d; want %d to %d", gotFirst, gotLast, first, last)
			}
			check(rapid.Uint64Range(0, next).Draw(t, "index"))
		}
		for i := range next + 1 {
			check(i)
		}
		for l, want := range read {
			if !bytes.Equal(l.Data, want) {
				t.Fatalf("entry %d changed after it was read", l.Index)
			}
		}
		if len(m.free) > spareSlabs {
			t.Fatalf("%d slabs are kept; at most %d may", len(m.free), spareSlabs)
		}
	})
}

// TestMemoryLogUsesItsMemoryAgain shows that a log which is cut short now and
// then, as snapshots do, leaves no garbage behind.
func TestMemoryLogUsesItsMemoryAgain(t *testing.T) {
	m, index := &Memory{}, uint64(0)
	entry := &raft.Log{Data: make([]byte, 64<<10)}
	round := func() {
		for range 128 {
			index++
			entry.Index = index
			if err := m.StoreLog(entry); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.DeleteRange(0, index-16); err != nil {
			t.Fatal(err)
		}
	}
	round()
	round()
	if n := testing.AllocsPerRun(20, round); n > 128 { // one list of one entry for each StoreLog
		t.Fatalf("%v allocations for 128 entries", n)
	}
}
