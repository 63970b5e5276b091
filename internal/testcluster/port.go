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
// range from which systems take the ports of outgoing connections: one of those
// may be gone again before the program starts.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(10000 + rand.N(20000))
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
