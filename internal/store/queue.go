package store

import "bytes"

// queue is a heap of blocks by time, the earliest in front. Each block knows its
// place in it. Among equals the order is that of the keys where ties is set, so that
// every server takes them in the same order.
type queue struct {
	s    []queued
	ties bool
}

// queued is a block and a time not after its own.
type queued struct {
	at Time
	r  ref
}

// first returns the earliest time, and whether there is one.
func (q *queue) first() (Time, bool) {
	if len(q.s) == 0 {
		return 0, false
	}
	return q.s[0].at, true
}

func (q *queue) add(a *arena, at Time, r ref) {
	q.s = append(q.s, queued{at, r})
	q.up(a, len(q.s)-1)
}

// move changes the time at pos.
func (q *queue) move(a *arena, pos int, at Time) {
	q.s[pos].at = at
	if !q.up(a, pos) {
		q.down(a, pos)
	}
}

func (q *queue) remove(a *arena, pos int) {
	block(a.at(q.s[pos].r)).setPlace(-1)
	last := len(q.s) - 1
	end := q.s[last]
	q.s = q.s[:last]
	if pos < last {
		q.put(a, pos, end)
		if !q.up(a, pos) {
			q.down(a, pos)
		}
	}
	if cap(q.s) > 1024 && len(q.s) < cap(q.s)/4 {
		q.s = append(make([]queued, 0, cap(q.s)/2), q.s...)
	}
}

func (q *queue) put(a *arena, pos int, e queued) {
	q.s[pos] = e
	block(a.at(e.r)).setPlace(pos)
}

func (q *queue) less(a *arena, x, y queued) bool {
	if x.at != y.at || !q.ties {
		return x.at < y.at
	}
	return bytes.Compare(block(a.at(x.r)).key(), block(a.at(y.r)).key()) < 0
}

// up moves what is at pos to the front as far as it belongs, and reports whether it went anywhere.
func (q *queue) up(a *arena, pos int) bool {
	e, start := q.s[pos], pos
	for pos > 0 {
		parent := (pos - 1) / 2
		if !q.less(a, e, q.s[parent]) {
			break
		}
		q.put(a, pos, q.s[parent])
		pos = parent
	}
	q.put(a, pos, e)
	return pos != start
}

func (q *queue) down(a *arena, pos int) {
	e := q.s[pos]
	for {
		child := 2*pos + 1
		if child >= len(q.s) {
			break
		}
		if child+1 < len(q.s) && q.less(a, q.s[child+1], q.s[child]) {
			child++
		}
		if !q.less(a, q.s[child], e) {
			break
		}
		q.put(a, pos, q.s[child])
		pos = child
	}
	q.put(a, pos, e)
}

// until appends to list at most limit blocks whose time in the queue is not after now.
func (q *queue) until(now Time, limit int, list []ref) []ref {
	next := []int{0}
	for len(next) > 0 && len(list) < limit {
		pos := next[0]
		next = next[1:]
		if pos < len(q.s) && q.s[pos].at <= now {
			list = append(list, q.s[pos].r)
			next = append(next, 2*pos+1, 2*pos+2)
		}
	}
	return list
}
