package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// memory is the part of a store that makes repeats harmless: outcomes by number.
type memory struct {
	t        *testing.T
	mu       sync.Mutex
	outcomes map[uint64]uint64 // number -> version
	low      uint64
	made     map[string]int // key -> how often the change was made
	lastConn int
	lastSeq  uint64 // on lastConn
}

// apply makes the change unless its number was seen, and returns its version.
func (m *memory) apply(conn int, args []string) (version uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seq, _ := strconv.ParseUint(args[argSeq], 10, 64)
	low, _ := strconv.ParseUint(args[argLow], 10, 64)
	if conn != m.lastConn {
		m.lastConn, m.lastSeq = conn, 0
	}
	if seq < m.lastSeq {
		m.t.Errorf("connection %d: number %d comes after %d", conn, seq, m.lastSeq)
	}
	m.lastSeq = seq
	if m.low = max(m.low, low); seq < m.low {
		m.t.Errorf("number %d comes after low %d", seq, m.low)
	}
	for s := range m.outcomes {
		if s < m.low {
			delete(m.outcomes, s)
		}
	}
	if v, ok := m.outcomes[seq]; ok {
		return v
	}
	m.made[args[2]]++
	m.outcomes[seq] = seq
	return seq
}

// Law: whatever breaks, an acknowledged change was made exactly once, and one whose
// caller left at most once; numbers come in order on each connection, the repeats first.
func TestExactlyOnceUnderKills(t *testing.T) {
	t.Parallel() // it mostly waits between connections
	m := &memory{t: t, outcomes: make(map[uint64]uint64), made: make(map[string]int)}
	f := newFake(t, nil)
	var healthy atomic.Bool
	f.setScript(func(c *fakeConn, args []string) {
		fate := rand.IntN(100)
		if healthy.Load() {
			fate = 100
		}
		if fate < 2 {
			c.Close() // before the change is made
			return
		}
		o := wire.Outcome{Version: m.apply(c.n, args)}
		answer := resp.AppendCommand(nil, o.AppendTo(nil)...)
		switch {
		case fate < 4:
			c.Close() // after it, before the answer
		case fate < 6:
			c.answer(answer[:rand.IntN(len(answer))]) // in the middle of the answer
			c.Close()
		case fate < 30:
			for _, b := range answer { // the answer in single bytes
				c.answer([]byte{b})
			}
		default:
			c.answer(answer)
		}
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	var acked, left sync.Map
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 12 {
				key := fmt.Sprintf("k%d-%d", i, j)
				patience := long
				if j%6 == 5 {
					patience = time.Millisecond
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, err := c.Commit(ctx, commit(key))
				cancel()
				switch {
				case err == nil:
					acked.Store(key, true)
				case errors.Is(err, ErrUnsure):
					left.Store(key, true)
				case patience > time.Second:
					t.Errorf("%s: %v", key, err)
				}
			}
		})
	}
	wg.Wait()
	healthy.Store(true)
	if _, err := c.Commit(within(t, long), commit("last")); err != nil {
		t.Error(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, n := range m.made {
		if _, ok := acked.Load(key); n != 1 {
			t.Errorf("%s was made %d times (acknowledged: %v)", key, n, ok)
		}
		_, ok1 := acked.Load(key)
		_, ok2 := left.Load(key)
		if !ok1 && !ok2 && key != "last" {
			t.Errorf("%s was made, but its caller was told that it was not", key)
		}
	}
	acked.Range(func(key, _ any) bool {
		if m.made[key.(string)] != 1 {
			t.Errorf("%s was acknowledged and not made", key)
		}
		return true
	})
	if f.conns < 3 {
		t.Errorf("only %d connections: nothing was killed", f.conns)
	}
}

// A peer that has stopped reading holds up nobody beyond the end of its context.
func TestPeerThatStopsReading(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		_ = nc.(*net.TCPConn).SetReadBuffer(16 << 10)
		if _, err := resp.NewReader(nc, resp.Limits{}).ReadCommand(); err == nil {
			_, _ = nc.Write(resp.AppendSimple(nil, "OK"))
		}
		<-t.Context().Done()
	}()
	c := newClient(t, Options{Hosts: []string{l.Addr().String()}})
	until(t, "connected", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.cn != nil })
	c.mu.Lock()
	c.room.maxBytes = 6 << 20
	c.mu.Unlock()
	value := make([]byte, 1<<20)
	var wg sync.WaitGroup
	for range 24 { // more than the client's bound, and than the sockets take
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			if _, err := c.Do(ctx, true, []byte("SET"), []byte("k"), value); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait() // the connection lives, and nothing else would end them
	if c.room.bytes > 6<<20 {
		t.Errorf("%d bytes are held", c.room.bytes)
	}
	err = nil
	for deadline := time.Now().Add(long); !errors.Is(err, errNoRoom); { // on a busy machine callers leave before they have taken room
		if time.Now().After(deadline) {
			t.Fatalf("with no room left: %v", err)
		}
		_, err = c.Do(within(t, 50*time.Millisecond), true, []byte("SET"), []byte("k"), value)
	}
}

func TestRoomIsGivenInOrder(t *testing.T) {
	release := make(chan struct{})
	f := newFake(t, nil)
	f.setScript(func(c *fakeConn, args []string) { <-release; f.usual(c, args) })
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	var wg sync.WaitGroup
	for range maxWindow + 100 {
		wg.Go(func() {
			if _, err := c.Commit(within(t, long), commit("k")); err != nil {
				t.Error(err)
			}
		})
	}
	until(t, "all are there", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.room.calls == maxCalls && len(c.room.waiters) == 100 && c.seqs.last <= maxWindow
	})
	close(release)
	wg.Wait()
	if c.room.calls != 0 || c.room.bytes != 0 || c.seqs.low() != maxWindow+101 {
		t.Errorf("left: %d calls, %d bytes, low %d", c.room.calls, c.room.bytes, c.seqs.low())
	}
}

func TestAbandonedCallsLeaveNothing(t *testing.T) {
	f := newFake(t, func(c *fakeConn, args []string) {}) // never answers
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	until(t, "connected", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.cn != nil })
	before := runtime.NumGoroutine()
	for range 300 {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Microsecond)
		if _, err := c.Commit(ctx, commit("k")); err == nil {
			t.Fatal("an answer")
		}
		cancel()
	}
	until(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	c.Close()
	if c.room.calls != 0 || c.room.bytes != 0 || len(c.backlog)+len(c.resting) != 0 {
		t.Errorf("left after Close: %+v, %d", c.room, len(c.backlog)+len(c.resting))
	}
}

// piped is a network of pipes for tests with a clock of their own.
type piped struct {
	mu    sync.Mutex
	dials []string
	serve func(n int, addr string, nc net.Conn) // n counts connections from 1; nil hangs
}

func (p *piped) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	p.mu.Lock()
	p.dials = append(p.dials, addr)
	n := len(p.dials)
	p.mu.Unlock()
	if strings.HasPrefix(addr, "silent") {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a, b := net.Pipe()
	go func() { defer b.Close(); p.serve(n, addr, b) }()
	return a, nil
}

// healthy answers handshakes and what answer lets through, until the pipe ends.
func healthy(nc net.Conn, answer func(args [][]byte) bool) {
	r := resp.NewReader(nc, resp.Limits{})
	for {
		args, err := r.ReadCommand()
		if err != nil {
			return
		}
		out := resp.AppendSimple(nil, "OK")
		if string(args[0]) == wire.CmdJoin {
			j := wire.Joined{Version: wire.Version, MaxValue: 1 << 20}
			out = resp.AppendCommand(nil, j.AppendTo(nil)...)
		} else if string(args[0]) != "HELLO" && !answer(args) {
			continue
		}
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}

func TestSilentServerDoesNotHoldUpTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &piped{serve: func(_ int, _ string, nc net.Conn) { healthy(nc, func([][]byte) bool { return true }) }}
		c, err := New(Options{Hosts: []string{"silent-1:1", "silent-2:1", "good:1"}, Node: true, Dial: p.dial, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		began := time.Now()
		if _, err := c.Do(t.Context(), true, args("GET", "k")...); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d != 2*stagger {
			t.Errorf("took %v, want %v", d, 2*stagger)
		}
	})
}

// A node notices a server that vanished without a word, also while nothing is asked.
func TestVanishedServerIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pings []time.Duration
		began := time.Now()
		p := &piped{}
		p.serve = func(n int, addr string, nc net.Conn) {
			healthy(nc, func(args [][]byte) bool {
				if n == 1 && string(args[0]) == "PING" {
					pings = append(pings, time.Since(began))
					return len(pings) < 3
				}
				return true
			})
		}
		c, err := New(Options{Hosts: []string{"name:1"}, Node: true, Dial: p.dial, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(time.Minute) // the bubble's clock: it costs nothing
		synctest.Wait()
		if len(pings) != 3 || len(p.dials) != 2 {
			t.Fatalf("pings at %v, dialled %v", pings, p.dials)
		}
		if p.dials[1] != "name:1" {
			t.Errorf("dialled %q: the name was not resolved again", p.dials[1])
		}
	})
}

func TestPausesBetweenRoundsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		dial := func(context.Context, string, string) (net.Conn, error) { n++; return nil, errors.New("refused") }
		c, err := New(Options{Hosts: []string{"a:1"}, Dial: dial, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n < 120 || n > 260 {
			t.Errorf("%d tries in a minute; a pause is 250 to 500 ms at last", n)
		}
	})
}

func TestSequence(t *testing.T) {
	var s sequence
	if s.low() != 1 {
		t.Fatal("low does not start at 1")
	}
	var open []uint64
	for range 1000 {
		if len(open) == 0 || rand.IntN(2) == 0 {
			open = append(open, s.take())
		} else {
			i := rand.IntN(len(open))
			s.done(open[i])
			open = append(open[:i], open[i+1:]...)
		}
		want := s.last + 1
		for _, o := range open {
			want = min(want, o)
		}
		if s.low() != want {
			t.Fatalf("low is %d, want %d; open %v", s.low(), want, open)
		}
	}
}

func TestEndedContextSendsNothing(t *testing.T) {
	f := newFake(t, nil)
	c := newClient(t, Options{Hosts: []string{f.addr()}, Node: true})
	_, _ = c.Do(within(t, long), true, args("GET", "k")...)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Commit(ctx, commit("k")); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnsure) {
		t.Errorf("got %v", err)
	}
	if len(f.named(wire.CmdCommit)) != 0 {
		t.Error("it was sent")
	}
}
