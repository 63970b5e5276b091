package raftlog

import (
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft-wal/types"
)

// removePause is between one file of the log that is removed and the next.
const removePause = 20 * time.Millisecond

// lateRemoval removes the log's files that a snapshot made needless one after the other,
// beside everything else: raft-wal (v0.4.2, wal.go, DeleteRange) does it while nobody can
// write to the log, and a disk takes a second for some dozens. What is left of them
// when the log is closed, or the process killed, raft-wal removes when it opens it: they are not in its list.
type lateRemoval struct {
	types.VFS
	log *slog.Logger

	mu    sync.Mutex
	late  bool     // from the opening on: before, what is removed makes room for a new file of that name
	ended bool     // nothing is removed any more
	list  []func() // what is to be removed
	going bool     // a goroutine is at it
	work  sync.WaitGroup
	stop  chan struct{} // closed by end
}

func removeLate(vfs types.VFS, log *slog.Logger) *lateRemoval {
	return &lateRemoval{VFS: vfs, log: log, stop: make(chan struct{})}
}

// opened is called when raft-wal has opened the log: it uses no name twice from here on.
func (r *lateRemoval) opened() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late = true
}

// Delete implements types.VFS.
func (r *lateRemoval) Delete(dir, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended:
		return nil
	case !r.late:
		return r.VFS.Delete(dir, name)
	}
	r.list = append(r.list, func() {
		if err := r.VFS.Delete(dir, name); err != nil {
			r.log.Warn("an old file of the log is removed at the next start", "file", name, "error", err)
		}
	})
	if !r.going {
		r.going = true
		r.work.Go(r.run)
	}
	return nil
}

// run removes files until none is left, or end was called.
func (r *lateRemoval) run() {
	for {
		r.mu.Lock()
		r.going = len(r.list) > 0
		if !r.going {
			r.mu.Unlock()
			return
		}
		remove := r.list[0]
		r.list = r.list[1:]
		r.mu.Unlock()
		remove()
		select {
		case <-time.After(removePause):
		case <-r.stop:
			return
		}
	}
}

// end is called once the log was closed.
func (r *lateRemoval) end() {
	r.mu.Lock()
	r.ended = true
	close(r.stop)
	r.mu.Unlock()
	r.work.Wait()
}
