package raftlog

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// slowRemoval is a file system that removes nothing before free is closed.
type slowRemoval struct {
	types.VFS
	asked chan string
	free  chan struct{}
}

func (s slowRemoval) Delete(dir, name string) error {
	s.asked <- name
	<-s.free
	return s.VFS.Delete(dir, name)
}

// A log that is cut short is written to while the disk removes its old files, and those
// that it had no time for are gone after the next start.
func TestTheLogIsWrittenWhileOldFilesAreRemoved(t *testing.T) {
	vfs := slowRemoval{fs.New(), make(chan string, 100), make(chan struct{})}
	files := Files{Dir: t.TempDir(), VFS: vfs, Size: 64 << 10, SyncDir: noSync}
	open := func() *Journal {
		t.Helper()
		j, err := Open(Options{Files: files})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	onDisk := func() int {
		list, _ := filepath.Glob(filepath.Join(files.Dir, "*.wal"))
		return len(list)
	}
	j := open()
	store := func(index uint64) {
		t.Helper()
		if err := j.StoreLog(&raft.Log{Index: index, Type: raft.LogNoop, Data: make([]byte, 10_000)}); err != nil {
			t.Fatal(err)
		}
	}
	const last = 100
	for i := uint64(1); i <= last; i++ {
		store(i)
	}
	before := onDisk()
	if before < 10 {
		t.Fatalf("%d files", before)
	}
	if err := j.DeleteRange(1, last-1); err != nil {
		t.Fatal(err)
	}
	<-vfs.asked // the first one is being removed
	store(last + 1)
	if first, err := j.FirstIndex(); first != last || err != nil {
		t.Errorf("the log begins with %d, %v", first, err)
	}
	if n := onDisk(); n < before {
		t.Errorf("%d of %d files are left: nothing was to be removed yet", n, before)
	}
	close(vfs.free)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	j = open()
	if n := onDisk(); n > 3 {
		t.Errorf("%d files after a start", n)
	}
	for i := uint64(last + 2); i <= 2*last; i++ {
		store(i)
	}
	if err := j.DeleteRange(1, 2*last-1); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); onDisk() > 3; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are left", onDisk())
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
