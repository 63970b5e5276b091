package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/ownership"
	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Law: in whatever order waiting commands are finished, the peer reads the
// answers in the order of the commands, each once.
func TestAnswersInAnyOrderOfCompletion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		here, there := net.Pipe()
		limits := Limits{}.withDefaults()
		all := behind{max: 1 << 20}
		var a answers
		a.init(here, &limits, &all, nil)
		read := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(there)
			read <- string(b)
		}()
		var want strings.Builder
		waiting := make(map[string]*slot)
		finish := func(id string) {
			waiting[id].settle(func(dst []byte) []byte { return append(dst, id...) })
			delete(waiting, id)
		}
		for i, n := 0, rapid.IntRange(0, 200).Draw(t, "commands"); i < n; i++ {
			id := fmt.Sprintf("<%d>", i)
			want.WriteString(id)
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0, 1:
				waiting[id] = a.wait()
			case 2:
				a.inline = append(a.inline, id...)
			default:
				a.inline = append(a.inline, id...)
				a.flush()
			}
			for len(waiting) > 0 && rapid.Bool().Draw(t, "finish one") {
				finish(anyKey(t, waiting))
			}
		}
		for len(waiting) > 0 {
			finish(anyKey(t, waiting))
		}
		a.drain(time.Minute)
		if got := <-read; got != want.String() {
			t.Fatalf("the peer read %q, want %q", got, want.String())
		}
		if a.held != 0 {
			t.Fatalf("%d bytes are still accounted for", a.held)
		}
		if n := all.sum.Load(); n != 0 {
			t.Fatalf("%d bytes are still accounted for in all", n)
		}
	})
}

// The reading goroutine writes what is answered while it proposes together with what
// it answers itself: a goroutine for that would cost a change of thread.
func TestTheReaderWritesWhatIsAnsweredAtOnce(t *testing.T) {
	a, in := newAnswers(t)
	s := a.wait()
	a.hurry = func() {
		if !a.writes() {
			t.Error("what is answered now is written by another goroutine")
		}
		s.settle(simple("one"))
	}
	a.inline = resp.AppendSimple(a.inline, "two")
	flushed := make(chan bool, 1)
	go func() { flushed <- a.flush() }()
	wantLine(t, in, "+one")
	wantLine(t, in, "+two")
	if !<-flushed || a.writes() {
		t.Error("the connection is broken, or somebody still writes")
	}
}

// While the reading goroutine proposes, a write that another goroutine had begun may
// end. Nobody but the reading one is there then to write its answers.
func TestNothingIsLeftBehindByAWriteThatEnds(t *testing.T) {
	a, in := newAnswers(t)
	a.wait().settle(simple("zero")) // nobody reads yet: the write goes on
	a.gathered = true
	proposed := make(chan struct{})
	a.hurry = func() {
		defer close(proposed)
		if got, err := in.ReadString('\n'); got != "+zero\r\n" {
			t.Errorf("read %q, %v", got, err)
		}
		for a.writes() {
			runtime.Gosched()
		}
	}
	a.inline = resp.AppendSimple(a.inline, "one")
	flushed := make(chan bool, 1)
	go func() { flushed <- a.flush() }()
	<-proposed // until then it is hurry that reads
	wantLine(t, in, "+one")
	if !<-flushed {
		t.Error("the connection is broken")
	}
}

// newAnswers returns answers and what their peer reads.
func newAnswers(t *testing.T) (*answers, *bufio.Reader) {
	here, there := net.Pipe()
	limits := Limits{}.withDefaults()
	a := new(answers)
	a.init(here, &limits, nil, nil)
	_ = there.SetReadDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() {
		there.Close()
		a.drain(time.Second)
	})
	return a, bufio.NewReader(there)
}

// writes reports whether somebody writes, or has promised to.
func (a *answers) writes() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writing
}

func anyKey(t *rapid.T, m map[string]*slot) string {
	keys := make([]string, 0, len(m))
	for i := 0; len(keys) < len(m); i++ {
		if k := fmt.Sprintf("<%d>", i); m[k] != nil {
			keys = append(keys, k)
		}
	}
	return rapid.SampledFrom(keys).Draw(t, "which")
}

// withTestCommand adds TEST.WAIT, which waits until the test finishes it.
func withTestCommand(t *testing.T) <-chan *slot {
	places := make(chan *slot, 10_000)
	byName["TEST.WAIT"] = &command{name: "TEST.WAIT", arity: 1, run: func(c *conn, _ [][]byte) { places <- c.wait() }}
	t.Cleanup(func() { delete(byName, "TEST.WAIT") })
	return places
}

func startServer(t testing.TB, limits Limits) (*Server, net.Conn) {
	t.Helper()
	st := store.New()
	t.Cleanup(st.Close)
	sp, err := stripe.Open(t.Context(), stripe.Config{Durability: stripe.MemoryOnly, ServerName: "tc1"}, st)
	if err != nil {
		t.Fatal(err)
	}
	own := ownership.New(ownership.Config{ServerName: "tc1"}, sp, st)
	quiet := slog.New(slog.DiscardHandler)
	s := New(Config{Self: wire.ServerConfig{Name: "tc1"}, Limits: limits, Logger: quiet}, own, sp, st)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		own.Close()
		sp.Close()
	})
	return s, connect(t, ln.Addr())
}

func connect(t testing.TB, addr net.Addr) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	return nc
}

func simple(s string) func([]byte) []byte {
	return func(dst []byte) []byte { return resp.AppendSimple(dst, s) }
}

func wantLine(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	got, err := r.ReadString('\n')
	if err != nil || strings.TrimSuffix(got, "\r\n") != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// A waiting command keeps its place and holds up nobody: later ones are read
// and executed, answers before it leave at once.
func TestAWaitingCommandHoldsUpNobody(t *testing.T) {
	places := withTestCommand(t)
	_, nc := startServer(t, Limits{})
	r := bufio.NewReader(nc)
	fmt.Fprintf(nc, "PING\r\nTEST.WAIT\r\nPING\r\nTEST.WAIT\r\n")
	wantLine(t, r, "+PONG")
	first, second := <-places, <-places // the second was executed while the first waits
	fmt.Fprintf(nc, "TEST.WAIT\r\n")
	third := <-places
	second.settle(simple("second"))
	first.settle(simple("first"))
	wantLine(t, r, "+first")
	wantLine(t, r, "+PONG")
	wantLine(t, r, "+second")
	third.settle(simple("third"))
	wantLine(t, r, "+third")
}

// The window bounds what a connection may have waiting: the reading stops there
// and goes on when the first one is answered.
func TestWindow(t *testing.T) {
	places := withTestCommand(t)
	_, nc := startServer(t, Limits{Window: 8})
	r := bufio.NewReader(nc)
	fmt.Fprint(nc, strings.Repeat("TEST.WAIT\r\n", 9))
	var taken []*slot
	for range 8 {
		taken = append(taken, <-places)
	}
	select {
	case <-places:
		t.Fatal("the ninth was executed beside eight")
	case <-time.After(50 * time.Millisecond): // not a wait for something: that nothing happens is the test
	}
	taken[0].settle(simple("0"))
	wantLine(t, r, "+0")
	taken = append(taken[1:], <-places)
	for i := len(taken) - 1; i >= 0; i-- {
		taken[i].settle(simple("x"))
	}
	for range 8 {
		wantLine(t, r, "+x")
	}
}

// Whoever goes away leaves no waiting command behind that could not be finished.
func TestFinishAfterThePeerIsGone(t *testing.T) {
	places := withTestCommand(t)
	_, nc := startServer(t, Limits{Drain: 10 * time.Millisecond})
	fmt.Fprint(nc, strings.Repeat("TEST.WAIT\r\n", 3))
	taken := []*slot{<-places, <-places, <-places}
	nc.Close()
	eventuallyBroken(t, taken[0].a)
	for _, s := range taken {
		s.finish(wire.Outcome{Version: 1}, nil)
	}
}

// An orderly stop waits for what runs, and its answer still gets out.
func TestShutdownFinishesWhatRuns(t *testing.T) {
	places := withTestCommand(t)
	s, nc := startServer(t, Limits{Drain: 10 * time.Second})
	fmt.Fprint(nc, "TEST.WAIT\r\n")
	running := <-places
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	<-s.ctx.Done()
	running.settle(simple("done"))
	r := bufio.NewReader(nc)
	wantLine(t, r, "+done")
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the last answer: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// What never finishes does not hold the stop up.
func TestShutdownCutsOffWhatNeverEnds(t *testing.T) {
	places := withTestCommand(t)
	s, nc := startServer(t, Limits{Drain: time.Hour})
	fmt.Fprint(nc, "TEST.WAIT\r\n")
	<-places
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
}

// Law: no bytes bring the server down or keep a connection from ending.
func FuzzConnection(f *testing.F) {
	f.Add([]byte("PING\r\n*1\r\n$4\r\nPING\r\n"))
	f.Add([]byte("HELLO 3 SETNAME x\r\nCLIENT LIST\r\nINFO\r\nCOMMAND DOCS\r\nTC.STATUS\r\n"))
	f.Add([]byte("TC.CONFIGURE {\"cluster\":{\"name\":\"x\",\"stripes\":[{}]},\"license\":\"AA==\"}\r\nTC.LOAD a b c R\r\n"))
	f.Add([]byte("*3\r\n$4\r\nECHO\r\n$99999999999\r\n"))
	f.Add([]byte("*-1\r\n*0\r\n\"unbalanced\r\n"))
	_, first := startServer(f, Limits{})
	addr := first.RemoteAddr()
	f.Fuzz(func(t *testing.T, input []byte) {
		nc, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Skip(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = nc.Write(input)
		_ = nc.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection does not end")
		}
	})
}

func eventuallyBroken(t *testing.T, a *answers) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.broken {
		a.changed.Wait()
	}
}

func TestUnknownCommandHints(t *testing.T) {
	for name, want := range map[string]string{
		"PNIG": "PING", "tc.lod": "TC.LOAD", "STATUS": "TC.STATUS", "HELO": "HELLO", "xyzzyxyzzy": "TC.HELP lists", "SUBSCRIBE": "TC.HELP lists", "LPUSH": "TC.HELP lists",
	} {
		if got := unknownCommand([]byte(name)); !strings.Contains(got, want) {
			t.Errorf("%s: %q does not hint at %q", name, got, want)
		}
	}
	if got := unknownCommand([]byte("a\r\n\x1b[0m")); strings.ContainsAny(got, "\r\n\x1b") {
		t.Errorf("control characters are echoed: %q", got)
	}
}

// A steady stream of waiting commands needs no memory of its own.
func TestWaitingCommandsAllocateNothing(t *testing.T) {
	here, there := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, there) }()
	limits := Limits{}.withDefaults()
	var a answers
	a.init(here, &limits, nil, nil)
	defer a.drain(time.Second)
	o := wire.Outcome{Version: 7}
	n := testing.AllocsPerRun(1000, func() {
		s := a.wait()
		a.inline = append(a.inline, "+OK\r\n"...)
		s.finish(o, nil)
		a.flush()
	})
	if n > 0 {
		t.Errorf("%v allocations per waiting command", n)
	}
}

// Another document is verified anew, the same one is not.
func TestLicenceWatchLooksAtTheDocument(t *testing.T) {
	var w licenceWatch
	_, page := w.verify("<html></html>")
	_, empty := w.verify("")
	if page == nil || empty == nil || page.Error() == empty.Error() {
		t.Errorf("two documents, two verdicts: %v, %v", page, empty)
	}
	if _, again := w.verify(""); again != empty {
		t.Error("the same document was verified twice")
	}
}
