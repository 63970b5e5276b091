package store

import (
	"slices"
	"sync"
	"sync/atomic"
)

// epochs tells which snapshots of a state are held. Each snapshot ends an epoch;
// a block or table that was made in an epoch not after a held snapshot's may be read by it.
type epochs struct {
	newest atomic.Uint32 // newest held epoch, 0 for none; set under mu
	kept   atomic.Uint64 // bytes of the blocks that only snapshots read, of all segments

	mu     sync.Mutex
	next   uint32      // the epoch that is running is next+1
	held   []*Snapshot // those that are held, in order
	closed bool        // the state was given up: the last snapshot gives back its memory
}

// take ends the running epoch, which n holds.
func (e *epochs) take(n *Snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next++
	n.epoch = e.next
	e.held = append(e.held, n)
	e.newest.Store(n.epoch)
}

// drop lets go of n's epoch and reports whether the state is to be freed.
func (e *epochs) drop(n *Snapshot) (free bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.held, n)
	e.held = slices.Delete(e.held, i, i+1)
	newest := uint32(0)
	if n := len(e.held); n > 0 {
		newest = e.held[n-1].epoch
	}
	e.newest.Store(newest)
	return e.closed && len(e.held) == 0
}

// list returns the epochs that are held, in order. Who gives back what none of them reads
// asks while the segment is locked: a snapshot that is taken later then has only
// what is not kept yet.
func (e *epochs) list() []uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]uint32, len(e.held))
	for i, n := range e.held {
		list[i] = n.epoch
	}
	return list
}

// snapshots returns those that are held, the oldest first.
func (e *epochs) snapshots() []*Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.held)
}

// close reports whether no snapshot is held; else the last one that is dropped reports free.
func (e *epochs) close() (free bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	free = !e.closed && len(e.held) == 0
	e.closed = true
	return free
}

// kept is a block that is gone, but that a snapshot may read.
type kept struct {
	r    ref
	born uint32
	died uint32 // epoch that was running: later snapshots do not have it
}

func (k kept) needed(held []uint32) bool {
	return slices.ContainsFunc(held, func(e uint32) bool { return k.born <= e && e < k.died })
}
