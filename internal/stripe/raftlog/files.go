package raftlog

import (
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// probeBytes of the file that tries the disk are written: as many as a large entry has.
const probeBytes = 512 << 10

// segmentSize is how large the log's files are. They are allocated whole, so
// this is also what an empty server takes on disk.
const segmentSize = 32 << 20

// Files is where the log lies, and by which means it is reached. Dir and SyncDir
// must be given; zero fields else are the usual ones.
type Files struct {
	Dir     string // must be there
	VFS     types.VFS
	Meta    func() types.MetaStore // a new one each time: it is closed with the log
	SyncDir func(dir string) error // makes what was made in dir survive a crash of the machine
	Size    int                    // of a file, in bytes
	Needed  bool                   // there was a log: none is an error
	Owner   string                 // whose log it is; another's is refused. Empty: that is not asked
	Lazy    bool                   // files are synced once a second: a crash of the machine may damage several writes at the end
}

// withDefaults fills in the real means.
func (l Files) withDefaults() Files {
	if l.VFS == nil {
		l.VFS = fs.New()
	}
	if l.Meta == nil {
		l.Meta = func() types.MetaStore { return &metadb.BoltMetaDB{} }
	}
	if l.Size == 0 {
		l.Size = segmentSize
	}
	return l
}

// lazily puts disk between the log and its file system. The list of files is
// written at once even so, and must not speak of what is not there yet: what
// waits is synced first.
func (l Files) lazily(disk *lazyFS) Files {
	meta := l.Meta
	l.VFS = disk
	l.Meta = func() types.MetaStore { return lazyMeta{meta(), disk} }
	return l
}

type lazyMeta struct {
	types.MetaStore
	disk *lazyFS
}

// CommitState implements types.MetaStore.
func (m lazyMeta) CommitState(state types.PersistentState) error {
	if err := m.disk.flush(); err != nil {
		return err
	}
	return m.MetaStore.CommitState(state)
}

// SetStable implements types.MetaStore. A term on disk without the log that led
// to it could neither be formed nor elected.
func (m lazyMeta) SetStable(key, value []byte) error {
	if err := m.disk.flush(); err != nil {
		return err
	}
	return m.MetaStore.SetStable(key, value)
}

// tryWrite makes, syncs and removes a file as large as those of the log: a disk
// with less room than that would be full again at once.
func (l Files) tryWrite() error {
	const name = "probe.tmp"
	l.VFS.Delete(l.Dir, name)
	f, err := l.VFS.Create(l.Dir, name, uint64(l.Size))
	if err != nil {
		l.VFS.Delete(l.Dir, name)
		return err
	}
	_, err = f.WriteAt(make([]byte, min(l.Size, probeBytes)), 0)
	for _, then := range []error{f.Sync(), f.Close(), l.VFS.Delete(l.Dir, name)} {
		if err == nil {
			err = then
		}
	}
	return err
}
