package nowait

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func pair(t *testing.T) (here, there *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return out.(*net.TCPConn), in.(*net.TCPConn)
}

// What the system takes arrives; what it does not take waits for nobody.
func TestWriteTakesWhatThereIsRoomFor(t *testing.T) {
	here, there := pair(t)
	w := NewWriter(here)
	if w == nil {
		t.Skip("this system has no write that does not wait")
	}
	p := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	n, err := w.Write(p)
	if err != nil || n == 0 || n == len(p) {
		t.Fatalf("%d of %d bytes, %v", n, len(p), err)
	}
	if more, err := w.Write(p[n:]); err != nil || more == len(p)-n {
		t.Errorf("to a peer that reads nothing: %d bytes, %v", more, err)
	} else {
		n += more
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(there, got); err != nil || !bytes.Equal(got, p[:n]) {
		t.Errorf("other bytes have arrived, %v", err)
	}
}

func TestWriteFailsAsTheConnectionDoes(t *testing.T) {
	here, _ := pair(t)
	w := NewWriter(here)
	if w == nil {
		t.Skip("this system has no write that does not wait")
	}
	here.SetWriteDeadline(time.Unix(1, 0))
	if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("behind its deadline: %d, %v", n, err)
	}
	here.Close()
	if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %d, %v", n, err)
	}
}

func TestOnlyTCP(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if NewWriter(a) != nil {
		t.Error("a pipe can be written to without waiting")
	}
}

func TestWriteAllocatesNothing(t *testing.T) {
	here, there := pair(t)
	w := NewWriter(here)
	if w == nil {
		t.Skip("this system has no write that does not wait")
	}
	go func() { _, _ = io.Copy(io.Discard, there) }()
	p := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { _, _ = w.Write(p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
