package testcluster

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
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
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			sign.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { sign.Close() })
		return port
	}
	t.Fatal("no free port")
	return ""
}
