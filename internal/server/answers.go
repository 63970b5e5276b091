package server

import (
	"cmp"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/nowait"
	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// answers keeps the answers of one connection in the order of its commands and
// writes them.
//
// A command that is answered at once appends to inline, which belongs to the
// reading goroutine and costs no lock. A command that waits takes a slot in the
// queue; whoever finishes it fills the slot, and whoever finishes the first one
// in the queue moves all that is finished to out and starts a flush. What was
// answered at once behind a waiting command stays in that slot's tail. So no
// answer ever passes another one, and nobody waits for the network but the
// reading goroutine and the flush.
type answers struct {
	nc     net.Conn
	limits *Limits
	all    *behind
	volley *volley
	now    *nowait.Writer // nil where a write may wait for the peer
	flushs sync.WaitGroup // flushes that run

	inline   []byte    // of the reading goroutine: answers not yet handed over
	gathered bool      // of the reading goroutine: a command may wait for hurry
	waited   bool      // of the reading goroutine: a command has taken a slot since it last looked for the next
	settled  bool      // of the reading goroutine: all that came before its last flush is answered and written
	hurry    func()    // has the stripe begin with what was gathered; nil: nothing is
	writeBy  time.Time // the deadline of writes, as set on nc; of who writes

	mu      sync.Mutex
	changed sync.Cond // room in the queue or in the output, or broken
	queue   []*slot   // commands that wait, in order, from first on
	first   int
	free    []*slot
	out     []byte   // in order, to be written next
	filled  int      // bytes in out, or in a slot's answer, before the one that is being made
	parts   [][]byte // scratch of outcome, and numbers
	numbers []byte
	spare   []byte // the buffer that out takes turns with
	held    int    // bytes in out, in tails and in the write that runs
	kept    int    // capacity of inline when it was last handed over
	counted int    // bytes in all
	ended   bool   // counts nothing any more
	cutOff  bool   // broken because of what all connections are behind
	writing bool   // somebody writes, and writes out too before it leaves
	broken  bool   // the connection is closed: answers are dropped
}

// slot is the place of one waiting command among the answers. finish is its
// callback, made once, so that a waiting command costs no allocation.
type slot struct {
	a      *answers
	answer []byte
	tail   []byte
	done   bool
	finish func(wire.Outcome, error)
	redis  redisSlot
}

// keepBuffer is the largest buffer that is kept for the next answer: a large
// one must not stay with an idle connection.
const (
	keepBuffer    = 64 << 10
	thriftyBuffer = 8 << 10 // where many peers don't read
)

func (a *answers) init(nc net.Conn, limits *Limits, all *behind, v *volley) {
	a.nc, a.limits, a.all, a.volley, a.now = nc, limits, all, v, nowait.NewWriter(nc)
	a.changed.L = &a.mu
}

// wait takes a place for a command that is answered later: by s.finish, or by
// s.settle. It blocks while the window is full.
func (a *answers) wait() *slot {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handOverLocked()
	for len(a.queue)-a.first >= a.limits.Window && !a.broken {
		if a.gathered {
			a.mu.Unlock()
			a.propose()
			a.mu.Lock()
			continue
		}
		a.startFlushLocked()
		a.changed.Wait()
	}
	a.gathered, a.waited = true, true
	var s *slot
	if n := len(a.free); n > 0 {
		s, a.free = a.free[n-1], a.free[:n-1]
	} else {
		s = &slot{a: a}
		s.finish = s.outcome
	}
	if len(a.queue) == cap(a.queue) && a.first > len(a.queue)/2 {
		a.queue = a.queue[:copy(a.queue, a.queue[a.first:])]
		a.first = 0
	}
	a.queue = append(a.queue, s)
	return s
}

// turn waits until the command of s may make its answer: when the peer is not too
// far behind, or, with s first in the order, has taken all that there was. So a
// peer that sends and never reads costs one answer beyond the limit, and not one
// for each command. With first it waits for the order in any case. A broken
// connection keeps nobody.
func (s *slot) turn(first bool) {
	a := s.a
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.broken && !a.mayAnswerLocked(s, first) {
		a.changed.Wait()
	}
}

func (a *answers) mayAnswerLocked(s *slot, first bool) bool {
	if a.queue[a.first] != s {
		return !first && a.held <= a.limits.MaxOutput
	}
	// What is held behind s cannot leave before it: that must not keep s waiting.
	return a.held <= a.limits.MaxOutput || len(a.out) == 0 && !a.writing
}

// outcome answers a change: it is the callback of a proposal and must not block.
func (s *slot) outcome(o wire.Outcome, err error) {
	a := s.a
	a.mu.Lock()
	defer a.mu.Unlock()
	from := a.placeLocked(s)
	if err == nil && o.Err == nil {
		a.parts, a.numbers = o.AppendWith(a.parts[:0], a.numbers[:0])
		*from = appendList(*from, a.parts)
		clear(a.parts)
	} else {
		*from = appendError(*from, cmp.Or(err, error(o.Err)))
	}
	a.settledLocked(s)
}

// settle fills the slot with what encode appends.
func (s *slot) settle(encode func(dst []byte) []byte) {
	a := s.a
	a.mu.Lock()
	defer a.mu.Unlock()
	to := a.placeLocked(s)
	*to = encode(*to)
	a.settledLocked(s)
}

// placeLocked returns where the answer of s is to be appended: to what leaves next
// where nobody waits before it.
func (a *answers) placeLocked(s *slot) *[]byte {
	if a.queue[a.first] == s {
		a.filled = len(a.out)
		return &a.out
	}
	s.answer, a.filled = s.answer[:0], 0
	return &s.answer
}

// settledLocked moves on what s has held up. Its answer is where placeLocked said.
func (a *answers) settledLocked(s *slot) {
	s.done = true
	if a.queue[a.first] != s {
		a.held += len(s.answer)
		a.countLocked()
		return
	}
	a.held += len(a.out) - a.filled
	for head := s; ; head = a.queue[a.first] {
		if head != s {
			a.out = append(a.out, head.answer...)
		}
		a.out = append(a.out, head.tail...)
		a.queue[a.first] = nil
		a.first++
		a.recycleLocked(head)
		if a.first == len(a.queue) || !a.queue[a.first].done {
			break
		}
	}
	if a.first == len(a.queue) {
		a.queue, a.first = a.queue[:0], 0
	}
	a.countLocked()
	a.changed.Broadcast()
	a.startFlushLocked()
}

func (a *answers) recycleLocked(s *slot) {
	s.done = false
	s.answer, s.tail = a.reuse(s.answer), a.reuse(s.tail)
	if len(a.free) < 64 {
		a.free = append(a.free, s)
	}
}

// handOverLocked moves the inline answers to their place in the order.
func (a *answers) handOverLocked() {
	n := len(a.inline)
	if n == 0 {
		return
	}
	if waiting := len(a.queue); waiting > a.first {
		last := a.queue[waiting-1]
		last.tail = append(last.tail, a.inline...)
	} else if len(a.out) == 0 {
		a.out, a.inline = a.inline, a.out
	} else {
		a.out = append(a.out, a.inline...)
	}
	a.held += n
	a.inline = a.reuse(a.inline)
	a.kept = cap(a.inline)
	a.countLocked()
}

// startFlushLocked has out written by somebody else, unless somebody
// writes already. Callbacks end here: they must not wait for a peer.
func (a *answers) startFlushLocked() {
	if a.writing || a.broken || len(a.out) == 0 {
		return
	}
	a.writing = true
	if a.volley.takes(a) {
		return
	}
	a.flushs.Go(func() {
		runtime.Gosched() // the rest of a batch joins this write
		a.mu.Lock()
		defer a.mu.Unlock()
		a.writeLocked()
	})
}

// writeLocked writes until out is empty. The caller has set writing.
func (a *answers) writeLocked() {
	for len(a.out) > 0 && !a.broken {
		buf := a.out
		a.out, a.spare = a.spare[:0], nil
		a.mu.Unlock()
		err := a.write(buf)
		a.mu.Lock()
		a.held -= len(buf)
		a.spare = a.reuse(buf)
		a.countLocked()
		if err != nil {
			a.breakLocked()
		}
		a.changed.Broadcast()
	}
	a.writing = false
	a.changed.Broadcast()
}

// writePiece is what a peer must take within the time for one write, so that a
// slow one gets a large answer and one that reads nothing is cut off.
const writePiece = 256 << 10

func (a *answers) write(buf []byte) error {
	for len(buf) > 0 {
		piece := buf[:min(len(buf), writePiece)]
		if err := a.setWriteDeadline(); err != nil {
			return err
		}
		if _, err := a.nc.Write(piece); err != nil {
			return err
		}
		buf = buf[len(piece):]
	}
	return nil
}

func (a *answers) setWriteDeadline() error {
	// One that is a little early is near enough, and cheaper.
	if d := time.Now().Add(a.limits.Write); d.Sub(a.writeBy) > a.limits.Write/16 {
		if err := a.nc.SetWriteDeadline(d); err != nil {
			return err
		}
		a.writeBy = d
	}
	return nil
}

// flush is called by the reading goroutine before it waits for input: all that
// can be answered leaves in one write. It blocks while the peer is too far
// behind, and reports whether the connection is still good.
func (a *answers) flush() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	mine := !a.writing && !a.broken
	if mine {
		a.writing = true // what is answered while it is proposed needs nobody else to write it
	}
	if a.gathered {
		a.mu.Unlock()
		a.propose()
		a.mu.Lock()
	}
	a.handOverLocked()
	if mine || !a.writing && len(a.out) > 0 && !a.broken { // another may have ended meanwhile
		a.writing = true
		a.writeLocked()
	}
	for a.held > a.limits.MaxOutput && !a.broken {
		a.changed.Wait()
	}
	a.settled = a.first == len(a.queue) && len(a.out) == 0 && !a.writing
	return !a.broken
}

// propose has the stripe begin with the changes that were gathered. The reading
// goroutine calls it before it waits for anything.
func (a *answers) propose() {
	if a.gathered && a.hurry != nil {
		a.hurry()
	}
	a.gathered = false
}

// drain waits until every waiting command is answered and written, at most for
// limit, then lets nothing more out and awaits the flush that runs.
func (a *answers) drain(limit time.Duration) {
	a.propose()
	over := false
	timer := time.AfterFunc(limit, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		over = true
		a.changed.Broadcast()
	})
	defer timer.Stop()
	a.mu.Lock()
	a.handOverLocked()
	a.startFlushLocked()
	for !over && !a.broken && (a.first < len(a.queue) || len(a.out) > 0 || a.writing) {
		a.changed.Wait()
	}
	a.breakLocked()
	a.ended = true
	a.countLocked()
	a.mu.Unlock()
	a.flushs.Wait()
}

// breakLocked closes the connection: both ends learn that nothing more comes.
func (a *answers) breakLocked() {
	if !a.broken {
		a.broken = true
		_ = a.nc.Close()
	}
	a.changed.Broadcast()
}

// appendList appends a flat answer.
func appendList(dst []byte, list [][]byte) []byte {
	dst = resp.AppendArrayHeader(dst, len(list))
	for _, b := range list {
		dst = resp.AppendBulk(dst, b)
	}
	return dst
}
