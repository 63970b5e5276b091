package stripe

import (
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// The bounds of what waits to be proposed. Beyond them Propose answers ErrBusy.
const (
	maxWaitingOps   = 32 << 10
	maxWaitingBytes = 64 << 20
)

// enqueueTimeout bounds the wait for raft to take a batch. A batch that was not
// taken is certain not to be made.
const enqueueTimeout = 2 * time.Second

// batch is what becomes one log entry.
type batch struct {
	env  []byte // an envelope whose head is filled in by seal
	done []func(wire.Outcome, error)
}

// is reports whether data is this batch's own memory, and not only has the same bytes.
func (b *batch) is(data []byte) bool { return len(data) == len(b.env) && &data[0] == &b.env[0] }

// flight is a batch on its way: raft has it, or is about to get it. Who takes it out
// of fsm.flight answers it.
type flight struct {
	*batch
	future raft.ApplyFuture // nil until raft has it; guarded by queue.mu
}

// guardTime is how long a batch may be out before somebody waits for raft's own
// answer, which tells of failures. What is agreed the fsm answers.
const guardTime = 10 * time.Millisecond

// queue gathers operations into batches, in the order of the calls. One batch is
// out at a time, until it is agreed: then the fsm sends the next one before it
// applies, so that the disk is not idle meanwhile. Where nothing is out Hurry sends
// what was gathered, or the proposer.
type queue struct {
	mu     sync.Mutex
	wake   sync.Cond // for the proposer: nothing is out and something waits, or the queue is closed
	list   []*batch  // the last one may still grow
	ops    int
	bytes  int
	closed bool
	last   int     // operations of the batch taken last
	out    *flight // taken and not agreed; nil: the next one may go
	held   bool    // see hold
	guard  *time.Timer
	armed  bool     // guard runs
	landed *batch   // agreed last: the fsm may be at it
	spare  []*batch // emptied, to be used again
}

// newQueue returns an empty queue. watch is called, in a goroutine of its own, with
// what has been out for long.
func newQueue(watch func(*flight)) *queue {
	q := &queue{}
	q.wake.L = &q.mu
	q.guard = time.AfterFunc(guardTime, func() {
		q.mu.Lock()
		q.armed = false
		f := q.out
		if f != nil && f.future == nil { // raft has not taken it yet
			q.armLocked()
			f = nil
		}
		q.mu.Unlock()
		if f != nil {
			watch(f)
		}
	})
	return q
}

func (q *queue) armLocked() {
	if !q.armed {
		q.armed = true
		q.guard.Reset(guardTime)
	}
}

// add copies op into the last batch, or into a new one. It returns the refusal, or
// nil. Where more is to come, only a whole batch wakes the proposer.
func (q *queue) add(op []byte, more bool, done func(wire.Outcome, error)) *wire.Error {
	size := opSize(op)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errStopping
	}
	if q.ops >= maxWaitingOps || (q.bytes > 0 && q.bytes+size > maxWaitingBytes) {
		return errBusy
	}
	var b *batch
	if n := len(q.list); n > 0 {
		b = q.list[n-1]
	}
	if b == nil || len(b.done) >= maxBatchOps || len(b.env)+size > maxBatchBytes {
		b = q.emptyLocked(size)
		q.list = append(q.list, b)
	}
	b.env = appendOp(b.env, op)
	b.done = append(b.done, done)
	q.ops++
	q.bytes += size
	if !more || len(q.list) > 1 {
		q.wake.Signal()
	}
	return nil
}

func (q *queue) emptyLocked(size int) *batch {
	if n := len(q.spare); n > 0 {
		b := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return b
	}
	return &batch{env: make([]byte, envelopeSize, max(4096, envelopeSize+size))}
}

// await waits until a batch may go, and takes it; nil once the queue is closed.
func (q *queue) await() *flight {
	q.mu.Lock()
	defer q.mu.Unlock()
	for yielded := false; ; {
		switch {
		case q.closed:
			return nil
		case !q.readyLocked():
			q.wake.Wait()
		case !yielded && len(q.list) == 1 && len(q.list[0].done) < q.last:
			// Callers that were answered just now come along: one yield is what makes
			// batches. Where as many as last time are here it would be for nothing.
			yielded = true
			q.mu.Unlock()
			runtime.Gosched()
			q.mu.Lock()
		default:
			return q.takeLocked()
		}
	}
}

// take takes a batch, if one may go; else it returns nil.
func (q *queue) take() *flight {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.takeLocked()
}

func (q *queue) readyLocked() bool { return q.out == nil && !q.held && len(q.list) > 0 }

func (q *queue) takeLocked() *flight {
	if !q.readyLocked() {
		return nil
	}
	b := q.list[0]
	n := copy(q.list, q.list[1:])
	q.list[n] = nil
	q.list = q.list[:n]
	q.last = len(b.done)
	q.ops -= q.last
	q.bytes -= len(b.env) - envelopeSize
	if len(q.list) == 0 {
		q.bytes = 0 // sizes were counted as upper bounds
	}
	q.out = &flight{batch: b}
	return q.out
}

// sent notes that raft has f.
func (q *queue) sent(f *flight, future raft.ApplyFuture) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f.future = future
	if q.out == f {
		q.armLocked()
	}
}

// agreed tells that f is agreed and about to be applied, and takes what may go now.
// The batch before it was applied and answered: nobody holds its bytes any more.
func (q *queue) agreed(f *flight) *flight {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.landed != nil {
		q.recycleLocked(q.landed)
	}
	q.landed = f.batch
	if q.out == f {
		q.out = nil
	}
	return q.takeLocked()
}

// ended tells that f is answered and will not be agreed: it was refused, applied
// without raft, or nobody knows. Only what raft has got may still be held by it.
func (q *queue) ended(f *flight) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f.future == nil {
		q.recycleLocked(f.batch)
	}
	if q.out == f {
		q.out = nil
	}
	if q.readyLocked() {
		q.wake.Signal()
	}
}

// taken reports whether raft has got f.
func (q *queue) taken(f *flight) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return f.future != nil
}

// idle reports whether no batch is out.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.out == nil
}

// hold keeps batches from being taken until release is called. What was taken
// before may be out: see idle.
func (q *queue) hold() (release func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = true
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.held = false
		q.wake.Signal()
	}
}

// recycleLocked takes back a batch whose bytes nobody holds any more.
func (q *queue) recycleLocked(b *batch) {
	if cap(b.env) > 2*maxBatchBytes || len(q.spare) >= 4 {
		return
	}
	clear(b.done)
	b.env, b.done = b.env[:envelopeSize], b.done[:0]
	q.spare = append(q.spare, b)
}

// close refuses what waits and what comes. It returns what waited.
func (q *queue) close() []*batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake.Broadcast()
	return q.clearLocked()
}

// clear returns what waits, and takes it out.
func (q *queue) clear() []*batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.clearLocked()
}

func (q *queue) clearLocked() []*batch {
	list := q.list
	q.list, q.ops, q.bytes = nil, 0, 0
	return list
}

// Propose hands op to the next batch and returns at once; it does not keep
// op's memory. done is called exactly once, after Propose has returned, with the
// outcome or with an error (wire.ErrNotActive, ErrUnconfigured, ErrReadOnly,
// ErrStopping, ErrUnsure, ErrBusy). Operations are proposed in the order of the calls.
// done must not block.
func (s *Stripe) Propose(op []byte, done func(wire.Outcome, error)) { s.gather(op, false, done) }

// Bracket has begin called before the callbacks of a batch that the log has, and end after them, so
// that their answers can leave together. Neither may block.
func (s *Stripe) Bracket(begin, end func()) { s.fsm.bracket.Store(&bracket{begin, end}) }

// bracket is what Bracket was given.
type bracket struct{ begin, end func() }

// Gather is Propose for a caller that has more to say at once: op is proposed by
// Hurry at the latest, which that caller owes.
func (s *Stripe) Gather(op []byte, done func(wire.Outcome, error)) { s.gather(op, true, done) }

func (s *Stripe) gather(op []byte, more bool, done func(wire.Outcome, error)) {
	refusal := s.refusal()
	if refusal == nil {
		refusal = s.queue.add(op, more, done)
	}
	if refusal != nil {
		go done(wire.Outcome{}, refusal)
	}
}

// Hurry proposes what was gathered, unless something is being agreed: then it goes next.
// It saves those who wait the way through another goroutine, and does not wait for the
// disk. Where nothing is agreed or kept it applies what was gathered itself: done is
// called before it returns, also that of others.
func (s *Stripe) Hurry() {
	if f := s.queue.take(); f != nil {
		s.send(f)
	}
}

// proposer turns waiting operations into log entries where nobody else does. It ends
// when the queue is closed.
func (s *Stripe) proposer() {
	defer s.work.Done()
	for f := s.queue.await(); f != nil; f = s.queue.await() {
		s.send(f)
	}
}

// agreed is called by the fsm before it applies f, which is agreed. Where another batch waits, raft's
// leader gets this thread for it at once: else it would wait for another one to wake up and to
// take it from here, 0.15 ms in which the disk is idle. Applying is done beside the sync. With
// several servers it showed no gain.
func (s *Stripe) agreed(f *flight) {
	if next := s.queue.agreed(f); next != nil {
		s.send(next)
		if s.group == nil {
			runtime.Gosched()
		}
	}
}

// send gives f to raft, or applies it here where raft is not needed: see Stripe.direct.
// The queue lets one batch out at a time, so nobody else does that meanwhile.
func (s *Stripe) send(f *flight) {
	if refusal := s.refusal(); refusal != nil {
		f.answer(nil, refusal)
		s.queue.ended(f)
		return
	}
	if s.direct {
		if !s.fsm.applyHere(f.batch, s.clock.read(), s.term.Load()) {
			f.answer(nil, errDamagedHere)
		}
		s.queue.ended(f)
		return
	}
	seal(f.env, s.clock.read(), len(f.done))
	s.fsm.flight.Store(f)
	s.queue.sent(f, s.raft.Apply(f.env, enqueueTimeout)) // the log copies it
}

// watch waits for raft's own answer, and answers what the fsm has not.
func (s *Stripe) watch(f *flight) {
	err := f.future.Error()
	if s.fsm.flight.CompareAndSwap(f, nil) {
		if err == nil {
			f.answer(nil, errDamagedHere)
		} else {
			f.answer(nil, s.proposalError(err))
		}
		s.queue.ended(f)
	}
}

func (b *batch) answer(outcomes []wire.Outcome, err error) {
	for i, done := range b.done {
		if err != nil {
			done(wire.Outcome{}, err)
		} else {
			done(outcomes[i], nil)
		}
	}
}

// proposalError says what became of a batch that raft did not report as applied.
func (s *Stripe) proposalError(err error) *wire.Error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout):
		// Raft did not take it: it is certain that nothing was changed.
		if refusal := s.refusal(); refusal != nil {
			return refusal
		}
		return s.notActive()
	case errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrLeadershipLost):
		return &wire.Error{Word: wire.ErrUnsure, Text: "this server ceased to be active meanwhile"}
	}
	// The write to disk failed, and how much of it is there nobody knows.
	return &wire.Error{Word: wire.ErrUnsure, Text: "the log could not be written: " + err.Error()}
}

// errDamagedHere answers a batch of which something could not be applied.
var errDamagedHere = &wire.Error{Word: wire.ErrUnsure, Text: "this server's log is damaged"}

// errUnsureEnd answers a batch that was applied, while it is not certain that it is kept.
var errUnsureEnd = &wire.Error{Word: wire.ErrUnsure, Text: "this server ended while it waited for its partner"}
