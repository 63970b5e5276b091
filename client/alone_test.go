package client

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/spin"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// looking returns the connection of c once callers read it for themselves.
func looking(t *testing.T, c *Client) *conn {
	t.Helper()
	var cn *conn
	until(t, "connected", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		cn = c.cn
		return cn != nil
	})
	if cn.alone == nil {
		t.Skip("callers don't read for themselves here")
	}
	return cn
}

// foundSoFar returns how many answers callers have read for themselves. What was in vain
// is forgotten: it must not spare the test the next look.
func (a *alone) foundSoFar() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gates = [2]spin.Gate{}
	return a.found
}

// A caller that is alone gets its own answer, whole, whatever it looks like, and in
// whichever pieces it comes.
func TestAnswersOfOneWhoIsAlone(t *testing.T) {
	shapes := []string{"usual", "in pieces", "two at once", "an error", "a string", "large", "behind a push", "behind half a push"}
	var mu sync.Mutex
	pushes, i := 0, 0
	f := newFake(t, func(c *fakeConn, args []string) {
		list := resp.AppendCommand(nil, []byte("list"), []byte(args[1]))
		lie := resp.AppendCommand(nil, []byte("list"), []byte("false"))
		push := resp.AppendCommand(nil, []byte("told"), lie)
		push[0] = '>'
		switch args[2] {
		case "in pieces":
			c.answer(list[:len(list)/2])
			time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond) // not a wait: two packets
			c.answer(list[len(list)/2:])
		case "an error":
			c.refuse("BADREQUEST " + args[1])
		case "a string":
			c.answer(resp.AppendBulkString(nil, args[1]))
		case "large":
			c.answer(resp.AppendCommand(nil, []byte("list"), []byte(args[1]), make([]byte, 3*lookBytes)))
		case "behind a push":
			c.answer(append(push, list...))
		case "behind half a push":
			rest := bytes.Index(push, lie)
			if i++; i%2 == 1 { // what comes next looks like an answer
				c.answer(append(list, push[:rest]...))
			} else {
				c.answer(append(push[rest:], list...))
			}
		case "two at once":
			c.answer(append(list, push...))
		default:
			c.answer(list)
		}
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}, Push: func([][]byte) {
		mu.Lock()
		defer mu.Unlock()
		pushes++
	}})
	ctx := within(t, long)
	cn := looking(t, c)
	want, halves := 0, 0
	ask := func(i int, shape string) {
		t.Helper()
		name := fmt.Sprint("n", i)
		answer, err := c.Do(ctx, true, args("X", name, shape)...)
		switch shape {
		case "behind a push", "two at once":
			want++
		case "behind half a push":
			halves++
		}
		switch shape {
		case "an error":
			if !wire.Is(err, wire.ErrBadRequest) || !strings.Contains(err.Error(), name) {
				t.Fatalf("%s: %v", shape, err)
			}
		default:
			if err != nil || len(answer) == 0 || !bytes.Contains(bytes.Join(answer, nil), []byte(name)) {
				t.Fatalf("%s of %s: %q, %v", shape, name, answer, err)
			}
		}
	}
	n := 0
	for _, shape := range shapes {
		before := cn.alone.foundSoFar()
		until(t, "callers read for themselves", func() bool {
			for range 2 * lone {
				n++
				ask(n, "usual")
			}
			return cn.alone.foundSoFar() > before
		})
		for range 50 {
			n++
			ask(n, shape)
			cn.alone.foundSoFar()
			if shape == "behind half a push" && halves%2 == 1 {
				until(t, "the reading goroutine has the half", func() bool {
					cn.alone.mu.Lock()
					defer cn.alone.mu.Unlock()
					return !cn.alone.clean
				})
			}
		}
	}
	until(t, "the pushes have come", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return pushes == want+halves/2
	})
}

// While the reading goroutine is at what it took, of which the end may not have come yet, the
// next bytes are no answer that a caller could take.
func TestNobodyLooksBehindWhatWasTaken(t *testing.T) {
	push := resp.AppendCommand(nil, []byte("told"))
	push[0] = '>'
	f := newFake(t, func(c *fakeConn, args []string) { c.answer(append(push, resp.AppendSimple(nil, "OK")...)) })
	var a atomic.Pointer[alone]
	clean := make(chan bool, 1)
	c := newClient(t, Options{Hosts: []string{f.addr()}, Push: func([][]byte) {
		if a := a.Load(); a != nil {
			a.mu.Lock()
			defer a.mu.Unlock()
			clean <- a.clean
		}
	}})
	a.Store(looking(t, c).alone)
	if _, err := c.Do(within(t, long), true, args("X")...); err != nil {
		t.Fatal(err)
	}
	if <-clean {
		t.Error("a caller may look")
	}
}

// Callers that are alone and callers that are not come and go: nobody's answer is left lying.
func TestAloneAndTogetherInTurn(t *testing.T) {
	f := newFake(t, nil)
	c := newClient(t, Options{Hosts: []string{f.addr()}})
	ctx := within(t, long)
	a := looking(t, c).alone
	var wg sync.WaitGroup
	for caller := range 3 {
		wg.Go(func() {
			for i := range 3000 {
				key := fmt.Sprintf("%d-%d", caller, i)
				s, err := c.Load(ctx, &wire.Load{Dataset: []byte("d"), Key: []byte(key), Mode: wire.LoadPeek})
				if err != nil || string(s.Key) != key {
					t.Errorf("load of %s: %q, %v", key, s.Key, err)
					return
				}
				if i/(40*(caller+1))%2 == 1 { // leave the others to themselves for a while
					time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) // not a wait
				}
				if i%100 == 0 {
					a.foundSoFar()
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d of 9000 answers were read by who called", a.foundSoFar())
}

// A connection that breaks while its caller looks is noticed, and the call is made again.
func TestBreaksWhileOneLooks(t *testing.T) {
	var n atomic.Int32
	f := newFake(t, func(c *fakeConn, args []string) {
		if n.Add(1)%40 == 0 {
			c.Close()
			return
		}
		c.answer(resp.AppendBulkString(nil, args[1]))
	})
	c := newClient(t, Options{Hosts: []string{f.addr()}})
	ctx := within(t, long)
	for i := range 200 {
		name := fmt.Sprint("n", i)
		answer, err := c.Do(ctx, true, args("X", name)...)
		if err != nil || string(answer[0]) != name {
			t.Fatalf("%s: %q, %v", name, answer, err)
		}
	}
}
