package raftlog

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

var kept = Reread{Entries: 32, Above: 32 << 10, UpTo: 512 << 10}

// What raft reads of the log again and again for a server that catches up is read from
// the disk once, and is never what was taken off the log since.
func TestTheLogIsReadOnceForWhoCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReread(kept)
		large := func(index uint64) *raft.Log {
			return &raft.Log{Index: index, Data: make([]byte, kept.Above+1)}
		}
		has := func(index uint64, want bool) {
			t.Helper()
			if got, _ := r.get(index, new(raft.Log)); got != want {
				t.Errorf("entry %d is kept: %v", index, got)
			}
		}
		has(0, false)
		for i := range uint64(kept.Entries + 1) {
			r.put(large(i+1), 0)
		}
		has(1, false)
		has(2, true)
		has(uint64(kept.Entries+1), true)
		_, before := r.get(100, new(raft.Log))
		r.cut()
		has(2, false)
		r.put(large(100), before) // it was being read
		has(100, false)
		_, now := r.get(100, new(raft.Log))
		r.put(&raft.Log{Index: 100, Data: make([]byte, kept.Above)}, now)
		has(100, false)
		r.put(&raft.Log{Index: 100, Data: make([]byte, kept.UpTo+1)}, now)
		has(100, false)
		r.put(large(100), now)
		time.Sleep(rereadTime / 2)
		r.put(large(101), now)
		time.Sleep(rereadTime * 3 / 4)
		has(100, true)
		time.Sleep(rereadTime)
		has(100, false)
		has(101, false)
	})
}

func TestAnEntryThatWasReplacedIsReadAnew(t *testing.T) {
	j, err := Open(Options{Files: Files{Dir: t.TempDir(), SyncDir: noSync}, Reread: kept})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	entry := func(term uint64, x byte) *raft.Log {
		return &raft.Log{Index: term + 1, Term: term, Type: raft.LogNoop, Data: bytes.Repeat([]byte{x}, 100_000)}
	}
	want := func(index, term uint64, x byte) {
		t.Helper()
		var e raft.Log
		if err := j.GetLog(index, &e); err != nil || e.Term != term || len(e.Data) != 100_000 || e.Data[7] != x {
			t.Errorf("entry %d is of term %d, with %d bytes, %v", index, e.Term, len(e.Data), err)
		}
	}
	store := func(entries ...*raft.Log) {
		t.Helper()
		if err := j.StoreLogs(entries); err != nil {
			t.Fatal(err)
		}
	}
	first, old, other := entry(0, 'a'), entry(1, 'b'), entry(2, 'c')
	other.Index = 2
	store(first, old)
	clear(old.Data) // whoever wrote it uses its memory again
	want(2, 1, 'b')
	want(2, 1, 'b')
	if err := j.DeleteRange(2, 2); err != nil {
		t.Fatal(err)
	}
	if err := j.GetLog(2, new(raft.Log)); err != raft.ErrLogNotFound {
		t.Errorf("an entry that was taken off: %v", err)
	}
	store(other)
	want(2, 2, 'c')
	want(1, 0, 'a')
}
