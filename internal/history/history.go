// Package history lets many clients use sessions while a cluster suffers, writes
// down what they asked and were told, and checks whether all of it could have
// happened one after the other (Herlihy and Wing, "Linearizability", 1990). A write
// that was acknowledged and is gone, a read of old data, a write that is seen though
// its caller was told that it failed: each makes a history that no order explains.
//
// The one idea: every value that is written is written once, so that a commit,
// which applies where nothing changed since its load, is a compare-and-set.
//
// It does not replay: a seed fixes what is asked and which faults come when, not
// how goroutines interleave.
//
//	h := history.New()
//	run := history.Run(ctx, h, history.Load{Seed: 1, Nodes: nodes, Threads: 4})
//	run.Wait()
//	err := h.Check(time.Minute)
package history

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// History is what happened. It is safe for concurrent use.
type History struct {
	began time.Time

	mu    sync.Mutex
	ops   map[string][]porcupine.Operation // by session key
	notes []note
	odd   []string // answers that no fault explains
	tally Tally
}

// Tally counts what a history holds.
type Tally struct {
	Reads, Writes int           // answered; a write that was refused as it should be counts
	Unknown       int           // writes whose outcome nobody was told
	Failed        int           // calls that ended in a definite failure and changed nothing
	Keys          int           // sessions
	Gap           time.Duration // longest time without an acknowledged write
	lastWrite     int64
}

type note struct {
	at   int64
	text string
}

// New returns an empty history whose clock starts now.
func New() *History {
	return &History{began: time.Now(), ops: make(map[string][]porcupine.Operation)}
}

func (h *History) now() int64 { return int64(time.Since(h.began)) }

// Note writes down a fault, for whoever reads a history that does not check.
func (h *History) Note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, note{h.now(), fmt.Sprintf(format, args...)})
}

// Notes returns the faults so far, a line each with its time.
func (h *History) Notes() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, n := range h.notes {
		fmt.Fprintf(&b, "%s %s\n", at(n.at), n.text)
	}
	return b.String()
}

// Odd notes an answer that no fault explains; Check then fails.
func (h *History) Odd(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.odd = append(h.odd, at(h.now())+" "+fmt.Sprintf(format, args...))
}

// Tally counts what is there so far.
func (h *History) Tally() Tally {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tally
	t.Keys = len(h.ops)
	return t
}

// add records an operation that was called at call and is over now. One whose
// outcome is unknown is never over: it may still happen, or never.
func (h *History) add(thread int, call int64, in input, out output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.now()
	switch {
	case out.unknown:
		h.tally.Unknown++
		end = math.MaxInt64
	case in.kind == opLoad:
		h.tally.Reads++
	default:
		h.tally.Writes++
		h.tally.Gap = max(h.tally.Gap, time.Duration(end-h.tally.lastWrite))
		h.tally.lastWrite = end
	}
	h.ops[in.key] = append(h.ops[in.key], porcupine.Operation{ClientId: thread, Input: in, Call: call, Output: out, Return: end})
}

func (h *History) failed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tally.Failed++
}

// Check returns nil where some order of all operations, each at a moment between its
// call and its answer, explains every answer. The error shows the session that has
// none, operation by operation. Sessions are checked one by one: each is an object
// of its own. A session that is not decided within limit is an error, too.
func (h *History) Check(limit time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for key, ops := range h.ops {
		left := time.Hour
		if end, ok := ctx.Deadline(); ok {
			left = max(time.Until(end), time.Millisecond)
		}
		switch result := porcupine.CheckOperationsTimeout(model, ops, left); result {
		case porcupine.Ok:
		case porcupine.Unknown:
			return fmt.Errorf("session %q with %d operations is not decided within %v", key, len(ops), limit)
		default:
			return fmt.Errorf("session %q is not linearizable:\n%s", key, h.storyLocked(ops))
		}
	}
	if len(h.odd) > 0 {
		return fmt.Errorf("%d answers that no fault explains:\n%s", len(h.odd), strings.Join(h.odd[:min(len(h.odd), 20)], "\n"))
	}
	return nil
}

// storyLocked lists operations and faults in the order of time. Only what matters
// stands in it: from the last operation that can still be explained on backwards.
func (h *History) storyLocked(ops []porcupine.Operation) string {
	type line struct {
		at   int64
		text string
	}
	var lines []line
	for _, op := range shortest(ops) {
		end := "never answered"
		if op.Return != math.MaxInt64 {
			end = at(op.Return)
		}
		lines = append(lines, line{op.Call, fmt.Sprintf("%s to %-14s thread %-2d %s", at(op.Call), end, op.ClientId,
			describe(op.Input.(input), op.Output.(output)))})
	}
	for _, n := range h.notes {
		lines = append(lines, line{n.at, fmt.Sprintf("%s -- %s", at(n.at), n.text)})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return int(max(min(a.at-b.at, 1), -1)) })
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return b.String()
}

// shortest returns the shortest beginning of the history that no order explains:
// what was answered later has nothing to do with it. What was called before its
// end and answered after it might have happened already.
func shortest(ops []porcupine.Operation) []porcupine.Operation {
	sorted := slices.Clone(ops)
	slices.SortStableFunc(sorted, func(a, b porcupine.Operation) int { return int(max(min(a.Return-b.Return, 1), -1)) })
	begin := func(n int) (list []porcupine.Operation) {
		end := sorted[n-1].Return
		for i, op := range sorted {
			switch {
			case i < n:
				list = append(list, op)
			case op.Call <= end && op.Input.(input).kind != opLoad:
				op.Return = math.MaxInt64
				op.Output = output{unknown: true}
				list = append(list, op)
			}
		}
		return list
	}
	low, high := 1, len(sorted) // the beginning of high is bad
	for low < high {
		mid := (low + high) / 2
		if porcupine.CheckOperationsTimeout(model, begin(mid), 10*time.Second) == porcupine.Illegal {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return begin(high)
}

func at(ns int64) string { return fmt.Sprintf("%10.3fms", float64(ns)/1e6) }
