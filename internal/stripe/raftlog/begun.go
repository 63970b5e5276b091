package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// begunKey is where the log notes, beside raft's terms and votes, which of its files have begun:
// all with an ID below that number. Nothing else on disk tells a last file that is gone from
// one that a crash kept from being made, as raft-wal lists a file before it makes it.
// IDs only grow, also where the log is cut short.
var begunKey = []byte("terracotta-files-begun")

// begunBelow returns what is noted; 0 where nothing is, as in a log of an older version.
func begunBelow(b []byte) (id uint64, err error) {
	switch len(b) {
	case 0:
		return 0, nil
	case 8:
		return binary.LittleEndian.Uint64(b), nil
	}
	return 0, fmt.Errorf("%q has %d bytes", begunKey, len(b))
}

// noteBegun notes that the file has begun. It is called when its first commit is synced or, with
// Lazy, waits for what lazyMeta does first.
func noteBegun(meta types.MetaStore, id uint64) error {
	if err := meta.SetStable(begunKey, binary.LittleEndian.AppendUint64(nil, id+1)); err != nil {
		return fmt.Errorf("note that a file of the log has begun: %w", err)
	}
	return nil
}

// ownerKey is where the log notes, likewise, whose it is: entries don't tell, and in a cluster of
// one server nobody else would miss those that another server's log does not have.
var ownerKey = []byte("terracotta-owner")

// own notes whose log it is, where that is not noted yet, and refuses another's.
func (l Files) own(meta types.MetaStore) error {
	if l.Owner == "" {
		return nil
	}
	noted, err := meta.GetStable(ownerKey)
	if err != nil {
		return err
	}
	if len(noted) > 0 {
		return foreign(string(noted), l.Owner)
	}
	return meta.SetStable(ownerKey, []byte(l.Owner))
}

// foreign returns an error where the log is noted to be another's; an older version notes nothing.
func foreign(noted, owner string) error {
	if noted == owner || noted == "" || owner == "" {
		return nil
	}
	return fmt.Errorf("it is that of server %s, and this is server %s", noted, owner)
}

// ErrNoLog says that there is no log, and one was needed.
var ErrNoLog = errors.New("it is gone, and acknowledged changes may have been in it")

// errNoIndex returns an error where there are files of the log and no list of them was ever kept here: it is gone.
// raft-wal would begin anew, and remove the files.
func errNoIndex(list types.PersistentState, files []string) error {
	if list.NextSegmentID > 0 || !slices.ContainsFunc(files, func(name string) bool { return strings.HasSuffix(name, ".wal") }) {
		return nil
	}
	return fmt.Errorf("the log's index %q is missing", metadb.FileName)
}

// What is wrong with a file that has begun. They go on behind its name.
var (
	errGone  = errors.New("is gone, and acknowledged entries were in it")
	errWiped = errors.New("is damaged at byte 0, and acknowledged entries were in it")
)

// begunFS is the file system of raft-wal, which writes nothing but whole commits. Once the first one of
// a file is synced, and before it is acknowledged, it is noted that the file has begun.
type begunFS struct {
	types.VFS
	meta  types.MetaStore
	below uint64 // these have
}

// Create implements types.VFS.
func (b begunFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := b.VFS.Create(dir, name, size)
	return b.noting(f, name, err)
}

// OpenWriter implements types.VFS.
func (b begunFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := b.VFS.OpenWriter(dir, name)
	return b.noting(f, name, err)
}

func (b begunFS) noting(f types.WritableFile, name string, err error) (types.WritableFile, error) {
	if err != nil {
		return nil, err
	}
	var base, id uint64
	if _, err := fmt.Sscanf(name, "%020d-%016x.wal", &base, &id); err != nil { // as raft-wal's Filer does
		return nil, errors.Join(fmt.Errorf("file %q of the log: %w", name, err), f.Close())
	}
	if id < b.below {
		return f, nil
	}
	return &begunFile{f, func() error { return noteBegun(b.meta, id) }}, nil
}

// begunFile is a file that has not begun. It is written by one goroutine at a time.
type begunFile struct {
	types.WritableFile
	note func() error // nil once it has
}

// Sync implements types.WritableFile.
func (f *begunFile) Sync() error {
	err := f.WritableFile.Sync()
	if err == nil && f.note != nil {
		if err = f.note(); err == nil {
			f.note = nil
		}
	}
	return err
}
