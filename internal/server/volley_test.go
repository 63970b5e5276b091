package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/nowait"
)

// tcpPair returns both ends of a connection.
func tcpPair(t interface {
	Helper()
	Fatal(...any)
}) (here, there *net.TCPConn) {
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
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	here, there = out.(*net.TCPConn), in.(*net.TCPConn)
	return here, there
}

// Law: whatever is finished in a volley and outside of one, on several connections, each
// peer reads its answers in the order of its commands, each once.
func TestAnswersOfAVolleyKeepTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{}.withDefaults()
		limits.MaxOutput, limits.Window = 1<<30, 1000 // nobody else ends the volley that a flush would wait for
		all := behind{max: 64 << 20}
		var v volley
		open := false
		toggle := func() {
			if open = !open; open {
				v.begin()
			} else {
				v.end()
			}
		}
		type peer struct {
			answers
			read    chan string
			want    strings.Builder
			waiting map[string]*slot
		}
		var peers []*peer
		for range rapid.IntRange(1, 3).Draw(t, "peers") {
			here, there := tcpPair(t)
			p := &peer{read: make(chan string, 1), waiting: make(map[string]*slot)}
			p.init(here, &limits, &all, &v)
			go func() {
				b, _ := io.ReadAll(there)
				there.Close()
				p.read <- string(b)
			}()
			peers = append(peers, p)
		}
		long := strings.Repeat("x", 10<<10)
		text := make(map[string]string) // id -> answer
		finish := func(p *peer) {
			id := anyKey(t, p.waiting)
			p.waiting[id].settle(func(dst []byte) []byte { return append(dst, text[id]...) })
			delete(p.waiting, id)
		}
		for i, n := 0, rapid.IntRange(0, 60).Draw(t, "commands"); i < n; i++ {
			p := peers[rapid.IntRange(0, len(peers)-1).Draw(t, "peer")]
			id := fmt.Sprintf("<%d>", i)
			if text[id] = id; rapid.IntRange(0, 9).Draw(t, "long") == 0 {
				text[id] += long
			}
			p.want.WriteString(text[id])
			if rapid.IntRange(0, 3).Draw(t, "kind") > 0 {
				p.waiting[id] = p.wait()
			} else {
				p.inline = append(p.inline, text[id]...)
				p.flush()
			}
			if rapid.Bool().Draw(t, "toggle") {
				toggle()
			}
			for len(p.waiting) > 0 && rapid.Bool().Draw(t, "finish one") {
				finish(p)
			}
		}
		for _, p := range peers {
			for len(p.waiting) > 0 {
				finish(p)
			}
		}
		if open {
			toggle()
		}
		for i, p := range peers {
			p.drain(time.Minute)
			if got := <-p.read; got != p.want.String() {
				t.Fatalf("peer %d read %d bytes, want %d, or in another order", i, len(got), p.want.Len())
			}
			if p.held != 0 {
				t.Fatalf("%d bytes are still accounted for", p.held)
			}
		}
		if n := all.sum.Load(); n != 0 {
			t.Fatalf("%d bytes are still accounted for in all", n)
		}
	})
}

// All answers of a volley leave in one write, made by whoever ends it.
func TestAVolleyIsOneWrite(t *testing.T) {
	here, there := tcpPair(t)
	defer here.Close()
	defer there.Close()
	if nowait.NewWriter(here) == nil {
		t.Skip("this system has no write that does not wait")
	}
	limits := Limits{}.withDefaults()
	var v volley
	var a answers
	a.init(here, &limits, nil, &v)
	slots := []*slot{a.wait(), a.wait(), a.wait()}
	v.begin()
	for _, s := range slots {
		s.settle(simple("one"))
	}
	if a.held != 3*len("+one\r\n") || len(a.out) != a.held {
		t.Errorf("%d bytes wait to be written, %d are held", len(a.out), a.held)
	}
	v.end()
	if a.held != 0 || a.writes() {
		t.Errorf("%d bytes are held, or somebody else writes", a.held)
	}
	want := bytes.Repeat([]byte("+one\r\n"), 3)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(there, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %q, %v", got, err)
	}
}

// What the system does not take at once follows, in order, when the peer reads.
func TestWhatAVolleyCouldNotWriteFollows(t *testing.T) {
	here, there := tcpPair(t)
	defer there.Close()
	limits := Limits{}.withDefaults()
	limits.MaxOutput = 1 << 30
	var v volley
	var a answers
	a.init(here, &limits, nil, &v)
	var want bytes.Buffer
	answer := func(i int) {
		text := fmt.Sprintf("<%d>%s", i, bytes.Repeat([]byte{byte('a' + i%26)}, keepBuffer/2))
		want.WriteString(text)
		s := a.wait()
		v.begin()
		s.settle(func(dst []byte) []byte { return append(dst, text...) })
		v.end()
	}
	n := 0
	for ; !a.writes(); n++ { // until the system takes no more
		answer(n)
	}
	for i := range 10 {
		answer(n + i)
	}
	read := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(there)
		read <- b
	}()
	a.drain(time.Minute)
	if got := <-read; !bytes.Equal(got, want.Bytes()) {
		t.Errorf("read %d bytes, want %d, or others", len(got), want.Len())
	}
	if a.held != 0 {
		t.Errorf("%d bytes are still accounted for", a.held)
	}
}

// A peer that takes nothing does not keep whoever answers, and is cut off in its time.
func TestAVolleyWaitsForNobody(t *testing.T) {
	here, there := tcpPair(t)
	defer there.Close()
	limits := Limits{Write: 10 * time.Millisecond}.withDefaults()
	limits.MaxOutput = 1 << 30
	var v volley
	var a answers
	a.init(here, &limits, nil, &v)
	answer := bytes.Repeat([]byte("x"), keepBuffer/2)
	cut := func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.broken
	}
	for !cut() { // the callbacks end, all of them
		s := a.wait()
		v.begin()
		s.settle(func(dst []byte) []byte { return append(dst, answer...) })
		v.end()
	}
	a.drain(time.Minute)
	if a.writes() {
		t.Error("somebody still writes")
	}
}
