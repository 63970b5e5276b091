//go:build unix

package nowait

import (
	"os"
	"syscall"
)

const possible = true

// writes always says that it is done: else the poller would wait.
func (w *Writer) writes(fd uintptr) bool {
	for w.n < len(w.p) {
		n, err := syscall.Write(int(fd), w.p[w.n:])
		w.n += max(n, 0)
		switch err {
		case nil, syscall.EINTR:
		case syscall.EAGAIN:
			return true
		default:
			w.err = os.NewSyscallError("write", err)
			return true
		}
	}
	return true
}
