package spin_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/spin"
)

// pair returns both ends of a connection, and the first one's Conn.
func pair(t *testing.T) (here, there net.Conn, c *spin.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if here, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close() })
	if there, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	if c = spin.New(here); c == nil {
		t.Skip("nobody looks here: another system, or one processor")
	}
	deadline := time.Now().Add(time.Minute)
	_, _ = here.SetDeadline(deadline), there.SetDeadline(deadline)
	return here, there, c
}

func send(t *testing.T, to net.Conn, text string) {
	t.Helper()
	if _, err := to.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// find looks until something is found.
func find(t *testing.T, look func([]byte) (int, time.Duration)) string {
	t.Helper()
	p := make([]byte, 64)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if n, _ := look(p); n > 0 {
			return string(p[:n])
		}
	}
	t.Fatal("nothing was found")
	return ""
}

func TestLookTakesAndPeekLeaves(t *testing.T) {
	here, there, c := pair(t)
	if n, took := c.Look(make([]byte, 8)); n != 0 || took < spin.Limit {
		t.Errorf("a look at nothing found %d bytes and took %v", n, took)
	}
	send(t, there, "first")
	if got := find(t, c.Look); got != "first" {
		t.Errorf("look found %q", got)
	}
	send(t, there, "second third")
	if got := find(t, c.Peek); got != "second third" {
		t.Errorf("peek found %q", got)
	}
	if err := c.Drop(make([]byte, len("second "))); err != nil {
		t.Fatal(err)
	}
	c.Rest()
	p := make([]byte, 64)
	if n, err := here.Read(p); err != nil || string(p[:n]) != "third" {
		t.Errorf("the read behind it: %q, %v", p[:n], err)
	}
	if err := c.Drop(make([]byte, 1)); err == nil {
		t.Error("a byte was dropped that is not there")
	}
}

// turns counts the attempts of a Read.
type turns chan bool

func (t turns) Begin()     {}
func (t turns) End(b bool) { t <- b }

// What comes unheard while somebody looks reaches who waits for the poller with Rest.
func TestRestWakesWhoWaits(t *testing.T) {
	_, there, c := pair(t)
	attempts, got := make(turns, 64), make(chan string)
	go func() {
		p := make([]byte, 64)
		n, _ := c.Read(p, attempts)
		got <- string(p[:n])
	}()
	if nothing := <-attempts; !nothing {
		t.Fatal("something was taken")
	}
	c.Peek(make([]byte, 8)) // from here on it is quiet
	send(t, there, "word")
	find(t, c.Peek)
	c.Rest()
	if s := <-got; s != "word" {
		t.Errorf("read %q", s)
	}
}

func TestTheEndIsLeftToTheNextRead(t *testing.T) {
	here, there, c := pair(t)
	there.Close()
	if n, _ := c.Look(make([]byte, 8)); n != 0 {
		t.Errorf("found %d bytes", n)
	}
	c.Rest()
	if _, err := c.Read(make([]byte, 8), make(turns, 64)); err != io.EOF {
		t.Errorf("read: %v, want EOF", err)
	}
	here.SetReadDeadline(time.Unix(1, 0))
	if _, err := c.Read(make([]byte, 8), make(turns, 64)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want the deadline's error", err)
	}
	here.Close()
	if n, _ := c.Look(make([]byte, 8)); n != 0 {
		t.Errorf("found %d bytes on a closed connection", n)
	}
	if _, err := c.Read(make([]byte, 8), make(turns, 64)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v, want that it is closed", err)
	}
}

func TestOnlyTCPIsLookedAt(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if spin.New(a) != nil {
		t.Error("a pipe is looked at")
	}
}
