package stripe

import (
	"time"

	"github.com/hashicorp/raft-wal/types"
)

// Faults are what a test lets go wrong with a server. nil functions: nothing. They
// are called by many goroutines at once.
type Faults struct {
	Wall func() time.Time // the machine's clock

	// Disk is asked before the log is written, and with sync before it is synchronised or
	// gets another file. An error is the disk's; what was to be written is torn.
	Disk func(sync bool) error
}

// upon returns p with the faults in it.
func (f *Faults) upon(p parts) parts {
	if f == nil {
		return p
	}
	if f.Wall != nil {
		p.clock.wall = f.Wall
	}
	if f.Disk != nil {
		p.files.vfs = faultyFS{p.files.vfs, f.Disk}
	}
	return p
}

type faultyFS struct {
	types.VFS
	fault func(sync bool) error
}

func (f faultyFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if err := f.fault(true); err != nil {
		return nil, err
	}
	w, err := f.VFS.Create(dir, name, size)
	return faultyFile{w, f.fault}, err
}

func (f faultyFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	w, err := f.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return faultyFile{w, f.fault}, nil
}

type faultyFile struct {
	types.WritableFile
	fault func(sync bool) error
}

func (f faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fault(false); err != nil {
		n, _ := f.WritableFile.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.WritableFile.WriteAt(b, off)
}

func (f faultyFile) Sync() error {
	if err := f.fault(true); err != nil {
		return err
	}
	return f.WritableFile.Sync()
}
