package history

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// stub is a tiny store that a mutation makes ill in one way.
type stub struct {
	mutation string

	mu       sync.Mutex
	rnd      *rand.Rand
	index    uint64
	sessions map[string]*stubSession
}

type stubSession struct {
	gone    bool
	values  map[string]string
	changed map[string]uint64
	before  map[string]string // the values before the last change
}

func newStub(mutation string, seed uint64) *stub {
	return &stub{mutation: mutation, rnd: rand.New(rand.NewPCG(seed, 7)), sessions: make(map[string]*stubSession)}
}

// ill reports that the mutation strikes now.
func (s *stub) ill(mutation string) bool { return s.mutation == mutation && s.rnd.IntN(50) == 0 }

func refusal(w wire.Word) error { return &wire.Error{Word: w, Text: "stub"} }

func (s *stub) find(key []byte) (*stubSession, error) {
	ss := s.sessions[string(key)]
	switch {
	case ss == nil:
		return nil, refusal(wire.ErrSessionUnknown)
	case ss.gone:
		if s.ill("a logout is forgotten") {
			ss.gone = false
			return ss, nil
		}
		return nil, refusal(wire.ErrSessionGone)
	}
	return ss, nil
}

func (s *stub) Load(_ context.Context, l *wire.Load) (out wire.Session, err error) {
	runtime.Gosched()
	s.mu.Lock()
	defer s.mu.Unlock()
	ss, err := s.find(l.Key)
	if err != nil {
		return out, err
	}
	values := ss.values
	switch {
	case ss.before == nil:
	case s.ill("a read is stale"):
		values = ss.before
	case s.ill("a read is torn"):
		values = maps.Clone(ss.before) // which may have had one attribute only
		if a, ok := ss.values["a"]; ok {
			values["a"] = a
		}
	}
	for name, v := range values {
		out.Attributes = append(out.Attributes, wire.Attribute{Name: []byte(name), Value: []byte(v)})
	}
	out.Token = wire.Token{Counter: 1, Index: s.index}
	return out, nil
}

func (s *stub) Create(_ context.Context, w *wire.Create) (out wire.Outcome, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ss := s.sessions[string(w.Key)]; ss != nil {
		if ss.gone {
			return out, refusal(wire.ErrSessionGone)
		}
		return out, refusal(wire.ErrSessionExists)
	}
	ss := &stubSession{values: make(map[string]string), changed: make(map[string]uint64)}
	s.sessions[string(w.Key)] = ss
	s.set(ss, w.Set)
	return out, nil
}

func (s *stub) set(ss *stubSession, list []wire.Attribute) {
	s.index++
	ss.before = make(map[string]string)
	for name, v := range ss.values {
		ss.before[name] = v
	}
	for _, a := range list {
		ss.values[string(a.Name)], ss.changed[string(a.Name)] = string(a.Value), s.index
	}
}

func (s *stub) Commit(_ context.Context, w *wire.Commit) (out wire.Outcome, err error) {
	runtime.Gosched()
	s.mu.Lock()
	defer s.mu.Unlock()
	ss, err := s.find(w.Key)
	if err != nil {
		return out, err
	}
	if s.ill("an acknowledged write is lost") {
		return out, nil
	}
	var list []wire.Attribute
	for _, a := range w.Set {
		if ss.changed[string(a.Name)] <= w.Token.Index || s.mutation == "a late write overwrites" {
			list = append(list, a)
		} else {
			out.Dropped = append(out.Dropped, a.Name)
		}
	}
	known := s.rnd.IntN(50) > 0
	if known || s.rnd.IntN(2) == 0 {
		s.set(ss, list)
	}
	switch {
	case s.ill("a write that failed was made"):
		return wire.Outcome{}, refusal(wire.ErrBusy)
	case !known:
		return wire.Outcome{}, client.ErrUnsure
	case s.ill("a write is made later than it is acknowledged"):
		was := ss.before
		ss.values, ss.before = was, ss.values
		go func() {
			time.Sleep(time.Millisecond) // the illness, not a wait
			s.mu.Lock()
			defer s.mu.Unlock()
			ss.values, ss.before = ss.before, was
		}()
	}
	return out, nil
}

func (s *stub) Invalidate(_ context.Context, w *wire.Invalidate) (out wire.Outcome, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ss := s.sessions[string(w.Key)]
	if ss == nil || ss.gone {
		return out, nil
	}
	ss.gone, out.Existed = true, true
	return out, nil
}

func runStub(t *testing.T, mutation string, seed uint64) error {
	h := New()
	s := newStub(mutation, seed)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := Run(ctx, h, Load{Seed: seed, Nodes: []Node{s, s, s}, Pace: 100 * time.Microsecond})
	for tally := h.Tally(); tally.Reads+tally.Writes < 3000 && ctx.Err() == nil; tally = h.Tally() {
		time.Sleep(time.Millisecond) // polls the condition above
	}
	cancel()
	r.Wait()
	if err := r.Recheck(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	tally := h.Tally()
	if tally.Unknown == 0 || tally.Writes < 500 {
		t.Errorf("the load is too light: %+v", tally)
	}
	return h.Check(time.Minute)
}

// A healthy store checks, unknown outcomes included.
func TestHealthyStoreChecks(t *testing.T) {
	for seed := range uint64(3) {
		if err := runStub(t, "", seed); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// The check is not one that cannot fail: each way to be ill turns it red.
func TestIllStoresAreFound(t *testing.T) {
	for _, mutation := range []string{
		"a read is stale", "a read is torn", "an acknowledged write is lost", "a late write overwrites",
		"a write that failed was made", "a logout is forgotten", "a write is made later than it is acknowledged",
	} {
		t.Run(mutation, func(t *testing.T) {
			err := runStub(t, mutation, 1)
			if err == nil || !strings.Contains(err.Error(), "not linearizable") {
				t.Fatalf("it was not found: %v", err)
			}
			if !strings.Contains(err.Error(), "thread") {
				t.Errorf("the error shows no operations: %v", err)
			}
		})
	}
}

// What a write with an unknown outcome may have done, small enough to be read.
func TestUnknownOutcomes(t *testing.T) {
	write := func(h *History, call int64, v uint64, unknown bool, end int64) {
		h.add(0, call, input{kind: opCommit, key: "k", seen: values{1}, set: values{v}}, output{unknown: unknown, found: live})
		op := &h.ops["k"][len(h.ops["k"])-1]
		if op.Return != math.MaxInt64 {
			op.Return = end
		}
	}
	read := func(h *History, call int64, v uint64, end int64) {
		h.add(1, call, input{kind: opLoad, key: "k"}, output{found: live, values: values{v}})
		h.ops["k"][len(h.ops["k"])-1].Return = end
	}
	for name, c := range map[string]struct {
		reads []uint64 // at 20, 30, 40...; the unknown write of 2 over 1 is called at 10
		other bool     // a known write of 3 over 1 at 15
		good  bool
	}{
		"never made":                    {[]uint64{1, 1, 1}, false, true},
		"made at once":                  {[]uint64{2, 2}, false, true},
		"made late":                     {[]uint64{1, 1, 2}, false, true},
		"made and taken back":           {[]uint64{2, 1}, false, false},
		"too late for another":          {[]uint64{3, 3}, true, true},
		"made over one it has not seen": {[]uint64{3, 2}, true, false},
		"nobody's":                      {[]uint64{7}, false, false},
	} {
		h := New()
		h.add(0, 0, input{kind: opCreate, key: "k", set: values{1}}, output{found: absent})
		h.ops["k"][0].Return = 5
		write(h, 10, 2, true, 0)
		if c.other {
			write(h, 15, 3, false, 18)
		}
		for i, v := range c.reads {
			at := int64(20 + 10*i)
			read(h, at, v, at+5)
		}
		if err := h.Check(time.Minute); (err == nil) != c.good {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Answers that no fault explains are told even where the rest checks.
func TestOddAnswersAreTold(t *testing.T) {
	h := New()
	h.Odd("session %q: %s", "k", "BADREQUEST")
	if err := h.Check(time.Minute); err == nil || !strings.Contains(err.Error(), "BADREQUEST") {
		t.Errorf("got %v", err)
	}
}
