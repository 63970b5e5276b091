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

	mu     sync.Mutex
	next   uint32   // the epoch that is running is next+1
	held   []uint32 // epochs of the snapshots that are held, in order
	closed bool     // the state was given up: the last snapshot gives back its memory
}

// take ends the running epoch and holds it.
func (e *epochs) take() uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next++
	e.held = append(e.held, e.next)
	e.newest.Store(e.next)
	return e.next
}

// drop lets go of epoch and returns those still held, and whether the state is to be freed.
func (e *epochs) drop(epoch uint32) (held []uint32, free bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.held, epoch)
	e.held = slices.Delete(e.held, i, i+1)
	newest := uint32(0)
	if n := len(e.held); n > 0 {
		newest = e.held[n-1]
	}
	e.newest.Store(newest)
	return slices.Clone(e.held), e.closed && len(e.held) == 0
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
