package stripe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// handshake runs both sides of a handshake, between a dialer and an acceptor of
// the same or of another secret.
func handshake(t *testing.T, dialer, acceptor string, h hello, tamper func(net.Conn) net.Conn) (dialed, accepted error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		_, tr, refused, err := greet(b, time.Minute, acceptor, "acceptor", versions{groupMin, groupMax})
		if err == nil {
			err = settle(b, tr, acceptor, verdict{Refusal: refused, Peer: peer{ID: "acceptor"}})
		}
		if err == nil && refused != nil {
			err = refused
		}
		done <- err
	}()
	conn := net.Conn(a)
	if tamper != nil {
		conn = tamper(a)
	}
	if _, dialed = meet(conn, time.Minute, dialer, h); dialed != nil {
		a.Close()
	}
	return dialed, <-done
}

func TestBothSidesProveTheSecret(t *testing.T) {
	for _, secret := range []string{"", "sesame"} {
		if d, a := handshake(t, secret, secret, hello{Purpose: forAsk}, nil); d != nil || a != nil {
			t.Errorf("with secret %q: %v, %v", secret, d, a)
		}
	}
	for _, pair := range [][2]string{{"", "sesame"}, {"sesame", ""}, {"sesame", "other"}} {
		d, _ := handshake(t, pair[0], pair[1], hello{Purpose: forAsk}, nil)
		if refusedAs(d) != refusedSecret || !strings.Contains(d.Error(), "same password") {
			t.Errorf("secrets %q: %v", pair, d)
		}
	}
	if d, _ := handshake(t, "", "", hello{Purpose: forAsk, Expect: "another"}, nil); refusedAs(d) != refusedIdentity {
		t.Errorf("another server than expected: %v", d)
	}
}

// flipped changes one byte of what is read or written through it.
type flipped struct {
	net.Conn
	at   int
	read bool
}

func (f *flipped) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if f.read {
		f.flip(b[:n])
	}
	return n, err
}

func (f *flipped) Write(b []byte) (int, error) {
	c := bytes.Clone(b)
	if !f.read {
		f.flip(c)
	}
	return f.Conn.Write(c)
}

func (f *flipped) flip(b []byte) {
	if f.at >= 0 && f.at < len(b) {
		b[f.at] ^= 1
	}
	f.at -= len(b)
}

// Whoever sits between the two cannot change a byte of the handshake.
func TestAnyFlippedByteEndsTheHandshake(t *testing.T) {
	t.Parallel()
	h := hello{Purpose: forRaft, peer: peer{Stripe: "s", ID: "i", Name: "n"}}
	for _, read := range []bool{false, true} {
		for at := 0; ; at++ {
			var last *flipped
			d, a := handshake(t, "sesame", "sesame", h, func(c net.Conn) net.Conn {
				last = &flipped{Conn: &impatient{c}, at: at, read: read}
				return last
			})
			if last.at >= 0 {
				break // all bytes were flipped once
			}
			if d == nil && a == nil {
				t.Fatalf("byte %d (read: %v) was flipped, and nobody noticed", at, read)
			}
		}
	}
}

// impatient bounds waits: a flipped length makes a side wait for what never comes.
type impatient struct{ net.Conn }

func (h *impatient) SetDeadline(t time.Time) error {
	if t.IsZero() {
		return h.Conn.SetDeadline(t)
	}
	return h.Conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
}

func FuzzGreet(f *testing.F) {
	f.Add([]byte(groupMagic + "\x00\x02{}\x00\x02{}"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := &said{Reader: bytes.NewReader(b)}
		_, _, refused, err := greet(conn, time.Second, "sesame", "id", versions{groupMin, groupMax})
		if err == nil && refused == nil {
			t.Fatal("garbage has proven the secret")
		}
	})
}

// said is a connection on which all was said before.
type said struct {
	*bytes.Reader
	net.Conn
}

func (s *said) Read(b []byte) (int, error)  { return s.Reader.Read(b) }
func (s *said) Write(b []byte) (int, error) { return len(b), nil }
func (s *said) SetDeadline(time.Time) error { return nil }

// Strangers, half handshakes and floods at the group port cost nothing and hinder
// nobody. Not beside other tests: it looks at the memory of the process.
func TestStraysAtTheGroupPort(t *testing.T) {
	const (
		strays = 1000
		most   = 64 << 20 // bytes that they may cost, with their own ends of the connections
	)
	c := newCluster(t, 3, Config{Secret: "sesame"})
	c.form()
	before, term := inUse(), c.servers[0].raft.CurrentTerm()
	garbage := bytes.Repeat([]byte{0xff}, 64<<10)
	var open []net.Conn
	var work sync.WaitGroup
	defer work.Wait()
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	for i := range strays { // more than have room, and they stay
		conn, err := net.Dial("tcp", c.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		switch i % 5 {
		case 1:
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		case 2:
			conn.Write(binary.BigEndian.AppendUint16([]byte(groupMagic), maxFrame)) // and nothing follows
		case 3:
			io.WriteString(conn, groupMagic+"\xff\xff")
		case 4:
			work.Go(func() { // until it is closed, or nobody reads
				for err := error(nil); err == nil; {
					_, err = conn.Write(garbage)
				}
			})
		}
	}
	unsure := c.do("beside")
	g := c.servers[0].group
	g.mu.Lock()
	held := len(g.conns)
	g.mu.Unlock()
	if room := maxHandshakes + 2*len(c.servers)*maxPeerStreams; held > room {
		t.Errorf("%d connections are held; there is room for %d", held, room)
	}
	if after := inUse(); after > before+most {
		t.Errorf("%d strays cost %d MiB", strays, (after-before)>>20)
	}
	t.Logf("%d elections, %d connections held, %d KiB more in use", c.servers[0].raft.CurrentTerm()-term, held, (int64(inUse())-int64(before))>>10)
	c.kill(1) // a server that must get through the flood
	c.start(1)
	c.settle()
	unsure += c.do("after")
	have := c.ledgers[c.settle()].list()
	c.equal(have...)
	if n := len(have); n > 2+unsure || have[0] != "beside" || have[n-1] != "after" {
		t.Errorf("%q", have)
	}
	for i, conn := range open {
		conn.SetReadDeadline(time.Now().Add(10 * handshakePatience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("half handshake %d was not ended", i)
		}
	}
}

// inUse is the memory of this process for the heap and for stacks, in bytes.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// dialed is what a server answers to one that says h. On a busy machine a server may break a
// handshake off, which is no answer.
func (c *cluster) dialed(to int, h hello) (err error) {
	c.t.Helper()
	eventually(c.t, "the server answers", func() bool {
		var conn net.Conn
		if conn, err = net.Dial("tcp", c.addrs[to]); err != nil {
			c.t.Fatal(err)
		}
		defer conn.Close()
		_, err = meet(conn, time.Minute, c.cfg.Secret, h)
		return err == nil || refusedAs(err) != ""
	})
	return err
}

func TestWhoIsRefusedAtTheGroupPort(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Config{Agreement: "offheap-1 512 MB"})
	c.form()
	ours := c.servers[1].self()
	for _, k := range []struct {
		what, code, says string
		change           func(*hello)
	}{
		{"another stripe", refusedStripe, "move its data folder away", func(h *hello) { h.Stripe = strings.Repeat("0", 32) }},
		{"no stripe", refusedStripe, "belongs to no stripe", func(h *hello) { h.Stripe = "" }},
		{"a copied data root", refusedIdentity, "a data root was copied", func(h *hello) { h.ID = c.servers[0].id }},
		{"the same name", refusedName, "a name of its own", func(h *hello) { h.Name = serverName(0) }},
		{"other timers", refusedTimers, "heartbeat 1s", func(h *hello) { h.Timers = "heartbeat 1s" }},
		{"another purpose", refusedPurpose, "tea", func(h *hello) { h.Purpose = "tea" }},
		{"a joiner with other settings", refusedAgreement, "offheap-1 256 MB, and server \"server-1\" has offheap-1 512 MB",
			func(h *hello) { h.Purpose, h.ID, h.Agreement = forJoin, "new", "offheap-1 256 MB" }},
		{"a joiner that is not configured", refusedJoin, "not one of the stripe's configured servers",
			func(h *hello) { h.Purpose, h.ID, h.Name = forJoin, "new", "server-9" }},
		{"a joiner whose name is taken", refusedName, "alive",
			func(h *hello) { h.Purpose, h.ID, h.Stripe = forJoin, "new", "" }},
	} {
		h := hello{Purpose: forRaft, peer: ours, Agreement: "offheap-1 512 MB"}
		h.Run = "a stranger"
		k.change(&h)
		if err := c.dialed(0, h); refusedAs(err) != k.code || !strings.Contains(err.Error(), k.says) {
			t.Errorf("%s: %v", k.what, err)
		}
	}
	c.do("still")
	c.settle()
}

// Two servers that were each formed by itself do not mix, and say so.
func TestTwoStripesDoNotMix(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Config{})
	c.isolate(0, true) // they cannot ask each other
	form(t, c.servers[0])
	form(t, c.servers[1])
	c.isolate(0, false)
	eventually(t, "both say it", func() bool {
		for _, s := range c.servers {
			s.look(time.Time{})
		}
		return strings.Contains(c.servers[0].Status().Refusal, howToUnite) && strings.Contains(c.servers[1].Status().Refusal, howToUnite)
	})
	for i := range c.servers {
		if st := c.servers[i].Status(); st.State != wire.StateActive || len(votersOf(must1(c.servers[i].configuration()))) != 1 {
			t.Errorf("server %d: %+v", i+1, st)
		}
	}
	c.kill(0)
	c.kill(1)
	// A new one is not formed beside a stripe, which it finds without an active.
	third := newClusterIn(t, []string{"", c.dirs[1], ""}, c.cfg, c.parts)
	if err := third.servers[0].Form(t.Context()); !wire.Is(err, wire.ErrConflict) {
		t.Errorf("form beside a stripe: %v", err)
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
