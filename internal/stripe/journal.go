package stripe

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
)

// probeInterval is how often an ill disk is tried again.
const probeInterval = 250 * time.Millisecond

var errJournalClosed = errors.New("the log is closed")

// journal is the log on disk as the Raft library sees it: raft-wal, and what
// raft-wal and raft lack when the disk fails. raft panics where it cannot keep
// its term, and raft-wal cannot be written again after a failed change of
// files. So after the first failed write the journal is ill: it refuses
// entries, lets the writer of terms wait, tries the disk now and then, and
// opens the log anew once the disk can be written.
//
// It implements raft.LogStore (and its monotonic form) and raft.StableStore.
type journal struct {
	logFiles
	log    *slog.Logger
	hclog  hclog.Logger
	here   func() error    // whether the data root is still there
	change func(ill error) // called with nil when well again, under state; must not block

	mu      sync.RWMutex // guards what follows, which a repair replaces
	wal     *wal.WAL
	removal *lateRemoval // of wal

	last   atomic.Uint64 // index of the last entry stored without an error
	reread reread

	early error // why a term could not be written while opening: raft's panic hides it

	state   sync.Mutex
	started bool          // false while opening: errors are returned at once
	closing bool          // set by release
	ill     error         // nil while the disk is well
	well    chan struct{} // closed when ill becomes nil, and by release; nil while well
	probing sync.WaitGroup
	stop    chan struct{} // closed by release
}

var (
	_ raft.LogStore          = (*journal)(nil)
	_ raft.MonotonicLogStore = (*journal)(nil)
	_ raft.StableStore       = (*journal)(nil)
)

func openJournal(files logFiles, log *slog.Logger, change func(error), here func() error) (*journal, error) {
	j := &journal{logFiles: files, log: log, hclog: hclogTo(log), change: change, here: here, stop: make(chan struct{})}
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

func (j *journal) open() (w *wal.WAL, err error) {
	// The little database in which raft-wal keeps its list of files panics on some damage.
	defer func() {
		if p := recover(); p != nil {
			w, err = nil, fmt.Errorf("the log's index is damaged: %v", p)
		}
	}()
	if err := j.mendTail(j.log); err != nil {
		return nil, err
	}
	j.removal = removeLate(j.vfs, j.log)
	w, err = wal.Open(j.dir, wal.WithLogger(j.hclog), wal.WithSegmentSize(j.size), wal.WithMetaStore(j.meta()),
		wal.WithSegmentFiler(segment.NewFiler(j.dir, j.removal)))
	j.removal.opened()
	return w, err
}

// end closes what open has returned.
func (j *journal) end(w *wal.WAL) error {
	err := w.Close()
	j.removal.end()
	return err
}

// run lets errors of the disk be survived from here on.
func (j *journal) run() {
	j.state.Lock()
	j.started = true
	j.state.Unlock()
}

// fail notes that the disk is ill and starts to try it again.
func (j *journal) fail(err error) {
	j.state.Lock()
	defer j.state.Unlock()
	if !j.started || j.closing || j.ill != nil {
		return
	}
	j.ill = explain(filepath.Dir(j.dir), err)
	j.well = make(chan struct{})
	j.probing.Add(1)
	go j.probe()
	j.log.Error("the data root cannot be written: changes are refused until it can, reads go on", "error", j.ill)
	j.change(j.ill)
}

// probe tries the disk until it can be written and the log is open again.
func (j *journal) probe() {
	defer j.probing.Done()
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		if err := j.repair(); err != nil {
			j.state.Lock()
			j.ill = explain(filepath.Dir(j.dir), err) // mostly more to the point than the first error
			j.change(j.ill)
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
		j.change(nil)
		j.state.Unlock()
		j.log.Info("the data root can be written again")
		return
	}
}

func (j *journal) repair() error {
	if err := j.here(); err != nil {
		return err
	}
	if err := j.tryWrite(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wal != nil {
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

// release lets a waiting writer of terms go on, so that raft can shut down. It
// is told a success: the one thing that raft does with it before it notices the
// shutdown is to store an entry, and that is refused.
func (j *journal) release() {
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

// close closes the log. It is called after raft has ended.
func (j *journal) close() error {
	j.release()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wal == nil {
		return nil
	}
	err := j.end(j.wal)
	j.wal = nil
	return err
}

func (j *journal) with(f func(*wal.WAL) error) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.wal == nil {
		return errJournalClosed
	}
	return f(j.wal)
}

// IsMonotonic tells raft that the log must not have gaps.
func (j *journal) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (j *journal) FirstIndex() (index uint64, err error) {
	err = j.with(func(w *wal.WAL) error { index, err = w.FirstIndex(); return err })
	return index, err
}

// LastIndex implements raft.LogStore.
func (j *journal) LastIndex() (index uint64, err error) {
	err = j.with(func(w *wal.WAL) error { index, err = w.LastIndex(); return err })
	return index, err
}

// GetLog implements raft.LogStore. A batch is verified each time it is read.
func (j *journal) GetLog(index uint64, entry *raft.Log) error {
	found, cuts := j.reread.get(index, entry)
	if found {
		return nil
	}
	err := j.with(func(w *wal.WAL) error { return w.GetLog(index, entry) })
	if errors.Is(err, raft.ErrLogNotFound) {
		return raft.ErrLogNotFound // raft compares: only with this very error it sends a snapshot instead
	}
	if err == nil && entry.Type == raft.LogCommand {
		err = checkEnvelope(entry.Data)
	}
	if err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	j.reread.put(entry, cuts)
	return nil
}

// StoreLog implements raft.LogStore.
func (j *journal) StoreLog(entry *raft.Log) error { return j.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore: the entries are on disk when it returns nil.
func (j *journal) StoreLogs(entries []*raft.Log) error {
	if err := j.refusal(); err != nil {
		return err
	}
	if err := j.with(func(w *wal.WAL) error { return j.append(w, entries) }); err != nil {
		j.fail(err)
		return err
	}
	if len(entries) > 0 {
		j.last.Store(entries[len(entries)-1].Index)
	}
	return nil
}

// append stores entries. Raft leaves a gap before them in one case only: the
// snapshot it has restored is newer than the end of the log, because the disk
// forgot what it had said was synced. Then the snapshot holds all of the log,
// and raft-wal, which allows no gap, must begin anew.
func (j *journal) append(w *wal.WAL, entries []*raft.Log) error {
	last, err := w.LastIndex()
	if err != nil {
		return err
	}
	if last > 0 && len(entries) > 0 && entries[0].Index > last+1 {
		j.log.Warn("the log ends before the snapshot: this disk loses what it says is written, and acknowledged changes may be missing",
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
	return w.StoreLogs(entries)
}

func (j *journal) refusal() error {
	j.state.Lock()
	defer j.state.Unlock()
	if j.closing {
		return errJournalClosed
	}
	return j.ill
}

// DeleteRange implements raft.LogStore.
func (j *journal) DeleteRange(first, last uint64) error {
	if err := j.refusal(); err != nil {
		return err
	}
	defer j.reread.cut()
	return j.with(func(w *wal.WAL) error {
		if err := w.DeleteRange(first, last); err != nil {
			j.fail(err)
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
func (j *journal) Set(key, value []byte) error {
	return j.persist(func(w *wal.WAL) error { return w.Set(key, value) })
}

// SetUint64 implements raft.StableStore; see Set.
func (j *journal) SetUint64(key []byte, value uint64) error {
	return j.persist(func(w *wal.WAL) error { return w.SetUint64(key, value) })
}

func (j *journal) persist(write func(*wal.WAL) error) error {
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
		j.fail(err)
	}
}

// Get implements raft.StableStore.
func (j *journal) Get(key []byte) (value []byte, err error) {
	err = j.with(func(w *wal.WAL) error { value, err = w.Get(key); return err })
	return value, err
}

// GetUint64 implements raft.StableStore.
func (j *journal) GetUint64(key []byte) (value uint64, err error) {
	err = j.with(func(w *wal.WAL) error { value, err = w.GetUint64(key); return err })
	return value, err
}
