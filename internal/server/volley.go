package server

import (
	"slices"
	"sync"
)

// volley has the answers to one batch of changes leave together. Connections whose first
// answers come while it is open are written to when it ends: one of them at once by whoever
// answers, if its system takes all of it, the others by goroutines of their own. So the answers to a node
// leave in one write, and mostly without waking another goroutine.
//
// A nil volley takes nothing.
type volley struct {
	mu   sync.Mutex
	open bool
	list []*answers // to be written to: each has writing set
}

func (v *volley) begin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open = true
}

// takes reports whether a is written to when the volley ends.
func (v *volley) takes(a *answers) bool {
	if v == nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open {
		v.list = append(v.list, a)
	}
	return v.open
}

// end must not wait for a peer.
func (v *volley) end() {
	v.mu.Lock()
	list := v.list
	v.list, v.open = nil, false
	v.mu.Unlock()
	for i, a := range slices.Backward(list) {
		a.leave(i == 0)
	}
	clear(list)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.list == nil && cap(list) <= 1024 {
		v.list = list[:0]
	}
}

// leave writes out: with now once by itself, as far as that goes without waiting, and the rest in
// a goroutine. Who calls it has set writing, and must not be kept by what others answer meanwhile.
func (a *answers) leave(now bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now && a.now != nil && !a.broken && len(a.out) <= keepBuffer {
		a.writeNowLocked()
	}
	if len(a.out) == 0 || a.broken { // a flush must not begin once it is broken
		a.writing = false
		a.changed.Broadcast()
		return
	}
	a.flushs.Go(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.writeLocked()
	})
}

func (a *answers) writeNowLocked() {
	buf, n := a.out, 0
	a.out, a.spare = a.spare[:0], nil
	a.mu.Unlock()
	err := a.setWriteDeadline()
	if err == nil {
		n, err = a.now.Write(buf)
	}
	a.mu.Lock()
	if rest := buf[n:]; err == nil && len(rest) > 0 {
		a.held -= n
		a.out = append(rest, a.out...)
	} else {
		a.held -= len(buf)
		a.spare = a.reuse(buf)
	}
	a.countLocked()
	if err != nil {
		a.breakLocked()
	}
}
