package websessions

import (
	"context"
	"errors"
	"sync"
	"time"
)

// heal is how long a request that has waited in vain is told so without
// asking again; from then on it may wait for as long as has passed since.
const heal = time.Second

// patience is how long one request waits for the cluster: NonStopTimeout in
// all, however many operations it makes. The time between operations gives it
// back, so that a response that streams for hours has it for each trouble anew.
type patience struct {
	limit time.Duration // negative = none
	waits *sync.Pool    // of *waiting

	mu   sync.Mutex // held during an operation, guards what follows
	used time.Duration
	last time.Time // when used was right
	vain error     // what the cluster said when the request had waited in vain
}

// ask runs one operation within p; what says in its error what was tried. The
// operation must not keep its context.
func ask[W, A any](ctx context.Context, p *patience, b backend, what string,
	op func(backend, context.Context, W) (A, error), w W) (answer A, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit < 0 {
		answer, err = op(b, ctx, w)
		return answer, explain(what, err)
	}
	began := time.Now()
	p.used = max(0, p.used-began.Sub(p.last))
	if p.vain != nil && p.limit-p.used < min(heal, p.limit) {
		p.last = began
		return answer, explain(what, p.vain)
	}
	wait, _ := p.waits.Get().(*waiting)
	if wait == nil {
		wait = &waiting{}
	}
	wait.begin(ctx, began.Add(p.limit-p.used))
	answer, err = op(b, wait, w)
	wait.end()
	p.waits.Put(wait)

	p.last, p.vain = time.Now(), nil
	p.used += p.last.Sub(began)
	if due, ok := ctx.Deadline(); errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && (!ok || due.After(p.last)) {
		p.used, p.vain = p.limit, err
	}
	return answer, explain(what, err)
}

// linger is how long an operation takes before it listens to its caller's context.
const linger = 10 * time.Millisecond

// waiting is the context of one operation after the other, also of other
// requests: the caller's, with a deadline. context.WithTimeout would cost a fifth
// of a request's allocations. This one uses its channel and its timer again.
// Behind an operation that was quick the timer is left to ring, within linger:
// to stop and set it each time costs more.
type waiting struct {
	context.Context           // the caller's
	deadline        time.Time // of this operation

	mu       sync.Mutex // guards what follows
	running  bool
	err      error
	done     chan struct{} // nil until it is asked for
	timer    *time.Timer   // runs ring
	rings    time.Time     // when timer rings next; zero = it does not
	unlisten func() bool   // nil until the caller's context is listened to
}

func (w *waiting) begin(ctx context.Context, deadline time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	w.Context, w.deadline, w.running = ctx, deadline, true
	if w.err != nil { // closed
		w.err, w.done = nil, nil
	}
}

func (w *waiting) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running, w.Context = false, context.Background()
	if w.unlisten != nil { // it was slow, and the timer waits for the deadline
		w.unlisten()
		w.timer.Stop()
		w.unlisten, w.rings = nil, time.Time{}
	}
}

// ring looks, and notes that the timer has come to rest.
func (w *waiting) ring() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rings = time.Time{}
	w.lookLocked()
}

// look is called when the caller's context ends.
func (w *waiting) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookLocked()
}

// lookLocked ends the context when it is time, and else sees to it that it is looked
// at again. A look that comes too late, in the next operation, does no harm.
func (w *waiting) lookLocked() {
	if !w.running || w.err != nil || w.done == nil {
		return
	}
	left := time.Until(w.deadline)
	if w.err = w.Context.Err(); w.err == nil && left <= 0 {
		w.err = context.DeadlineExceeded
	}
	if w.err != nil {
		close(w.done)
		return
	}
	if w.unlisten == nil {
		w.unlisten = context.AfterFunc(w.Context, w.look)
	}
	w.ringLocked(left)
}

// ringLocked has the timer ring after d, if it does not do so earlier anyway.
func (w *waiting) ringLocked(d time.Duration) {
	due := time.Now().Add(d)
	switch {
	case w.timer == nil:
		w.timer = time.AfterFunc(d, w.ring)
	case w.rings.IsZero() || due.Before(w.rings):
		w.timer.Reset(d)
	default:
		return
	}
	w.rings = due
}

// Done implements context.Context.
func (w *waiting) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done == nil {
		w.done = make(chan struct{})
	}
	if w.err == nil && w.unlisten == nil {
		w.ringLocked(min(linger, time.Until(w.deadline)))
	}
	return w.done
}

// Err implements context.Context.
func (w *waiting) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	return w.Context.Err()
}

// Deadline implements context.Context.
func (w *waiting) Deadline() (time.Time, bool) { return w.deadline, true }
