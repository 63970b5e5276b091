package testcluster

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// FreePort returns a TCP port that nobody listens on, for programs that are told
// theirs, and that no other test gets before t ends, of this process or of
// another: the UDP port of the same number is held as a sign. It lies below the
// range from which systems take the ports of outgoing connections, and of listeners
// that ask for any (32768 on Linux, 49152 elsewhere, 16000 in gVisor): one of those
// may have come before the program starts, or while it is started anew.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(10000 + rand.N(5000))
		sign, err := net.ListenPacket("udp", ":"+port)
		if err != nil {
			continue
		}
		// Asked, and not listened on: see listen.
		if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			c.Close()
			sign.Close()
			continue
		}
		t.Cleanup(func() { sign.Close() })
		return port
	}
	t.Fatal("no free port")
	return ""
}

// listen listens at an address at which nobody else does, but maybe a listener of this process
// that was closed just now: a program that is being started beside that, such as a server of
// another test, has a copy of everything open until it runs.
func listen(addr string) (net.Listener, error) {
	for deadline := time.Now().Add(time.Minute); ; {
		l, err := net.Listen("tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return l, err
		}
		<-time.After(time.Millisecond)
	}
}
