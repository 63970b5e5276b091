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

	answered bool // by the fsm; to be read once raft has answered without an error
}

// is reports whether data is this batch's own memory, and not only has the same bytes.
func (b *batch) is(data []byte) bool { return len(data) == len(b.env) && &data[0] == &b.env[0] }

// queue gathers operations into batches, in the order of the calls. One
// goroutine takes them.
type queue struct {
	mu     sync.Mutex
	wake   sync.Cond // the queue is not empty any more, or closed
	list   []*batch  // the last one may still grow
	ops    int
	bytes  int
	closed bool
	last   int      // operations of the batch taken last
	out    bool     // a batch was taken, and its taker has not come back for the next
	spare  []*batch // emptied, to be used again
}

func newQueue() *queue {
	q := &queue{}
	q.wake.L = &q.mu
	return q
}

// add copies op into the last batch, or into a new one. It returns the refusal, or nil.
func (q *queue) add(op []byte, done func(wire.Outcome, error)) *wire.Error {
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
	q.wake.Signal()
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

// take waits for a batch and returns it; nil once the queue is closed.
func (q *queue) take() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out = false
	for len(q.list) == 0 && !q.closed {
		q.wake.Wait()
	}
	if q.closed {
		return nil
	}
	if len(q.list) == 1 && len(q.list[0].done) < q.last {
		// Callers that were answered just now come along: one yield is what makes
		// batches. Where as many as last time are here it would be for nothing.
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
		if q.closed {
			return nil
		}
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
	q.out = true
	return b
}

// idle reports whether no batch is under way.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.out
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
// op's memory. done is called exactly once, from another goroutine, with the
// outcome or with an error (wire.ErrNotActive, ErrUnconfigured, ErrReadOnly,
// ErrStopping, ErrUnsure, ErrBusy). Operations are proposed in the order of the calls.
// done must not block.
func (s *Stripe) Propose(op []byte, done func(wire.Outcome, error)) {
	refusal := s.refusal()
	if refusal == nil {
		refusal = s.queue.add(op, done)
	}
	if refusal != nil {
		go done(wire.Outcome{}, refusal)
	}
}

// proposer turns waiting operations into log entries, one after the other:
// while one is being agreed, the next gathers. It ends when the queue is closed.
func (s *Stripe) proposer() {
	defer s.work.Done()
	for b := s.queue.take(); b != nil; b = s.queue.take() {
		s.propose(b)
	}
}

func (s *Stripe) propose(b *batch) {
	if refusal := s.refusal(); refusal != nil {
		b.answer(nil, refusal)
		return
	}
	seal(b.env, s.clock.read(), len(b.done))
	s.fsm.flight.Store(b)
	err := s.raft.Apply(b.env, enqueueTimeout).Error() // the log copies it
	switch {
	case s.fsm.flight.CompareAndSwap(b, nil):
		if err == nil {
			b.answer(nil, &wire.Error{Word: wire.ErrUnsure, Text: "this server's log is damaged"})
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
		return errNotActive
	case errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrLeadershipLost):
		return &wire.Error{Word: wire.ErrUnsure, Text: "this server ceased to be active meanwhile"}
	}
	// The write to disk failed, and how much of it is there nobody knows.
	return &wire.Error{Word: wire.ErrUnsure, Text: "the log could not be written: " + err.Error()}
}
