package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Node is what an application node can ask: the part of client.Client that counts.
type Node interface {
	Load(ctx context.Context, l *wire.Load) (wire.Session, error)
	Create(ctx context.Context, w *wire.Create) (wire.Outcome, error)
	Commit(ctx context.Context, w *wire.Commit) (wire.Outcome, error)
	Invalidate(ctx context.Context, w *wire.Invalidate) (wire.Outcome, error)
}

// Load is what to ask for. The dataset must be open.
type Load struct {
	Seed     uint64
	Dataset  string
	Nodes    []Node
	Threads  int           // of each node; 0 = 3
	Sessions int           // in use at once; 0 = 4
	Life     int           // operations until a session is left for a new one; 0 = 60
	Patience time.Duration // of an operation; 0 = 10 s. One in 8 has 30 ms at most.
	Pace     time.Duration // mean pause between two operations of a thread; 0 = none
}

// Running is a load at work.
type Running struct {
	h     *History
	load  Load
	value atomic.Uint64 // written last
	wg    sync.WaitGroup

	mu    sync.Mutex
	slots []slot
	keys  []string // all ever used
}

type slot struct {
	key  string
	left int
}

var attributeNames = [attributes][]byte{[]byte("a"), []byte("b")}

// Run starts the load; it ends with ctx. Await it by Wait.
func Run(ctx context.Context, h *History, l Load) *Running {
	if l.Threads == 0 {
		l.Threads = 3
	}
	if l.Sessions == 0 {
		l.Sessions = 4
	}
	if l.Life == 0 {
		l.Life = 60
	}
	if l.Patience == 0 {
		l.Patience = 10 * time.Second
	}
	r := &Running{h: h, load: l, slots: make([]slot, l.Sessions)}
	for i, node := range l.Nodes {
		for j := range l.Threads {
			t := &thread{r: r, node: node, id: i*l.Threads + j, rnd: rand.New(rand.NewPCG(l.Seed, uint64(i*l.Threads+j)))}
			r.wg.Go(func() {
				for ctx.Err() == nil {
					t.turn()
					if l.Pace > 0 {
						time.Sleep(time.Duration(t.rnd.Int64N(int64(2 * l.Pace))))
					}
				}
			})
		}
	}
	return r
}

// Wait returns when all operations are over.
func (r *Running) Wait() { r.wg.Wait() }

// Recheck reads every session once more: what was acknowledged must be there. It
// is for the end, when all is well again, and fails where a session can't be read.
func (r *Running) Recheck(ctx context.Context, node Node) error {
	t := &thread{r: r, node: node, id: len(r.load.Nodes) * r.load.Threads}
	for _, key := range r.keys {
		if _, ok := t.load(ctx, key); !ok {
			return fmt.Errorf("session %q can't be read at the end", key)
		}
	}
	return nil
}

// key draws the session for an operation.
func (r *Running) key(i int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[i]
	if s.left == 0 {
		s.key, s.left = fmt.Sprintf("s%d-%d", len(r.keys), r.load.Seed), r.load.Life
		r.keys = append(r.keys, s.key)
	}
	s.left--
	return s.key
}

// thread is one after the other of its operations.
type thread struct {
	r    *Running
	node Node
	id   int
	rnd  *rand.Rand
}

// turn does what a request does: it loads a session and perhaps changes it.
func (t *thread) turn() {
	key := t.r.key(t.rnd.IntN(len(t.r.slots)))
	patience := t.r.load.Patience
	if t.rnd.IntN(8) == 0 {
		patience = time.Duration(1+t.rnd.IntN(30)) * time.Millisecond
	}
	// Not the run's context: a run that ends must not cut off what is under way.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	what := t.rnd.IntN(100)
	s, ok := t.load(ctx, key)
	switch {
	case !ok:
	case s.found == absent:
		t.create(ctx, key)
	case what < 40: // it only reads
	case what < 42:
		t.end(ctx, key)
	default:
		t.commit(ctx, key, s)
	}
}

// loaded is what a load was told, and the ticket for the commit.
type loaded struct {
	output
	token wire.Token
}

func (t *thread) load(ctx context.Context, key string) (loaded, bool) {
	call := t.r.h.now()
	s, err := t.node.Load(ctx, &wire.Load{Dataset: []byte(t.r.load.Dataset), Key: []byte(key), Mode: wire.LoadRead})
	l := loaded{output: output{found: live}, token: s.Token}
	if err != nil {
		found, told := meets(err)
		if !told {
			t.fails(key, "load", err)
			return l, false
		}
		l.found = found
	}
	for _, a := range s.Attributes {
		v, err := strconv.ParseUint(string(a.Value), 10, 64)
		if err != nil || len(a.Name) != 1 || a.Name[0] < 'a' || a.Name[0] >= 'a'+attributes {
			t.r.h.Odd("session %q has attribute %q=%q, which nobody wrote", key, a.Name, a.Value)
			return l, false
		}
		l.values[a.Name[0]-'a'] = v
	}
	t.r.h.add(t.id, call, input{kind: opLoad, key: key}, l.output)
	return l, true
}

// draw chooses what to write: one attribute or both, values that nobody wrote before.
func (t *thread) draw() (set values, list []wire.Attribute) {
	which := 1 + t.rnd.IntN(1<<attributes-1)
	for i := range set {
		if which&(1<<i) != 0 {
			set[i] = t.r.value.Add(1)
			list = append(list, wire.Attribute{Name: attributeNames[i], Value: strconv.AppendUint(nil, set[i], 10)})
		}
	}
	return set, list
}

func (t *thread) write(key string, token wire.Token) wire.Write {
	return wire.Write{Dataset: []byte(t.r.load.Dataset), Key: []byte(key), Token: token}
}

func (t *thread) create(ctx context.Context, key string) {
	in := input{kind: opCreate, key: key}
	var list []wire.Attribute
	in.set, list = t.draw()
	call := t.r.h.now()
	_, err := t.node.Create(ctx, &wire.Create{Write: t.write(key, wire.Token{}), Set: list})
	t.told(call, in, output{found: absent}, err)
}

func (t *thread) commit(ctx context.Context, key string, s loaded) {
	in := input{kind: opCommit, key: key, seen: s.values}
	var list []wire.Attribute
	in.set, list = t.draw()
	call := t.r.h.now()
	o, err := t.node.Commit(ctx, &wire.Commit{Write: t.write(key, s.token), Idle: wire.KeepIdle, Set: list})
	out := output{found: live}
	for _, name := range o.Dropped {
		out.dropped[name[0]-'a'] = true
	}
	t.told(call, in, out, err)
}

func (t *thread) end(ctx context.Context, key string) {
	call := t.r.h.now()
	o, err := t.node.Invalidate(ctx, &wire.Invalidate{Write: t.write(key, wire.Token{}), Reason: []byte("logout")})
	out := output{found: gone}
	if o.Existed {
		out.found = live
	}
	t.told(call, input{kind: opEnd, key: key}, out, err)
}

// told records a write's answer.
func (t *thread) told(call int64, in input, out output, err error) {
	if err == nil {
		t.r.h.add(t.id, call, in, out)
		return
	}
	if found, told := meets(err); told {
		t.r.h.add(t.id, call, in, output{found: found})
		return
	}
	if errors.Is(err, client.ErrUnsure) {
		t.r.h.add(t.id, call, in, output{unknown: true})
		return
	}
	t.fails(in.key, "write", err) // it was not made: if anybody sees it, no order explains that
}

// meets says which phase of a session a refusal tells of.
func meets(err error) (phase, bool) {
	switch {
	case wire.Is(err, wire.ErrSessionUnknown):
		return absent, true
	case wire.Is(err, wire.ErrSessionGone):
		return gone, true
	case wire.Is(err, wire.ErrSessionExists):
		return live, true
	}
	return absent, false
}

// fails counts a failure, and notes one that is no fault's doing.
func (t *thread) fails(key, what string, err error) {
	t.r.h.failed()
	var gaveUp *client.UnavailableError
	var refusal *wire.Error
	switch {
	case errors.As(err, &gaveUp) && gaveUp.Cause != nil, errors.Is(err, client.ErrClosed):
	case errors.As(err, &refusal) && refusal.Word.Retryable():
	default:
		t.r.h.Odd("%s of session %q: %v", what, key, err)
	}
}
