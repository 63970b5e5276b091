package stripe

import (
	"syscall"
	"time"
	"unsafe"
)

const clockBoottime = 7 // CLOCK_BOOTTIME of clock_gettime(2)

// sinceBoot returns a clock that goes on while the machine is suspended, which
// Go's own does not: a lease must not outlive a sleep.
func sinceBoot() func() time.Duration {
	read := func() time.Duration {
		var t syscall.Timespec
		if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
			return 0
		}
		return time.Duration(t.Nano())
	}
	if read() == 0 { // a sandbox that forbids it
		return sinceStart()
	}
	return read
}
