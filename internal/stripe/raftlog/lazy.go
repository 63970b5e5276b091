package raftlog

import (
	"sync"
	"time"

	"github.com/hashicorp/raft-wal/types"
)

// syncInterval is how long an acknowledged write may be only in the operating
// system's memory with Lazy.
const syncInterval = time.Second

// lazyFS is the file system for Lazy: Sync only notes that there is
// something to sync, and one goroutine does it once a second. What is lost when
// the machine (not the process) crashes is at most the last second. An error of
// the late sync is returned by the next Sync.
type lazyFS struct {
	types.VFS
	one   sync.Mutex // held by flush: when it returns, all before it is synced
	mu    sync.Mutex // guards what follows
	dirty map[*lazyFile]bool
	err   error // of the last late sync, until it was returned
	stop  chan struct{}
	done  chan struct{}
}

func newLazyFS(vfs types.VFS) *lazyFS {
	l := &lazyFS{VFS: vfs, dirty: map[*lazyFile]bool{}, stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

func (l *lazyFS) run() {
	defer close(l.done)
	tick := time.NewTicker(syncInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.flush()
		case <-l.stop:
			l.flush()
			return
		}
	}
}

// flush syncs what there is to sync. It also returns an error that the next Sync
// will return.
func (l *lazyFS) flush() error {
	l.one.Lock()
	defer l.one.Unlock()
	l.mu.Lock()
	list := l.dirty
	l.dirty = map[*lazyFile]bool{}
	l.mu.Unlock()
	for f := range list {
		if err := f.syncNow(); err != nil {
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// close syncs what is left. It is called after the log was closed.
func (l *lazyFS) close() {
	close(l.stop)
	<-l.done
}

// Create implements types.VFS.
func (l *lazyFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := l.VFS.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	return &lazyFile{WritableFile: f, fs: l}, nil
}

// OpenWriter implements types.VFS.
func (l *lazyFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := l.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &lazyFile{WritableFile: f, fs: l}, nil
}

type lazyFile struct {
	types.WritableFile
	fs     *lazyFS
	mu     sync.Mutex // orders a late sync and Close
	closed bool
}

// Sync implements types.WritableFile.
func (f *lazyFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.dirty[f] = true
	err := f.fs.err
	f.fs.err = nil
	return err
}

func (f *lazyFile) syncNow() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	return f.WritableFile.Sync()
}

// Close implements types.WritableFile. A file is closed only when it was synced.
func (f *lazyFile) Close() error {
	f.fs.one.Lock() // a flush that has begun may have taken this file over
	defer f.fs.one.Unlock()
	f.fs.mu.Lock()
	dirty := f.fs.dirty[f]
	delete(f.fs.dirty, f)
	f.fs.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if dirty {
		if err := f.WritableFile.Sync(); err != nil {
			f.WritableFile.Close()
			return err
		}
	}
	return f.WritableFile.Close()
}
