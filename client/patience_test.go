package client

import (
	"slices"
	"testing"
)

// Each call is nudged once, when the timer has run twice since it was sent and it is
// not answered, whatever was answered before it.
func TestNudges(t *testing.T) {
	cn := &conn{}
	var calls []*call
	send := func(n int) {
		for range n {
			k := &call{done: make(chan struct{}, 1)}
			calls = append(calls, k)
			cn.inflight.push(k)
		}
	}
	answer := func(n int) {
		for range n {
			cn.inflight.pop()
			cn.answers++
		}
	}
	tick := func(more bool, want ...int) {
		t.Helper()
		if got := cn.nudgeLocked(); got != more {
			t.Errorf("younger ones: %v", got)
		}
		var nudged []int
		for i, k := range calls {
			select {
			case <-k.done:
				nudged = append(nudged, i)
			default:
			}
		}
		if !slices.Equal(nudged, want) {
			t.Errorf("nudged %v, want %v", nudged, want)
		}
	}
	tick(false)
	send(3) // 0 1 2
	tick(true)
	send(2) // 3 4
	answer(1)
	tick(true, 1, 2)
	tick(false, 3, 4)
	tick(false)
	send(1) // 5
	tick(true)
	answer(6)
	send(2) // 6 7
	tick(true)
	answer(1)
	tick(false, 7)
	send(1) // 8
	tick(true)
	for cn.inflight.pop() != nil { // the connection is lost
	}
	cn.nobodyToNudgeLocked()
	tick(false)
}
