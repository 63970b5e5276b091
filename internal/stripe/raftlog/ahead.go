package raftlog

import (
	"math"
	"os"

	"github.com/hashicorp/raft-wal/types"
)

// aheadBytes is how far the log's file is written with zeros before its end.
const aheadBytes = 1 << 20

// aheadFS makes Sync of the log's files cheap. They are allocated whole, but that a block
// is in use the file system notes elsewhere, mostly in its journal, when it is written for
// the first time, and a Sync waits for that as well. So a write that comes into
// new blocks writes zeros behind itself, which is what these blocks read as anyway, and
// the next Syncs have only data to write. They are fdatasync(2), where there is that.
type aheadFS struct{ types.VFS }

// Create implements types.VFS.
func (a aheadFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := a.VFS.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	return &aheadFile{WritableFile: f, size: int64(size), isNew: true}, nil
}

// OpenWriter implements types.VFS. What lies ahead in a file that was there before is
// not known: it is as if nothing had been written there.
func (a aheadFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := a.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &aheadFile{WritableFile: f, size: sizeOf(f)}, nil
}

// aheadFile is a file that is written from its start to its end, by one goroutine.
type aheadFile struct {
	types.WritableFile
	size  int64 // zeros do not make it longer
	ahead int64 // it was written up to here
	isNew bool  // and was never synced
}

var zeros [aheadBytes]byte

// WriteAt implements types.WritableFile.
func (f *aheadFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.WritableFile.WriteAt(p, off)
	if end := off + int64(n); err == nil && end > f.ahead {
		f.ahead = end
		to := min((end/aheadBytes+1)*aheadBytes, f.size)
		if to > end {
			if n, err := f.WritableFile.WriteAt(zeros[:to-end], end); err == nil {
				f.ahead = end + int64(n)
			} else {
				f.ahead = math.MaxInt64 // it goes without, as far as it goes
			}
		}
	}
	return n, err
}

// Sync implements types.WritableFile. The first one of a new file is left to it: its
// folder is synced as well.
func (f *aheadFile) Sync() error {
	if !f.isNew {
		if done, err := dataSync(f.WritableFile); done {
			return err
		}
	}
	err := f.WritableFile.Sync()
	f.isNew = f.isNew && err != nil
	return err
}

// sizeOf returns the size of a file of the system, and 0 for what is none.
func sizeOf(f types.WritableFile) int64 {
	if file, ok := f.(interface{ Stat() (os.FileInfo, error) }); ok {
		if info, err := file.Stat(); err == nil {
			return info.Size()
		}
	}
	return 0
}
