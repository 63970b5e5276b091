//go:build linux && (amd64 || arm64)

package spin

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Conn looks at one connection. Its methods are for one goroutine at a time, but
// for Read, which may run beside the others.
type Conn struct {
	nc    net.Conn
	raw   syscall.RawConn
	limit int32 // goroutines of this process that may look at once
	quiet bool  // the poller is told of quietBytes and more only

	// The look that runs, and the functions it consists of: closures made each
	// time would be allocations.
	p    []byte
	how  func(fd int, p []byte) (int, error)
	n    int
	took time.Duration
	err  error
	look func(fd uintptr)
	drop func(fd uintptr)
	rest func(fd uintptr)

	read struct { // of Read
		p    []byte
		turn Turn
		n    int
		err  error
		try  func(fd uintptr) bool
	}
}

// looking counts the goroutines of this process that look: some processors are
// left for the others.
var looking atomic.Int32

// tells reports whether this system tells the poller, when Rest lets it be told again,
// of what has come before: Linux does from 4.18 on.
var tells = sync.OnceValue(func() bool {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return false
	}
	release := make([]byte, 0, len(u.Release))
	for _, c := range u.Release {
		release = append(release, byte(c))
	}
	return since418(string(release))
})

// since418 reads a release such as 6.1.0-18-amd64.
func since418(release string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return n == 2 && (major > 4 || major == 4 && minor >= 18)
}

// New returns nil where nc cannot be looked at.
func New(nc net.Conn) *Conn {
	limit := runtime.GOMAXPROCS(0) / 2
	tcp, ok := nc.(*net.TCPConn)
	if !ok || limit == 0 || !tells() {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	c := &Conn{nc: nc, raw: raw, limit: int32(limit)}
	c.look, c.drop, c.rest, c.read.try = c.looks, c.drops, c.rests, c.tries
	return c
}

// Look takes what has come, or comes within Limit, and returns how long it has taken;
// 0: nothing has come. What ends the connection is left to the next read.
func (c *Conn) Look(p []byte) (n int, took time.Duration) { return c.lookFor(p, take) }

// Peek is Look, and leaves what it has found where it is.
func (c *Conn) Peek(p []byte) (n int, took time.Duration) { return c.lookFor(p, show) }

func (c *Conn) lookFor(p []byte, how func(fd int, p []byte) (int, error)) (int, time.Duration) {
	c.n, c.took = 0, 0
	if looking.Add(1) <= c.limit {
		c.p, c.how = p, how
		_ = c.raw.Control(c.look) // one that is closed has nothing
		c.p = nil
	}
	looking.Add(-1)
	return c.n, c.took
}

func (c *Conn) looks(fd uintptr) {
	c.hush(fd, true)
	var began time.Time
	for {
		n, err := c.how(int(fd), c.p)
		if began.IsZero() {
			began = time.Now()
		} else {
			c.took = time.Since(began)
		}
		if n > 0 {
			c.n = n
			return
		}
		if c.took > Limit || n == 0 || err != syscall.EAGAIN {
			return
		}
		_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// take is for every byte that is consumed: package syscall tells the race detector that
// what the other end did before comes before what follows here.
func take(fd int, p []byte) (n int, err error) {
	for n, err = syscall.Read(fd, p); err == syscall.EINTR; {
		n, err = syscall.Read(fd, p)
	}
	return n, err
}

// show does not tell Go's scheduler of the system call: it never waits.
func show(fd int, p []byte) (int, error) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		syscall.MSG_DONTWAIT|syscall.MSG_PEEK, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// Drop takes away what Peek has found, and now stands in p.
func (c *Conn) Drop(p []byte) error {
	c.p, c.err = p, nil
	err := c.raw.Control(c.drop)
	c.p = nil
	if err == nil {
		err = c.err
	}
	return err
}

func (c *Conn) drops(fd uintptr) {
	n, err := take(int(fd), c.p)
	if err == nil && n != len(c.p) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		c.err = c.fault(err)
	}
}

// Rest lets the poller be told again of all that arrives, and has arrived. It must
// follow the last look before anybody waits for the poller.
func (c *Conn) Rest() {
	if c.quiet {
		_ = c.raw.Control(c.rest)
	}
}

func (c *Conn) rests(fd uintptr) { c.hush(fd, false) }

// hush sets from how many bytes on arrivals wake whoever waits for the socket. Each
// would wake a thread that sleeps in Go's poller, to find nothing. Where it cannot be
// set that is what happens.
func (c *Conn) hush(fd uintptr, quiet bool) {
	if quiet == c.quiet {
		return
	}
	n := 1
	if quiet {
		n = quietBytes
	}
	_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n)
	c.quiet = quiet
}

// Read waits for the poller, as net.Conn's does. turn.Begin may wait.
func (c *Conn) Read(p []byte, turn Turn) (int, error) {
	r := &c.read
	r.p, r.turn, r.n, r.err = p, turn, 0, nil
	err := c.raw.Read(r.try)
	r.p = nil
	if err == nil {
		err = r.err
	}
	return r.n, err
}

// tries must not give up its turn unused: the poller tells of an arrival once.
func (c *Conn) tries(fd uintptr) bool {
	r := &c.read
	r.turn.Begin()
	n, err := take(int(fd), r.p)
	again := err == syscall.EAGAIN
	r.turn.End(again)
	switch {
	case again:
	case err != nil:
		r.err = c.fault(err)
	case n == 0:
		r.err = io.EOF
	default:
		r.n = n
	}
	return !again
}

func (c *Conn) fault(err error) error {
	if e, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError("read", e)
	}
	return &net.OpError{Op: "read", Net: "tcp", Source: c.nc.LocalAddr(), Addr: c.nc.RemoteAddr(), Err: err}
}
