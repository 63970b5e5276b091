package raftlog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// someEntries returns entries from first on, of all sizes.
func someEntries(rnd *rand.Rand, first, n int) (list []*raft.Log) {
	filled := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for i := range n {
		e := &raft.Log{Index: uint64(first + i), Term: rnd.Uint64() >> rnd.IntN(64), Type: raft.LogType(rnd.IntN(6))}
		if rnd.IntN(4) > 0 {
			e.Data = filled(1 + rnd.IntN(1<<rnd.IntN(17)))
		}
		if rnd.IntN(4) == 0 {
			e.Extensions = filled(1 + rnd.IntN(300))
		}
		if rnd.IntN(4) > 0 {
			e.AppendedAt = time.Unix(rnd.Int64N(1<<33), rnd.Int64N(1e9)).In(time.FixedZone("", 60*rnd.IntN(600)))
		}
		list = append(list, e)
	}
	return list
}

// The codec writes what raft-wal's own one writes, and the entries of one write keep apart.
func TestTheCodecWritesWhatTheLogsOwnDoes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	c, own := new(codec), new(wal.BinaryCodec)
	for round := range 50 {
		c.begin()
		list := someEntries(rnd, 1+round, 1+rnd.IntN(40))
		got := make([][]byte, len(list))
		for i, e := range list {
			var b bytes.Buffer
			if err := c.Encode(e, &b); err != nil {
				t.Fatal(err)
			}
			got[i] = b.Bytes()
		}
		for i, e := range list {
			var want bytes.Buffer
			if err := own.Encode(e, &want); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[i], want.Bytes()) {
				t.Fatalf("round %d, entry %d: the bytes are not those of raft-wal", round, i)
			}
		}
	}
}

// A log that raft-wal wrote by itself, as versions before did, is read and gone on with, and
// what this one writes raft-wal reads by itself.
func TestTheLogIsOneForBothCodecs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	files := Files{Dir: t.TempDir(), SyncDir: noSync, Size: 256 << 10}
	var want []*raft.Log
	for turn := range 4 {
		list := someEntries(rnd, 1+len(want), 40)
		var store interface {
			raft.LogStore
			Close() error
		}
		var err error
		if turn%2 == 0 {
			store, err = wal.Open(files.Dir, wal.WithSegmentSize(files.Size), wal.WithLogger(hclog.NewNullLogger()))
		} else {
			store, err = Open(Options{Files: files})
		}
		if err != nil {
			t.Fatalf("turn %d: %v", turn, err)
		}
		for len(list) > 0 {
			n := min(1+rnd.IntN(8), len(list))
			if err := store.StoreLogs(list[:n]); err != nil {
				t.Fatalf("turn %d: %v", turn, err)
			}
			want, list = append(want, list[:n]...), list[n:]
		}
		for _, w := range want {
			var got raft.Log
			if err := store.GetLog(w.Index, &got); err != nil {
				t.Fatalf("turn %d: %v", turn, err)
			}
			same := got.AppendedAt.Equal(w.AppendedAt)
			got.AppendedAt = w.AppendedAt
			if !same || !reflect.DeepEqual(&got, w) {
				t.Fatalf("turn %d: entry %d is another one", turn, w.Index)
			}
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A write leaves little garbage, however large it is.
func BenchmarkStoreLogs(b *testing.B) {
	for _, size := range []int{1 << 10, 32 << 10, 512 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			j, err := Open(Options{Files: Files{Dir: b.TempDir(), SyncDir: noSync, Lazy: true}})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			entry := &raft.Log{Data: make([]byte, size), AppendedAt: time.Now()}
			b.ReportAllocs()
			for b.Loop() {
				entry.Index++
				if err := j.StoreLogs([]*raft.Log{entry}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The memory that entries are written from is used again.
func TestAWriteLeavesNoGarbageOfItsSize(t *testing.T) {
	c, entry := new(codec), &raft.Log{Data: make([]byte, 64<<10), AppendedAt: time.Now()}
	write := func() {
		var to bytes.Buffer
		c.begin()
		for range 3 {
			to = bytes.Buffer{}
			if err := c.Encode(entry, &to); err != nil {
				t.Fatal(err)
			}
		}
	}
	write()
	if n := testing.AllocsPerRun(100, write); n > 2 { // what to escapes to
		t.Errorf("a write of three entries allocates %v times", n)
	}
}
