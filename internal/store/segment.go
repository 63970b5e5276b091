package store

import (
	"bytes"
	"container/heap"
	"sync"
	"unsafe"
)

// segment is one part of a dataset's keys. Only the goroutine that applies changes
// records and traces, so that it may read them without the lock.
type segment struct {
	mu      sync.RWMutex       // guards everything below
	records map[string]*record // key -> session
	traces  map[string]*trace  // key -> alias or tombstone; never a key of records
	due     queue              // sessions that have a time-out
	ends    queue              // traces
}

// trace is what a key without a session may have: an alias (target is set) or a
// tombstone. Like a record it is replaced, never changed.
type trace struct {
	key    []byte
	target []byte // alias: key of the session that it leads to, which exists
	reason []byte // tombstone: how the session ended
	until  Time   // when an alias becomes a tombstone, and a tombstone may be dropped
	place  *slot  // guarded by the segment
}

// reasonRenewed is the reason of keys that a renewal left behind.
var reasonRenewed = []byte("renewed")

// reasonExpired is the reason of sessions whose time was up.
var reasonExpired = []byte("expired")

func (t *trace) cost() uint64 {
	if t.target != nil {
		return uint64(aliasCost + len(t.key) + len(t.target))
	}
	return uint64(tombstoneCost + len(t.key) + len(t.reason))
}

// leads reports whether t is an alias within its grace. One past it is as good as
// a tombstone, whether AppendPrune has come by or not.
func (t *trace) leads(now Time) bool { return t.target != nil && now < t.until }

// ending returns the reason that a key which doesn't lead anywhere has.
func (t *trace) ending() []byte {
	if t.target != nil {
		return reasonRenewed
	}
	return t.reason
}

// put puts r in the place of what its key had in records.
func (g *segment) put(r *record) {
	if g.records == nil {
		g.records = map[string]*record{}
	}
	g.records[view(r.Key)] = r
	due := r.due()
	switch {
	case due == 0:
		g.due.remove(r.place)
		r.place = nil
	case r.place == nil:
		r.place = g.due.add(due, r.Key)
	case due < r.place.at:
		g.due.move(r.place, due)
	}
	// A later time is left where it stands: an access costs no reordering. The
	// queue finds out when the old time comes.
}

func (g *segment) drop(r *record) {
	delete(g.records, view(r.Key))
	g.due.remove(r.place)
	r.place = nil
}

// leave puts t in the place of what its key had in traces.
func (g *segment) leave(t *trace) {
	if g.traces == nil {
		g.traces = map[string]*trace{}
	}
	if old := g.traces[view(t.key)]; old != nil {
		g.ends.remove(old.place)
	}
	g.traces[view(t.key)] = t
	t.place = g.ends.add(t.until, t.key)
}

func (g *segment) forget(t *trace) {
	delete(g.traces, view(t.key))
	g.ends.remove(t.place)
}

// view makes a string of b's bytes without a copy. Only for bytes that are never
// changed again: those of records and traces, and map look-ups.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// hash is FNV-1a with a final mix, fixed because a key's segment decides the
// order in which snapshots are written. It must never change without a new format version.
func hash(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}

// slot is a place in a queue: a key and a time not after its own.
type slot struct {
	at  Time
	key []byte
	pos int
}

// queue holds slots, the earliest in front; among equals by key, so that every
// server takes them in the same order.
type queue struct{ s slots }

func (q *queue) first() *slot {
	if len(q.s) == 0 {
		return nil
	}
	return q.s[0]
}

func (q *queue) add(at Time, key []byte) *slot {
	s := &slot{at: at, key: key}
	q.put(s)
	return s
}

func (q *queue) put(s *slot) { heap.Push(&q.s, s) }

func (q *queue) move(s *slot, at Time) {
	s.at = at
	heap.Fix(&q.s, s.pos)
}

func (q *queue) remove(s *slot) {
	if s != nil {
		heap.Remove(&q.s, s.pos)
	}
}

// slots is the heap under a queue.
type slots []*slot

func (h slots) Len() int { return len(h) }
func (h slots) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return bytes.Compare(h[i].key, h[j].key) < 0
}
func (h slots) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}
func (h *slots) Push(x any) {
	s := x.(*slot)
	s.pos = len(*h)
	*h = append(*h, s)
}
func (h *slots) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return s
}
