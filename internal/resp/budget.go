package resp

import (
	"errors"
	"sync/atomic"
)

// ErrBudget ends a Reader whose command needs more memory than its Budget has left.
var ErrBudget = errors.New("the large commands of all connections together are above their limit")

// Budget bounds what several Readers hold together beyond a usual buffer each: a
// limit per command does not help against a thousand half commands. It is for
// many goroutines.
type Budget struct {
	max   int64
	used  atomic.Int64 // beyond a usual buffer each
	usual atomic.Int64 // beyond a first buffer each, up to a usual one: counted, never refused
}

// NewBudget returns a Budget of max bytes.
func NewBudget(max int) *Budget { return &Budget{max: int64(max)} }

// take reserves n bytes; a negative n gives them back. It reports whether they fit.
func (b *Budget) take(n int) bool {
	if b == nil || n == 0 {
		return true
	}
	if b.used.Add(int64(n)) <= b.max || n < 0 {
		return true
	}
	b.used.Add(int64(-n))
	return false
}

// resize takes what a buffer of another size needs more, or gives back what it
// needs less. It reports whether it fits.
func (b *Budget) resize(from, to int) bool {
	if !b.take(beyond(to) - beyond(from)) {
		return false
	}
	if b != nil {
		b.usual.Add(int64(usual(to) - usual(from)))
	}
	return true
}

// scarce reports whether idle Readers must not keep large buffers.
func (b *Budget) scarce() bool { return b != nil && b.used.Load() > b.max/2 }

// crowded reports whether there are so many usual buffers that a Reader must do
// with the smallest that its command fits in: ten thousand connections that were
// busy once would keep more memory than the large commands may take.
func (b *Budget) crowded() bool { return b != nil && b.usual.Load() > b.max/8 }

// Share makes r take the memory of large commands from b. Call it before the
// first read, and Release at the end.
func (r *Reader) Share(b *Budget) { r.budget = b }

// Release drops the buffer, with what has arrived and was not read.
func (r *Reader) Release() {
	r.budget.resize(len(r.buf), 0)
	r.buf, r.start, r.end = nil, 0, 0
	r.next()
}

// beyond is what a buffer of size bytes takes from the budget.
func beyond(size int) int { return max(0, size-usualBuffer) }

// usual is the part of a buffer of size bytes that is not beyond a usual one.
func usual(size int) int { return max(0, min(size, usualBuffer)-firstBuffer) }
