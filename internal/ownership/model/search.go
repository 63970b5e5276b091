package model

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Limits bound a search. Zero fields mean the defaults.
type Limits struct {
	States   int           // 100 million
	Memory   uint64        // of the process, in bytes; 4 GiB
	Workers  int           // as many as there are processors
	Progress func(Result)  // called about once a second
	Every    time.Duration // between such calls
}

// Result is what a search has found.
type Result struct {
	Search
	States   int
	Depth    int // steps of the longest way without detours
	Time     time.Duration
	Memory   uint64   // the most that the process has taken from the system
	Cut      string   // why the search is incomplete; "" where it is not
	Overflow int      // states left out because a queue or the log had no room
	Broken   Property // "" where every promise holds
	Trace    Trace    // the shortest way into the fault
}

// Trace is a way from the first state, one sentence for each step.
type Trace []string

// String has one numbered line for each step.
func (t Trace) String() string {
	var b strings.Builder
	for i, line := range t {
		fmt.Fprintf(&b, "%3d. %s\n", i+1, line)
	}
	return b.String()
}

// Run searches all states that can be reached, nearest first, until a promise is
// broken, a limit is reached or ctx ends. It panics where c is not valid.
func Run(ctx context.Context, c Search, l Limits) Result {
	if err := c.Validate(); err != nil {
		panic("model: " + err.Error())
	}
	if l.States == 0 {
		l.States = 100e6
	}
	if l.Memory == 0 {
		l.Memory = 4 << 30
	}
	if l.Workers == 0 {
		l.Workers = runtime.NumCPU()
	}
	if l.Every == 0 {
		l.Every = time.Second
	}
	s := &search{Search: c, limits: l, began: time.Now(), seen: newVisited(), result: Result{Search: c}}
	s.run(ctx)
	return s.result
}

type search struct {
	Search
	limits Limits
	began  time.Time
	seen   *visited
	told   time.Time
	result Result
}

// fault is a broken promise: by which property, and the state before it.
type fault struct {
	broken Property
	before state
}

// worker looks at a share of a level. Nobody else touches it meanwhile.
type worker struct {
	next     []state
	fault    *fault
	overflow int
}

func (s *search) run(ctx context.Context) {
	first := s.initial()
	s.seen.add(fingerprint(&first), 0)
	level := []state{first}
	r := &s.result
	r.States = 1
	for ; len(level) > 0; r.Depth++ {
		if r.Cut = s.cut(ctx, len(level)); r.Cut != "" {
			break
		}
		workers := make([]worker, s.limits.Workers)
		var wg sync.WaitGroup
		for i := range workers {
			wg.Go(func() { s.work(ctx, &workers[i], level, i) })
		}
		wg.Wait()
		var worst *fault
		level = level[:0:0]
		for _, w := range workers {
			level = append(level, w.next...)
			r.Overflow += w.overflow
			if w.fault != nil && (worst == nil || rank(w.fault.broken) < rank(worst.broken)) {
				worst = w.fault
			}
		}
		r.States += len(level)
		if worst != nil {
			r.Broken = worst.broken
			r.Trace = s.trace(worst)
			r.Depth++
			break
		}
	}
	s.measure()
}

func rank(p Property) int {
	for i, q := range Properties() {
		if p == q {
			return i
		}
	}
	return len(Properties())
}

func (s *search) measure() {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	s.result.Memory = max(s.result.Memory, mem.Sys-mem.HeapReleased)
	s.result.Time = time.Since(s.began)
}

// cut tells why to stop before the next level, and reports progress.
func (s *search) cut(ctx context.Context, level int) string {
	s.measure()
	if now := time.Now(); s.limits.Progress != nil && now.Sub(s.told) >= s.limits.Every {
		s.told = now
		s.limits.Progress(s.result)
	}
	switch {
	case ctx.Err() != nil:
		return "stopped: " + ctx.Err().Error()
	case s.result.States > s.limits.States:
		return fmt.Sprintf("more than %d states", s.limits.States)
	case s.result.Memory > s.limits.Memory:
		return fmt.Sprintf("more than %d MiB of memory", s.limits.Memory>>20)
	}
	return ""
}

// share is how many states of a level a worker takes at a time.
const share = 256

func (s *search) work(ctx context.Context, w *worker, level []state, i int) {
	var from *state
	var parent uint64
	var m *machine
	m = newMachine(&s.Search, func() {
		switch {
		case m.overflow:
			w.overflow++
		case m.broken != "":
			if w.fault == nil || rank(m.broken) < rank(w.fault.broken) {
				w.fault = &fault{m.broken, *from}
			}
		case s.seen.add(fingerprint(&m.s), parent):
			w.next = append(w.next, m.s)
		}
	})
	for at := i * share; at < len(level) && ctx.Err() == nil; at += share * s.limits.Workers {
		for j := at; j < min(at+share, len(level)); j++ {
			from = &level[j]
			parent = fingerprint(from)
			m.successors(from)
		}
	}
}

// trace goes the way to f once more, now with words.
func (s *search) trace(f *fault) Trace {
	var way []uint64
	for p := fingerprint(&f.before); p != 0; p = s.seen.parent(p) {
		way = append(way, p)
	}
	at := s.initial()
	var t Trace
	for i := len(way) - 2; i >= 0; i-- {
		var words string
		at, words = s.follow(at, func(m *machine) bool { return m.broken == "" && fingerprint(&m.s) == way[i] })
		t = append(t, words)
	}
	_, words := s.follow(at, func(m *machine) bool { return m.broken == f.broken })
	return append(t, words)
}

// follow makes the first step from at that want accepts.
func (s *search) follow(at state, want func(*machine) bool) (next state, words string) {
	var m *machine
	m = newMachine(&s.Search, func() {
		if words == "" && !m.overflow && want(m) {
			next, words = m.s, m.sentence()
		}
	})
	m.tracing = true
	m.successors(&at)
	return next, words
}

// sentence renders what was said in one step.
func (m *machine) sentence() string {
	var b strings.Builder
	for i, w := range m.words {
		if i > 0 {
			b.WriteByte(' ')
		}
		args := w.args[:]
		for rest := w.format; rest != ""; {
			before, after, found := strings.Cut(rest, "%")
			b.WriteString(before)
			if !found {
				break
			}
			switch after[0] {
			case 'n':
				b.WriteByte("AB"[args[0]])
			case 's':
				b.WriteString([]string{"active", "new active"}[args[0]])
			case 'd':
				fmt.Fprint(&b, args[0])
			case 'v':
				b.WriteString(setText(args[0]))
			}
			args, rest = args[1:], after[1:]
		}
		if i == len(m.words)-1 {
			b.WriteByte('.')
		} else if !strings.HasSuffix(w.format, ")") {
			b.WriteByte(',')
		}
	}
	return b.String()
}

// setText names a value by the writes that it contains.
func setText(set uint8) string {
	var list []string
	for i := uint8(1); i <= maxWrites; i++ {
		if set&bit(i) != 0 {
			list = append(list, fmt.Sprint(i))
		}
	}
	return "{" + strings.Join(list, ",") + "}"
}

var seed = maphash.MakeSeed()

// fingerprint is the same for a state and the one with the nodes' names exchanged.
// It is never 0.
func fingerprint(s *state) uint64 {
	return max(1, min(maphash.Comparable(seed, *s), maphash.Comparable(seed, s.swapped())))
}

// visited is the set of states seen, by fingerprint, each with the one it was
// reached from. Two states with one fingerprint would be taken for one: among 30
// million states, with a chance of one in 40000.
type visited struct{ shard [64]shard }

type shard struct {
	mu    sync.Mutex
	slots []slot // open addressing; a power of two, at most 3/4 full
	used  int
}

type slot struct{ print, parent uint64 }

func newVisited() *visited {
	v := &visited{}
	for i := range v.shard {
		v.shard[i].slots = make([]slot, 1<<8)
	}
	return v
}

func (v *visited) add(print, parent uint64) bool {
	h := &v.shard[print%64]
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.find(print)
	if at.print != 0 {
		return false
	}
	*at = slot{print, parent}
	if h.used++; h.used > len(h.slots)*3/4 {
		old := h.slots
		h.slots = make([]slot, 2*len(old))
		for _, s := range old {
			if s.print != 0 {
				*h.find(s.print) = s
			}
		}
	}
	return true
}

func (v *visited) parent(print uint64) uint64 { return v.shard[print%64].find(print).parent }

// find returns the slot of print, or the free one for it.
func (h *shard) find(print uint64) *slot {
	for i := print / 64; ; i++ {
		if s := &h.slots[i&uint64(len(h.slots)-1)]; s.print == print || s.print == 0 {
			return s
		}
	}
}
