package client

import (
	"net"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/internal/nowait"
	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// keepBuffer bounds the memory that an idle connection keeps for writing.
const keepBuffer = 1 << 20

// conn is one connection after its handshake. Client.mu guards all fields but
// the first group.
type conn struct {
	host  string
	nc    net.Conn
	now   *nowait.Writer // nil where writing may block; for the flusher
	r     *resp.Reader   // for the handshake, then for the reading goroutine
	heard atomic.Uint64  // counts reads that brought bytes
	alone *alone         // nil where callers don't read for themselves

	unwatch func() bool // undoes that Close closes nc

	out      []byte // gathered to be written
	gathered int    // commands in out
	spare    []byte // the flusher's last buffer
	flushing bool   // somebody writes, or has promised to
	inflight fifo   // sent and not answered, in order
	retired  bool   // takes no more commands; closed after its last answer
	answers  uint64 // handed out
	lone     int    // calls in a row that were alone in flight
	together int    // answers that were handed out with the last one
	nudges   nudges // for those who wait for long
}

func newConn(host string, nc net.Conn) *conn {
	cn := &conn{host: host, nc: nc, now: nowait.NewWriter(nc)}
	// A session has no size limit of its own, only its values have: replies may
	// be larger than any command.
	cn.alone = newAlone(nc)
	cn.r = resp.NewReader(cn, resp.Limits{MaxBulk: 256 << 20, MaxCommand: 512 << 20})
	return cn
}

// Read implements io.Reader for the codec.
func (cn *conn) Read(p []byte) (int, error) {
	var n int
	var err error
	if a := cn.alone; a != nil {
		n, err = a.read(p, cn.r.Pending())
	} else {
		n, err = cn.nc.Read(p)
	}
	if n > 0 {
		cn.heard.Add(1)
	}
	return n, err
}

// flush writes what callers have gathered, and lets those who are about to append do
// so first. One who calls alone does without: it would only move to another thread. mine is the
// caller's own call: once that is answered, somebody else goes on. It reports
// whether all was written and the caller's is the only call that waits for its answer,
// as those before it were.
func (c *Client) flush(cn *conn, mine *call) (alone bool) {
	c.mu.Lock()
	if cn.together > 1 || cn.inflight.len() > 1 {
		c.gatherLocked(cn)
	}
	for len(cn.out) > 0 {
		buf := cn.takeLocked()
		if cn.now == nil || mine != nil && mine.state.Load() == answered {
			c.goLocked(func() { c.flushWaiting(cn, buf, 0) })
			c.mu.Unlock()
			return false
		}
		n, err := c.tryLocked(cn, buf)
		if err != nil {
			break
		}
		if n < len(buf) {
			c.goLocked(func() { c.flushWaiting(cn, buf, n) })
			c.mu.Unlock()
			return false
		}
		cn.keepLocked(buf)
	}
	cn.flushing = false
	if cn.inflight.len() == 1 {
		cn.lone++
		alone = cn.lone > lone && mine != nil && mine.state.Load() == sent && !cn.retired
	} else {
		cn.lone = 0
	}
	c.mu.Unlock()
	return alone
}

// gatherLocked gives c.mu back for a moment in which those who have got the last answers
// may ask again: that is what makes one system call serve many. After many answers one
// yield is too short, because another processor that is idle goes on here at once. Where
// a yield takes long, others need the processors for something else.
func (c *Client) gatherLocked(cn *conn) {
	yield := func() {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	yield()
	if cn.together < manyAnswers {
		return
	}
	began := time.Now()
	for n := 1; n < maxYields && cn.gathered < cn.together && time.Since(began) < gatherFor; n++ {
		yield()
	}
}

const (
	maxYields = 10
	gatherFor = 20 * time.Microsecond
)

// flushPromised is flush for the reading goroutine, which writes once and goes on reading.
func (c *Client) flushPromised(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gatherLocked(cn)
	buf, n := cn.takeLocked(), 0
	if cn.now != nil && len(buf) > 0 {
		n, _ = c.tryLocked(cn, buf)
	}
	if n < len(buf) || len(cn.out) > 0 {
		c.goLocked(func() { c.flushWaiting(cn, buf, n) })
		return
	}
	cn.keepLocked(buf)
	cn.flushing = false
}

// tryLocked writes what it can of buf at once, and gives c.mu back meanwhile.
func (c *Client) tryLocked(cn *conn, buf []byte) (n int, err error) {
	c.mu.Unlock()
	n, err = cn.now.Write(buf)
	c.mu.Lock()
	if err != nil {
		cn.nc.Close() // the reading goroutine finds out and cleans up
	}
	return n, err
}

// flushWaiting writes buf from n on and what gathers meanwhile, and may take its time.
func (c *Client) flushWaiting(cn *conn, buf []byte, n int) {
	for {
		_, err := cn.nc.Write(buf[n:])
		if err != nil {
			cn.nc.Close() // the reading goroutine finds out and cleans up
		}
		c.mu.Lock()
		cn.keepLocked(buf)
		if err != nil || len(cn.out) == 0 {
			cn.flushing = false
			c.mu.Unlock()
			return
		}
		buf, n = cn.takeLocked(), 0
		c.mu.Unlock()
	}
}

// takeLocked takes what has gathered for writing; the other buffer gathers on.
func (cn *conn) takeLocked() []byte {
	buf := cn.out
	cn.out, cn.spare, cn.gathered = cn.spare[:0], nil, 0
	return buf
}

// keepLocked keeps a buffer that was written for the next turn.
func (cn *conn) keepLocked(buf []byte) {
	if cap(buf) <= keepBuffer {
		cn.spare = buf
	}
}

// goLocked starts a goroutine that Close awaits. Once Close has said its goodbye,
// and ends the connections, there is nothing to do.
func (c *Client) goLocked(f func()) {
	if c.ctx.Err() == nil {
		c.wg.Go(f)
	}
}

// answer is a reply as callers get it.
type answer struct {
	kind  byte     // resp.Reply.Type
	parts [][]byte // its leaves; the text of an error
}

// readBatch bounds the answers that are handed out under one lock, and manyAnswers
// is from how many on those who get them will soon have much to write.
const (
	readBatch   = 64
	manyAnswers = 16
)

// read hands out the answers until the connection breaks. Those that have
// arrived together are handed out together.
func (c *Client) read(cn *conn) error {
	var batch [readBatch]answer // with memory for parts that it takes turns with the calls
	promised := false           // to write what gathers
	for {
		n := cn.arrived(batch[:], 0)
		if n == 0 {
			if promised {
				c.flushPromised(cn)
				promised = false
			}
			if err := cn.next(&batch[0]); err != nil {
				return err
			}
			if first := &batch[0]; first.kind == '>' {
				if c.o.Push != nil {
					c.o.Push(first.parts)
				}
				first.parts = nil
				continue
			}
			n = cn.arrived(batch[:], 1)
		}
		promise, err := c.settle(cn, batch[:n])
		if err != nil {
			return err
		}
		promised = promised || promise
	}
}

// next waits for an answer or a push message.
func (cn *conn) next(a *answer) error {
	cn.between(true)
	list, ok, err := cn.r.ReadStrings(a.parts[:0], true)
	cn.between(false)
	if err != nil {
		return err
	}
	if ok {
		a.kind, a.parts = '*', list
		return nil
	}
	reply, err := cn.r.ReadReply()
	if a.parts == nil {
		a.parts = [][]byte{} // an empty array is not null
	}
	a.kind, a.parts = reply.Type, appendFlat(a.parts[:0], reply)
	return err
}

// arrived puts the lists of strings that are there already behind the n answers in
// batch, and returns how many answers that makes.
func (cn *conn) arrived(batch []answer, n int) int {
	for ; n < len(batch); n++ {
		a := &batch[n]
		var ok bool
		if a.parts, ok, _ = cn.r.ReadStrings(a.parts[:0], false); !ok {
			break
		}
		a.kind = '*'
	}
	return n
}

// settle hands answers to the calls that are next. Where there are many it promises
// that its caller, the reading goroutine, writes what these append: they and those whose
// answers come with the next batch make one write then.
func (c *Client) settle(cn *conn, batch []answer) (promise bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cn.together = len(batch)
	for i := range batch {
		a := &batch[i]
		k := cn.inflight.pop()
		if k == nil {
			if a.kind == '-' { // parting words, such as those to a connection too many
				return false, wire.ParseError(string(a.parts[0]))
			}
			return false, &resp.ProtocolError{Text: "an answer has come to no command"}
		}
		cn.answers++
		c.settleLocked(cn, k, a)
	}
	if cn.retired && cn.inflight.len() == 0 {
		return false, errRetired
	}
	promise = len(batch) >= manyAnswers && !cn.flushing
	cn.flushing = cn.flushing || promise
	return promise, nil
}

// settleLocked decides what an answer means for its call.
func (c *Client) settleLocked(cn *conn, k *call, a *answer) {
	gone := k.state.Load() == abandoned
	if a.kind == '-' || a.kind == '!' {
		e := wire.ParseError(string(a.parts[0]))
		c.concludeLocked(cn, e)
		k.unsure = k.unsure || e.Word == wire.ErrUnsure
		if !gone && c.passes(k, e) {
			k.refusal = e
			k.state.Store(resting)
			c.resting = append(c.resting, k)
			k.wake()
			return
		}
		if !gone {
			k.err = e
			if k.unsure && k.kind == change && lostTrack(e.Word) {
				k.err = &UnavailableError{Command: string(k.args[0]), Servers: []Attempt{{cn.host, e}}, Unsure: true}
			}
		}
	}
	c.ackLocked(k)
	if gone {
		clear(a.parts)
		return
	}
	k.null = a.kind == '_'
	k.parts, a.parts = a.parts, k.parts
	k.state.Store(answered)
	k.wake()
}

// lostTrack reports words after which a repeat says nothing about its first sending.
func lostTrack(w wire.Word) bool {
	return w == wire.ErrStale || w == wire.ErrNodeGone || w == wire.ErrNotJoined || w == wire.ErrNoDataset
}

// passes reports whether k may be sent again after this refusal, with hope.
func (c *Client) passes(k *call, e *wire.Error) bool {
	switch e.Word {
	case wire.ErrNodeGone, wire.ErrNotJoined:
		return c.o.Node && (k.kind == asNode || k.kind == change && !k.unsure)
	case wire.ErrUnsure:
		return k.kind != once
	case wire.ErrUnconfigured:
		return c.o.Node
	case wire.ErrStopping:
		return string(k.args[0]) != wire.CmdStop
	}
	return e.Word.Retryable()
}

// concludeLocked draws the conclusions of a refusal for the whole connection: one
// that is of no more use gets no more commands and is closed after its last answer.
func (c *Client) concludeLocked(cn *conn, e *wire.Error) {
	if cn != c.cn {
		return
	}
	switch {
	case e.Word == wire.ErrNotActive:
		c.redirect = activeIn(e.Text)
	case e.Word == wire.ErrStopping && len(c.o.Hosts) > 1: // another one is active soon
	case !c.o.Node:
		return
	case e.Word == wire.ErrNodeGone:
		c.newNodeLocked()
	case e.Word != wire.ErrNotJoined && e.Word != wire.ErrStale:
		return
	}
	c.attempts = []Attempt{{cn.host, e}}
	cn.retired = true
	c.cn = nil
}

// fifo is a queue of calls that keeps its memory.
type fifo struct {
	list []*call
	head int
}

func (f *fifo) len() int { return len(f.list) - f.head }

func (f *fifo) at(i int) *call { return f.list[f.head+i] }

func (f *fifo) push(k *call) {
	if f.head > 0 && len(f.list) == cap(f.list) {
		n := copy(f.list, f.list[f.head:])
		clear(f.list[n:])
		f.list, f.head = f.list[:n], 0
	}
	f.list = append(f.list, k)
}

func (f *fifo) pop() *call {
	if f.len() == 0 {
		return nil
	}
	k := f.list[f.head]
	f.list[f.head] = nil
	if f.head++; f.head == len(f.list) {
		f.list, f.head = f.list[:0], 0
	}
	return k
}

// appendFlat appends the leaves of a reply.
func appendFlat(dst [][]byte, r resp.Reply) [][]byte {
	switch r.Type {
	case '*', '~', '%', '>':
		for _, e := range r.Elems {
			dst = appendFlat(dst, e)
		}
		return dst
	case ':', '#':
		return append(dst, strconv.AppendInt(nil, r.Int, 10))
	case '_':
		return append(dst, nil)
	}
	return append(dst, r.Bytes)
}
