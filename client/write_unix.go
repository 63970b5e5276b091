//go:build unix

package client

import (
	"net"
	"syscall"
)

// newTry returns a function that writes as much as the connection takes without
// waiting, or nil where the connection cannot do that. A caller that flushes for
// others must not be held up by a peer that has stopped reading.
func newTry(nc net.Conn) func(p []byte) (int, error) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	var t try
	t.once = t.write // one closure for all writes: this is the hot path
	return func(p []byte) (int, error) {
		t.p, t.n, t.err = p, 0, nil
		err := raw.Write(t.once)
		n := t.n
		t.p = nil
		if t.err != nil {
			err = t.err
		}
		return n, err
	}
}

// try is one attempt to write; only the flusher uses it.
type try struct {
	p    []byte
	n    int
	err  error
	once func(fd uintptr) bool
}

func (t *try) write(fd uintptr) bool {
	for t.n < len(t.p) {
		n, err := syscall.Write(int(fd), t.p[t.n:])
		if n > 0 {
			t.n += n
		}
		switch err {
		case nil, syscall.EINTR:
		case syscall.EAGAIN:
			return true
		default:
			t.err = err
			return true
		}
	}
	return true
}
