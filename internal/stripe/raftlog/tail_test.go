package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/segment"
)

const fileSize = 64 << 10

func noSync(string) error { return nil } // of a folder that no crash meets

// written makes a log of n entries, in one file, and returns their data.
func written(t *testing.T, n int) (dir string, data []string) {
	t.Helper()
	return writtenTo(t, n, Files{Size: fileSize})
}

// writtenTo is written for files of any kind, in a folder of their own.
func writtenTo(t *testing.T, n int, files Files) (dir string, data []string) {
	t.Helper()
	dir = t.TempDir()
	files.Dir, files.SyncDir = dir, noSync
	j, err := Open(Options{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		data = append(data, fmt.Sprint("entry ", i))
		if err := j.StoreLog(&raft.Log{Index: uint64(i) + 1, Data: []byte(data[i])}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, data
}

// opened opens the log, adds an entry and returns the data of those before, or the error.
func opened(dir string) (data []string, err error) {
	j, err := Open(Options{Files: Files{Dir: dir, SyncDir: noSync, Size: fileSize}})
	if err != nil {
		return nil, err
	}
	defer j.Close()
	last, err := j.LastIndex()
	if err != nil {
		return nil, err
	}
	for i := uint64(1); i <= last; i++ {
		var e raft.Log
		if err := j.GetLog(i, &e); err != nil {
			return nil, err
		}
		data = append(data, string(e.Data))
	}
	return data, j.StoreLog(&raft.Log{Index: last + 1, Data: []byte("one more")})
}

// goesOn opens the log twice, which has these entries, and one more the second time.
func goesOn(t *testing.T, dir string, want []string) {
	t.Helper()
	for range 2 {
		if got, err := opened(dir); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d entries, not %d: %v", len(got), len(want), err)
		}
		want = append(slices.Clip(want), "one more")
	}
}

// change rewrites what stands at the beginning of the log's file.
func change(t *testing.T, dir string, f func(b []byte)) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(list) != 1 {
		t.Fatalf("files %q, %v", list, err)
	}
	file, err := os.OpenFile(list[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, fileSize)
	if _, err := io.ReadFull(file, b); err != nil {
		t.Fatal(err)
	}
	f(b)
	if _, err := file.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// A write that a crash cut off, anywhere, is taken off, and the log goes on.
func TestTornTailIsCutBack(t *testing.T) {
	t.Parallel()
	for _, there := range []int{1, 9, 40} {
		dir, data := written(t, 20)
		change(t, dir, func(b []byte) {
			copy(b[walk(b).end:], slices.Clone(b[walHeader:walHeader+there])) // as an entry begins
		})
		goesOn(t, dir, data)
	}
	// The last write, cut off or with a hole.
	for _, missing := range []int{1, 8, 16, 40} {
		dir, data := written(t, 20)
		change(t, dir, func(b []byte) {
			end := walk(b).end
			for i := end - missing; i < end-missing/2; i++ {
				b[i] ^= 0xff
			}
		})
		goesOn(t, dir, data[:19])
	}
}

// A crash between the sealing of a file and the note about it, which raft-wal
// v0.4.2 by itself never gets over.
func TestCrashDuringChangeOfFiles(t *testing.T) {
	t.Parallel()
	dir, data := written(t, 20)
	change(t, dir, sealFile)
	goesOn(t, dir, data)
	if list, _ := filepath.Glob(filepath.Join(dir, "*.wal")); len(list) != 2 {
		t.Errorf("log files: %v", list)
	}
}

// The same, with the sealing itself cut off by the crash.
func TestCrashDuringSealing(t *testing.T) {
	t.Parallel()
	dir, data := written(t, 20)
	change(t, dir, func(b []byte) {
		sealFile(b)
		clear(b[walk(b).end-frameAlign:]) // all but the commit
	})
	goesOn(t, dir, data)
}

// sealFile appends to a log file what raft-wal writes last into it: an index of
// its entries and a commit.
func sealFile(b []byte) {
	end := walk(b).end
	var offsets []uint32
	for off := walHeader; off < end; {
		size := 0
		switch b[off] {
		case segment.FrameEntry:
			offsets = append(offsets, uint32(off))
			fallthrough
		case segment.FrameIndex:
			size = int(binary.LittleEndian.Uint32(b[off+4:]))
		}
		off += frameAlign + (size+frameAlign-1)/frameAlign*frameAlign
	}
	tail := []byte{segment.FrameIndex, 0, 0, 0}
	tail = binary.LittleEndian.AppendUint32(tail, uint32(4*len(offsets)))
	for _, o := range offsets {
		tail = binary.LittleEndian.AppendUint32(tail, o)
	}
	for len(tail)%frameAlign != 0 {
		tail = append(tail, 0)
	}
	sum := crc32.Checksum(tail, castagnoli)
	tail = append(tail, segment.FrameCommit, 0, 0, 0)
	tail = binary.LittleEndian.AppendUint32(tail, sum)
	copy(b[end:], tail)
}

// What is read of a file may be anything after a crash.
func FuzzWalk(f *testing.F) {
	f.Add(make([]byte, walHeader+frameAlign))
	f.Add(append(make([]byte, walHeader), segment.FrameEntry, 0, 0, 0, 1, 0, 0, 0, 'a', 0, 0, 0, 0, 0, 0, 0, segment.FrameCommit, 0, 0, 0, 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if end := walk(b).end; end > len(b) {
			t.Errorf("%d of %d bytes are good", end, len(b))
		}
		goodCommit(b)
	})
}
