package client

import (
	"net"
	"sync"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/spin"
)

// alone is how a caller that is alone on a connection reads its answer itself: it
// looks for it for a moment, and no thread has to sleep and be woken. The reading
// goroutine stays where it is, and hears of nothing meanwhile. What the caller does not
// find, or cannot make out, is left to it.
type alone struct {
	sp *spin.Conn

	mu    sync.Mutex   // held by who takes bytes from the connection; before Client.mu
	clean bool         // an answer begins with the next byte, and the reading goroutine waits for it
	gates [2]spin.Gate // for reads and for changes, which may wait for a disk
	r     *resp.Reader
	buf   []byte
	found uint64    // answers that callers have read for themselves
	batch [1]answer // with memory for parts that it takes turns with the calls

	between bool // of the reading goroutine: it has not begun with an answer
}

// lone is after how many calls in a row that were alone a caller looks.
const lone = 16

// lookBytes is the longest answer that a caller reads for itself.
const lookBytes = 8 << 10

func newAlone(nc net.Conn) *alone {
	sp := spin.New(nc)
	if sp == nil {
		return nil
	}
	return &alone{sp: sp, r: resp.NewReader(nil, resp.Limits{}), buf: make([]byte, lookBytes)}
}

// between notes that the reading goroutine takes bytes only once an answer is whole.
func (cn *conn) between(is bool) {
	if cn.alone != nil {
		cn.alone.between = is
	}
}

// read is called by the reading goroutine; pending bytes were read before.
func (a *alone) read(p []byte, pending int) (int, error) {
	a.mu.Lock()
	a.clean = a.between && pending == 0
	a.mu.Unlock()
	return a.sp.Read(p, (*reading)(a))
}

// reading is the turn of the reading goroutine.
type reading alone

func (r *reading) Begin() { r.mu.Lock() }

func (r *reading) End(tookNothing bool) {
	r.clean = r.clean && tookNothing
	r.mu.Unlock()
}

// look waits a moment for the answer to k, which was the only call in flight, and
// reports whether k is answered.
func (c *Client) look(cn *conn, k *call) bool {
	a := cn.alone
	if a == nil || !a.mu.TryLock() {
		return false
	}
	defer a.mu.Unlock()
	gate := &a.gates[0]
	if k.kind == change {
		gate = &a.gates[1]
	}
	// While nobody else takes bytes, and none is half read, the next answer is that to k.
	if !a.clean || k.state.Load() != sent || !gate.Open() {
		return false
	}
	defer a.sp.Rest()
	n, took := a.sp.Peek(a.buf)
	mine := &a.batch[0]
	mine.kind = '*'
	mine.parts, n = a.r.StringsIn(a.buf[:n], mine.parts[:0])
	gate.Note(n > 0, took)
	if n == 0 {
		return false
	}
	err := a.sp.Drop(a.buf[:n])
	if err == nil {
		a.found++
		cn.heard.Add(1)
		_, err = c.settle(cn, a.batch[:])
	}
	if err != nil {
		cn.nc.Close() // the reading goroutine finds out and cleans up
	}
	return k.state.Load() == answered
}
