// Package raftlog keeps Raft's log: on disk (Journal), or in memory for a server
// that keeps nothing (Memory).
//
// The one idea: hashicorp/raft panics where its term cannot be kept, and raft-wal
// cannot be written again after a failed change of files, so what lies between
// them must survive an ill disk. What the journal promises:
//
//   - terms and votes are on disk when their writer is told so, and entries, too; with
//     Lazy entries are a second later, and before any term that follows them;
//   - what a crash cut off is taken off the log's end when it is opened, and damage
//     before that end is an error, and so is a file that has begun and is gone;
//   - while the disk cannot be written, entries are refused and reads go on. It is
//     tried again until it can be;
//   - who writes waits for no removal of old files.
//
// What is in an entry it does not know: see Options.Verify.
//
//	j, err := raftlog.Open(raftlog.Options{Files: raftlog.Files{Dir: dir, SyncDir: syncDir}})
//	r, err := raft.NewRaft(conf, fsm, j, j, snapshots, transport)
//	j.Started()
//	...
//	j.Release()
//	r.Shutdown().Error()
//	err = j.Close()
package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// probeInterval is how often an ill disk is tried again.
const probeInterval = 250 * time.Millisecond

var errClosed = errors.New("the log is closed")

// Options are how a log on disk is opened. Only Files must be given.
type Options struct {
	Files
	Log    *slog.Logger
	Engine hclog.Logger // raft-wal's

	Present func() error            // an error once the folder is not the one that was opened
	Changed func(ill error)         // the disk cannot be written, and why now; nil: it can again. It must not block
	Verify  func(data []byte) error // an error where a command is damaged; asked each time that one is read
	Reread  Reread
}

func (o Options) withDefaults() Options {
	o.Files = o.Files.withDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Engine == nil {
		o.Engine = hclog.NewNullLogger()
	}
	if o.Present == nil {
		o.Present = func() error { return nil }
	}
	if o.Changed == nil {
		o.Changed = func(error) {}
	}
	if o.Verify == nil {
		o.Verify = func([]byte) error { return nil }
	}
	return o
}

// Journal is the log on disk as the Raft library sees it: raft-wal, and what
// raft-wal and raft lack when the disk fails. After the first failed write it
// is ill: it refuses entries, lets the writer of terms wait, tries the disk now and
// then, and opens the log anew once the disk can be written.
//
// It implements raft.LogStore (and its monotonic form) and raft.StableStore.
type Journal struct {
	o    Options
	disk *lazyFS // nil but with Lazy

	mu      sync.RWMutex // guards what follows, which a repair replaces
	wal     *wal.WAL
	removal *lateRemoval // of wal
	files   *presentFS   // likewise
	codec   *codec       // likewise; of the one goroutine that stores entries

	last   atomic.Uint64 // index of the last entry stored without an error
	writes atomic.Uint64 // begun and ended, counted together: odd while one is under way
	reread *reread

	early  error               // see StartError
	sealed []types.SegmentInfo // the files that VerifyFrom verifies

	state   sync.Mutex
	started bool          // false while opening: errors are returned at once
	closing bool          // set by Release
	ill     error         // nil while the disk is well
	well    chan struct{} // closed when ill becomes nil, and by Release; nil while well
	probing sync.WaitGroup
	stop    chan struct{} // closed by Release
}

var (
	_ raft.LogStore          = (*Journal)(nil)
	_ raft.MonotonicLogStore = (*Journal)(nil)
	_ raft.StableStore       = (*Journal)(nil)
)

// Open opens the log in o.Dir, or begins one there, and mends what a crash left.
func Open(o Options) (_ *Journal, err error) {
	j := &Journal{o: o.withDefaults(), reread: newReread(o.Reread), stop: make(chan struct{})}
	if j.o.Lazy {
		j.disk = newLazyFS(j.o.VFS)
		j.o.Files = j.o.lazily(j.disk)
		defer func() {
			if err != nil {
				j.disk.close()
			}
		}()
	} else {
		j.o.VFS = aheadFS{j.o.VFS}
	}
	w, err := j.open()
	if err != nil {
		return nil, err
	}
	last, err := w.LastIndex()
	if err != nil {
		return nil, errors.Join(err, j.end(w))
	}
	j.wal = w
	j.last.Store(last)
	return j, nil
}

func (j *Journal) open() (w *wal.WAL, err error) {
	// The little database in which raft-wal keeps its list of files panics on some damage.
	defer func() {
		if p := recover(); p != nil {
			w, err = nil, fmt.Errorf("the log's index is damaged: %v", p)
		}
	}()
	if err := verifyIndex(filepath.Join(j.o.Dir, metadb.FileName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the log's index %q is damaged: %w", metadb.FileName, err)
	}
	var begun uint64
	if j.sealed, begun, err = j.o.mendTail(j.o.Log); err != nil {
		return nil, err
	}
	meta := j.o.Meta()
	j.files = newPresentFS(begunFS{j.o.VFS, meta, begun})
	j.removal = removeLate(j.files, j.o.Log)
	j.codec = new(codec)
	w, err = wal.Open(j.o.Dir, wal.WithCodec(j.codec), wal.WithLogger(j.o.Engine), wal.WithSegmentSize(j.o.Size), wal.WithMetaStore(meta),
		wal.WithSegmentFiler(segment.NewFiler(j.o.Dir, j.removal)))
	if err != nil {
		return nil, errors.Join(err, meta.Close()) // else whoever tries again waits for its lock
	}
	j.files.opened(j.o.Dir, metadb.FileName)
	j.removal.opened()
	return w, nil
}

// end closes what open has returned.
func (j *Journal) end(w *wal.WAL) error {
	err := w.Close()
	j.removal.end()
	return err
}

// Started lets errors of the disk be survived from here on: raft has read what it needs.
func (j *Journal) Started() {
	j.state.Lock()
	j.started = true
	j.state.Unlock()
}

// StartError is why a term could not be written before Started; nil where it could.
// Raft panics then, with an error that hides it.
func (j *Journal) StartError() error { return j.early }

// Flush syncs what Lazy has left unsynced.
func (j *Journal) Flush() error {
	if j.disk == nil {
		return nil
	}
	return j.disk.flush()
}

// Fail notes that the disk is ill and starts to try it again.
func (j *Journal) Fail(err error) {
	j.state.Lock()
	defer j.state.Unlock()
	if !j.started || j.closing || j.ill != nil {
		return
	}
	j.ill = err
	j.well = make(chan struct{})
	j.probing.Add(1)
	go j.probe()
	j.o.Changed(err)
}

// probe tries the disk until it can be written and the log is open again.
func (j *Journal) probe() {
	defer j.probing.Done()
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		if err := j.repair(); err != nil {
			j.state.Lock()
			j.ill = err // mostly more to the point than the first one
			j.o.Changed(err)
			j.state.Unlock()
			select {
			case <-j.stop:
				return
			case <-tick.C:
				continue
			}
		}
		j.state.Lock()
		j.ill = nil
		if !j.closing {
			close(j.well)
		}
		j.o.Changed(nil)
		j.state.Unlock()
		return
	}
}

func (j *Journal) repair() error {
	if err := j.o.Present(); err != nil {
		return err
	}
	if err := j.o.tryWrite(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wal != nil {
		if err := j.files.present(j.o.Dir); err != nil {
			return err // what is open can still be read
		}
		j.end(j.wal)
		j.wal = nil
	}
	w, err := j.open()
	if err != nil {
		return err
	}
	// What a failed write left behind was answered with an error: raft does not know it.
	last, err := w.LastIndex()
	switch keep := j.last.Load(); {
	case err == nil && last > keep:
		err = w.DeleteRange(keep+1, last)
	case err == nil && last < keep:
		err = fmt.Errorf("the log there ends at entry %d, and entry %d was acknowledged: bring the right folder back, or restart this server to start from the one that is there", last, keep)
	}
	if err != nil {
		j.end(w)
		return err
	}
	j.wal = w
	j.reread.cut()
	return nil
}

// Release lets a waiting writer of terms go on, so that raft can shut down. It
// is told a success: the one thing that raft does with it before it notices the
// shutdown is to store an entry, and that is refused.
func (j *Journal) Release() {
	j.state.Lock()
	if j.closing {
		j.state.Unlock()
		return
	}
	j.closing = true
	if j.ill != nil {
		close(j.well)
	}
	close(j.stop)
	j.state.Unlock()
	j.probing.Wait()
}

// Close closes the log. It is called once, after raft has ended.
func (j *Journal) Close() error {
	j.Release()
	if j.disk != nil {
		defer j.disk.close()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wal == nil {
		return nil
	}
	err := j.end(j.wal)
	j.wal = nil
	return err
}

func (j *Journal) with(f func(*wal.WAL) error) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.wal == nil {
		return errClosed
	}
	return f(j.wal)
}

// IsMonotonic tells raft that the log must not have gaps.
func (j *Journal) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (j *Journal) FirstIndex() (index uint64, err error) {
	err = j.with(func(w *wal.WAL) error { index, err = w.FirstIndex(); return err })
	return index, err
}

// LastIndex implements raft.LogStore.
func (j *Journal) LastIndex() (index uint64, err error) {
	err = j.with(func(w *wal.WAL) error { index, err = w.LastIndex(); return err })
	return index, err
}

// GetLog implements raft.LogStore. A command is verified each time it is read.
func (j *Journal) GetLog(index uint64, entry *raft.Log) error {
	found, cuts := j.reread.get(index, entry)
	if found {
		return nil
	}
	err := j.with(func(w *wal.WAL) error { return w.GetLog(index, entry) })
	if errors.Is(err, raft.ErrLogNotFound) {
		return raft.ErrLogNotFound // raft compares: only with this very error it sends a snapshot instead
	}
	if err == nil && entry.Index != index {
		err = fmt.Errorf("it says that it is entry %d", entry.Index)
	}
	if err == nil && entry.Type == raft.LogCommand {
		err = j.o.Verify(entry.Data)
	}
	if err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	j.reread.put(entry, cuts)
	return nil
}

// StoreLog implements raft.LogStore.
func (j *Journal) StoreLog(entry *raft.Log) error { return j.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore: the entries are on disk when it returns nil. It is
// for one goroutine.
func (j *Journal) StoreLogs(entries []*raft.Log) error {
	if err := j.refusal(); err != nil {
		return err
	}
	j.writes.Add(1)
	defer j.writes.Add(1)
	if err := j.with(func(w *wal.WAL) error { return j.append(w, entries) }); err != nil {
		if errors.Is(err, types.ErrSealed) { // raft-wal has only logged why
			err = fmt.Errorf("the next file of the log could not be made: %w", err)
		}
		j.Fail(err)
		return err
	}
	if len(entries) > 0 {
		j.last.Store(entries[len(entries)-1].Index)
	}
	return nil
}

// Writing returns a number for the write that is under way, another for each; 0 where there is none.
func (j *Journal) Writing() uint64 {
	if n := j.writes.Load(); n%2 == 1 {
		return n
	}
	return 0
}

// append stores entries. Raft leaves a gap before them in one case only: the
// snapshot it has restored is newer than the end of the log, because the disk
// forgot what it had said was synced. Then the snapshot holds all of the log,
// and raft-wal, which allows no gap, must begin anew.
func (j *Journal) append(w *wal.WAL, entries []*raft.Log) error {
	last, err := w.LastIndex()
	if err != nil {
		return err
	}
	if last > 0 && len(entries) > 0 && entries[0].Index > last+1 {
		j.o.Log.Warn("the log ends before the snapshot: this disk loses what it says is written, and acknowledged changes may be missing",
			"log-ends", last, "snapshot", entries[0].Index-1)
		first, err := w.FirstIndex()
		if err == nil {
			err = w.DeleteRange(first, last)
		}
		j.reread.cut()
		if err != nil {
			return err
		}
	}
	j.codec.begin()
	return w.StoreLogs(entries)
}

func (j *Journal) refusal() error {
	j.state.Lock()
	defer j.state.Unlock()
	if j.closing {
		return errClosed
	}
	return j.ill
}

// DeleteRange implements raft.LogStore.
func (j *Journal) DeleteRange(first, last uint64) error {
	if err := j.refusal(); err != nil {
		return err
	}
	defer j.reread.cut()
	return j.with(func(w *wal.WAL) error {
		if err := w.DeleteRange(first, last); err != nil {
			j.Fail(err)
			return err
		}
		end, err := w.LastIndex()
		if err == nil {
			j.last.Store(end)
		}
		return err
	})
}

// Set implements raft.StableStore. Raft panics where its term cannot be kept,
// so Set waits until it can.
func (j *Journal) Set(key, value []byte) error {
	return j.persist(func(w *wal.WAL) error { return w.Set(key, value) })
}

// SetUint64 implements raft.StableStore; see Set.
func (j *Journal) SetUint64(key []byte, value uint64) error {
	return j.persist(func(w *wal.WAL) error { return w.SetUint64(key, value) })
}

func (j *Journal) persist(write func(*wal.WAL) error) error {
	for {
		j.state.Lock()
		started, closing, well := j.started, j.closing, j.well
		if j.ill == nil {
			well = nil
		}
		j.state.Unlock()
		switch {
		case closing:
			return nil
		case well != nil:
			<-well
			continue
		}
		err := j.with(write)
		if err == nil || !started {
			if !started {
				j.early = err
			}
			return err
		}
		j.Fail(err)
	}
}

// Get implements raft.StableStore.
func (j *Journal) Get(key []byte) (value []byte, err error) {
	err = j.with(func(w *wal.WAL) error { value, err = w.Get(key); return err })
	return value, err
}

// GetUint64 implements raft.StableStore.
func (j *Journal) GetUint64(key []byte) (value uint64, err error) {
	err = j.with(func(w *wal.WAL) error { value, err = w.GetUint64(key); return err })
	return value, err
}
