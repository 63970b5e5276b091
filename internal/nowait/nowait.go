// Package nowait writes to connections what the system takes at once. Whoever writes for
// others must not be held up by a peer that has stopped reading.
package nowait

import (
	"net"
	"syscall"
)

// Writer writes to one connection. It is for one goroutine at a time.
type Writer struct {
	raw   syscall.RawConn
	p     []byte
	n     int
	err   error
	write func(fd uintptr) bool // made once: a closure made each time would be an allocation
}

// NewWriter returns nil where nc cannot be written to so: it is no TCP connection, or the
// system is not a Unix.
func NewWriter(nc net.Conn) *Writer {
	tcp, ok := nc.(*net.TCPConn)
	if !ok || !possible {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	w := &Writer{raw: raw}
	w.write = w.writes
	return w
}

// Write returns how much of p the system has taken. Less than all is no error: the
// peer is behind. The connection's write deadline counts as for its own Write.
func (w *Writer) Write(p []byte) (n int, err error) {
	w.p, w.n, w.err = p, 0, nil
	err = w.raw.Write(w.write)
	w.p = nil
	if w.err != nil {
		err = w.err
	}
	return w.n, err
}
