package raftlog

import "github.com/hashicorp/raft-wal/types"

// Failing returns files that fail as fault says. It is asked, by many goroutines at
// once, before the log is written, and with sync before it is synchronised or
// gets another file. An error is the disk's; what was to be written is torn.
func (l Files) Failing(fault func(sync bool) error) Files {
	l = l.withDefaults()
	l.VFS = faultyFS{l.VFS, fault}
	return l
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
