package testcluster

import (
	"net"
	"testing"
	"time"
)

// A server that is started anew waits for its port, of which a program that this process
// happens to start may have a copy.
func TestAPortThatIsGivenBackIsWaitedFor(t *testing.T) {
	addr := net.JoinHostPort("127.0.0.1", FreePort(t))
	copied, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { copied.Close() })
	l, err := listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
