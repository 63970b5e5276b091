package server

import "sync/atomic"

// behind counts the memory of answers of all connections: those that their peers
// have not taken, and the buffers that are kept for the next ones. A limit per
// connection does not help against ten thousand. It is for many goroutines; nil
// counts nothing.
type behind struct {
	max int64
	sum atomic.Int64
}

func (b *behind) add(n int) {
	if b != nil && n != 0 {
		b.sum.Add(int64(n))
	}
}

// thrifty reports whether memory counts more than speed.
func (b *behind) thrifty() bool { return b != nil && b.sum.Load() > b.max/8 }

// tooFar reports whether those that are far behind must go.
func (b *behind) tooFar() bool { return b != nil && b.sum.Load() > b.max }

// countStep is what a connection may be wrong by in the sum: a small answer then
// costs nobody a counter that all share.
const countStep = 4 << 10

// countLocked settles with the sum of all connections what this one takes.
func (a *answers) countLocked() {
	takes := a.held + cap(a.out) - len(a.out) + cap(a.spare) + a.kept
	if a.ended {
		takes = 0 // what is finished from now on is dropped
	} else if max(takes-a.counted, a.counted-takes) < countStep {
		return
	}
	a.all.add(takes - a.counted)
	a.counted = takes
	if a.held > keepBuffer && !a.broken && a.all.tooFar() {
		a.cutOff = true
		a.breakLocked()
	}
}

// keep is the largest buffer that is kept for the next answer.
func (a *answers) keep() int {
	if a.all.thrifty() {
		return thriftyBuffer
	}
	return keepBuffer
}

func (a *answers) reuse(b []byte) []byte {
	if cap(b) > a.keep() {
		return nil
	}
	return b[:0]
}

// crowded reports whether the inline answers must be handed over before the
// next command, although more input has arrived. Half of what is kept, so that
// a stream of usual answers never grows a buffer that must be given back.
func (a *answers) crowded() bool { return len(a.inline) > a.keep()/2 }
