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
	queue *queue // nil in tests
	env   []byte // an envelope whose head is filled in by seal
	done  []func(wire.Outcome, error)

	answered bool // by the fsm; to be read once raft has answered without an error
}

// is reports whether data is this batch's own memory, and not only has the same bytes.
func (b *batch) is(data []byte) bool { return len(data) == len(b.env) && &data[0] == &b.env[0] }

// flight is a batch that raft has, or that it is to get: then future is nil.
type flight struct {
	*batch
	future raft.ApplyFuture
}

// guardTime is how long raft's answer to a batch that Hurry has proposed may lie
// there unseen, where nothing was applied and nothing is to be proposed.
const guardTime = 10 * time.Millisecond

// queue gathers operations into batches, in the order of the calls. One batch is
// out at a time. The proposer takes it, or Hurry does and leaves it behind for who
// comes next: another Hurry after the fsm has answered it, else the proposer.
type queue struct {
	mu     sync.Mutex
	wake   sync.Cond // the queue is not empty any more, or closed, or something was handed over
	list   []*batch  // the last one may still grow
	ops    int
	bytes  int
	closed bool
	last   int    // operations of the batch taken last
	out    bool   // a batch was taken, and the proposer has not come back for the next
	handed flight // taken and left behind by Hurry
	landed bool   // the fsm has answered what is out
	guard  *time.Timer
	armed  bool     // guard runs
	spare  []*batch // emptied, to be used again
	held   bool     // see hold
}

func newQueue() *queue {
	q := &queue{}
	q.wake.L = &q.mu
	q.guard = time.AfterFunc(guardTime, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.armed = false
		q.wake.Signal()
	})
	return q
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
	return &batch{queue: q, env: make([]byte, envelopeSize, max(4096, envelopeSize+size))}
}

// take waits for a batch and returns it; one without a batch once the queue is
// closed. It is the proposer's, which has done with the one before.
func (q *queue) take() flight {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out = false
	for yielded := false; ; {
		switch {
		case q.handed.batch != nil:
			f := q.handed
			q.handed = flight{}
			return f
		case q.out:
			q.wake.Wait() // Hurry is about to hand it over
		case q.closed:
			return flight{}
		case len(q.list) == 0, q.held:
			q.wake.Wait()
		case !yielded && len(q.list) == 1 && len(q.list[0].done) < q.last:
			// Callers that were answered just now come along: one yield is what makes
			// batches. Where as many as last time are here it would be for nothing.
			yielded = true
			q.mu.Unlock()
			runtime.Gosched()
			q.mu.Lock()
		default:
			return flight{batch: q.firstLocked()}
		}
	}
}

// takeNow returns a batch, or nil where none waits or one is out. Who gets one
// hands it over. What the fsm has answered is done with first, by end.
func (q *queue) takeNow(end func(flight)) *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.landed && q.handed.batch != nil {
		f := q.handed
		q.handed = flight{}
		q.mu.Unlock()
		end(f)
		q.mu.Lock()
		q.out, q.landed = false, false
	}
	switch {
	case q.out:
		return nil
	case q.closed:
		q.wake.Signal() // the proposer may have waited for what was out
		return nil
	case len(q.list) == 0, q.held:
		return nil
	}
	return q.firstLocked()
}

// hand leaves behind what takeNow returned. The proposer is woken only where it
// has more to do: it would wait for raft, and each time cost two changes of goroutine.
func (q *queue) hand(f flight) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.handed = f
	switch {
	case f.future == nil || q.closed || q.landed && len(q.list) > 0:
		q.wake.Signal()
	case !q.armed:
		q.armed = true
		q.guard.Reset(guardTime)
	}
}

// land tells that the fsm has answered what is out, and that raft does so now.
func (q *queue) land() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.landed = true
	if len(q.list) > 0 {
		q.wake.Signal()
	}
}

// done tells that what takeNow returned is answered, and nothing is left to be done.
func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out = false
	if q.closed || len(q.list) > 0 {
		q.wake.Signal()
	}
}

func (q *queue) firstLocked() *batch {
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
	q.out, q.landed = true, false
	return b
}

// idle reports whether no batch is under way.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.out
}

// hold keeps batches from being taken until release is called. What was taken
// before may be under way: see quiet.
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

// quiet reports whether all that was taken is answered.
func (q *queue) quiet() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.out || q.landed
}

// recycle takes back a batch whose bytes nobody holds any more.
func (q *queue) recycle(b *batch) {
	if cap(b.env) > 2*maxBatchBytes {
		return
	}
	clear(b.done)
	b.env, b.done, b.answered = b.env[:envelopeSize], b.done[:0], false
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.spare) < 4 {
		q.spare = append(q.spare, b)
	}
}

// close refuses what waits and what comes. It returns what waited.
func (q *queue) close() []*batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	list := q.list
	q.list, q.ops, q.bytes = nil, 0, 0
	q.wake.Broadcast()
	return list
}

// Propose hands op to the next batch and returns at once; it does not keep
// op's memory. done is called exactly once, after Propose has returned, with the
// outcome or with an error (wire.ErrNotActive, ErrUnconfigured, ErrReadOnly,
// ErrStopping, ErrUnsure, ErrBusy). Operations are proposed in the order of the calls.
// done must not block.
func (s *Stripe) Propose(op []byte, done func(wire.Outcome, error)) { s.gather(op, false, done) }

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

// Hurry proposes what was gathered, or leaves it to the proposer while something
// is being agreed. It saves those who wait the way through another goroutine, and
// does not wait for the disk. Where nothing is agreed or kept it applies what was gathered
// itself: done is called before it returns, also that of others.
func (s *Stripe) Hurry() {
	b := s.queue.takeNow(s.end)
	if b == nil {
		return
	}
	if s.direct {
		s.applyHere(b)
		s.queue.done()
		return
	}
	f := flight{batch: b}
	if s.refusal() == nil {
		f.future = s.begin(b)
	}
	s.queue.hand(f)
}

// proposer turns waiting operations into log entries, one after the other:
// while one is being agreed, the next gathers. It ends when the queue is closed.
func (s *Stripe) proposer() {
	defer s.work.Done()
	for f := s.queue.take(); f.batch != nil; f = s.queue.take() {
		s.propose(f)
	}
}

// begin gives b to raft.
func (s *Stripe) begin(b *batch) raft.ApplyFuture {
	seal(b.env, s.clock.read(), len(b.done))
	s.fsm.flight.Store(b)
	return s.raft.Apply(b.env, enqueueTimeout) // the log copies it
}

func (s *Stripe) propose(f flight) {
	if s.direct {
		s.applyHere(f.batch)
		return
	}
	if f.future == nil {
		if refusal := s.refusal(); refusal != nil {
			f.answer(nil, refusal)
			return
		}
		f.future = s.begin(f.batch)
	}
	s.end(f)
}

// applyHere applies b and answers it, without raft: see Stripe.direct. The queue lets one
// batch out at a time, so nobody else does that meanwhile.
func (s *Stripe) applyHere(b *batch) {
	if refusal := s.refusal(); refusal != nil {
		b.answer(nil, refusal)
	} else if !s.fsm.applyHere(b, s.clock.read(), s.term.Load()) {
		b.answer(nil, errDamagedHere)
	}
	s.queue.recycle(b)
}

// end waits for raft's answer, which follows that of the fsm at once, and answers
// what the fsm has not.
func (s *Stripe) end(f flight) {
	b, err := f.batch, f.future.Error()
	switch {
	case s.fsm.flight.CompareAndSwap(b, nil):
		if err == nil {
			b.answer(nil, errDamagedHere)
		} else {
			b.answer(nil, s.proposalError(err))
		}
	case err == nil && b.answered:
		s.queue.recycle(b)
	default:
		// Close gave it up, or raft ended between the fsm's answer and its own.
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
	if b.answered && b.queue != nil {
		b.queue.land()
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
