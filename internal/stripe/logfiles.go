package stripe

import (
	"errors"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// segmentSize is how large the log's files are. They are allocated whole, so
// this is also what an empty server takes on disk.
const segmentSize = 32 << 20

// logFiles is where the log lies, and by which means it is reached.
type logFiles struct {
	dir  string
	vfs  types.VFS
	meta func() types.MetaStore // a new one each time: it is closed with the log
	size int                    // of a file, in bytes
	lazy bool                   // a crash of the machine may damage several writes at the end

	syncDir func(dir string) error
}

// withDefaults fills in the real means.
func (l logFiles) withDefaults() logFiles {
	if l.vfs == nil {
		l.vfs = fs.New()
	}
	if l.meta == nil {
		l.meta = func() types.MetaStore { return &metadb.BoltMetaDB{} }
	}
	if l.size == 0 {
		l.size = segmentSize
	}
	if l.syncDir == nil {
		l.syncDir = syncDir
	}
	return l
}

// lazily puts disk between the log and its file system. The list of files is
// written at once even so, and must not speak of what is not there yet: what
// waits is synced first.
func (l logFiles) lazily(disk *lazyFS) logFiles {
	meta := l.meta
	l.vfs, l.lazy = disk, true
	l.meta = func() types.MetaStore { return lazyMeta{meta(), disk} }
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
func (l logFiles) tryWrite() error {
	const name = "probe.tmp"
	l.vfs.Delete(l.dir, name)
	f, err := l.vfs.Create(l.dir, name, uint64(l.size))
	if err != nil {
		return errors.Join(err, l.vfs.Delete(l.dir, name))
	}
	_, err = f.WriteAt(make([]byte, min(l.size, maxBatchBytes)), 0)
	err = errors.Join(err, f.Sync(), f.Close())
	return errors.Join(err, l.vfs.Delete(l.dir, name))
}
