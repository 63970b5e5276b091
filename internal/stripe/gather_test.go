package stripe

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// What raft has got it may hold for longer than anybody waits for it.
func TestOnlyWhatRaftHasNotGotIsUsedAgain(t *testing.T) {
	for _, future := range []raft.ApplyFuture{nil, struct{ raft.ApplyFuture }{}} {
		q := newQueue(func(*flight) {})
		next := func() *flight {
			if refusal := q.add([]byte("op"), false, nil); refusal != nil {
				t.Fatal(refusal)
			}
			return q.take()
		}
		first := next()
		if future != nil {
			q.sent(first, future)
		}
		q.ended(first)
		if again := next().batch == first.batch; again != (future == nil) {
			t.Errorf("raft has it: %v; used again: %v", future != nil, again)
		}
		if next() != nil {
			t.Error("two batches are out")
		}
	}
}

// What was gathered is one entry after Hurry, or two where the proposer came by;
// also where one batch follows the other at once, so that each Hurry finishes what
// the last left behind.
func TestGatheredOperationsShareAnEntry(t *testing.T) {
	for _, c := range []Config{{Durability: MemoryOnly}, {Durability: EveryWrite, Dir: t.TempDir()}} {
		t.Run(string(c.Durability), func(t *testing.T) {
			s, l := start(t, c, parts{})
			form(t, s)
			must(t, s, "first")
			const rounds, each = 50, 16
			before := s.fsm.applied.Load()
			want := append([]string{"first"}, numbered("op", rounds*each)...)
			for round := range rounds {
				var answered sync.WaitGroup
				answered.Add(each)
				for i := range each {
					s.Gather([]byte(want[1+round*each+i]), func(_ wire.Outcome, err error) {
						if err != nil {
							t.Error(err)
						}
						answered.Done()
					})
				}
				s.Hurry()
				answered.Wait()
			}
			if n := s.fsm.applied.Load() - before; n < rounds || n > 2*rounds {
				t.Errorf("%d rounds made %d entries", rounds, n)
			}
			if got := l.list(); !slices.Equal(got, want) {
				t.Errorf("applied %d operations of %d, or in another order", len(got), len(want))
			}
			s.Hurry() // nothing waits
			eventually(t, "the last batch is done with", s.queue.idle)
		})
	}
}

// A batch is answered within one bracket, and every bracket ends.
func TestABatchIsAnsweredInABracket(t *testing.T) {
	s, _ := start(t, Config{Durability: EveryWrite, Dir: t.TempDir()}, parts{})
	form(t, s)
	var open, brackets atomic.Int64
	s.Bracket(func() { open.Add(1); brackets.Add(1) }, func() { open.Add(-1) })
	const ops = 16
	var answered sync.WaitGroup
	answered.Add(ops)
	for range ops {
		s.Gather([]byte("op"), func(_ wire.Outcome, err error) {
			if err != nil || open.Load() != 1 {
				t.Errorf("answered with %v, in %d brackets", err, open.Load())
			}
			answered.Done()
		})
	}
	s.Hurry()
	answered.Wait()
	eventually(t, "the bracket ends", func() bool { return open.Load() == 0 })
	// One entry, or two where the proposer came by; on a busy machine it may come by again.
	if n := brackets.Load(); n < 1 || n > ops/2 {
		t.Errorf("%d brackets for what is hardly more than one entry", n)
	}
}

// Many who gather and hurry, and some who propose: everything is answered, in the
// order of each one's calls, and a batch that outgrows an entry waits for nobody.
func TestGatherBesidePropose(t *testing.T) {
	s, l := start(t, Config{Durability: MemoryOnly}, parts{})
	form(t, s)
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for round := range 100 {
				each := 1 + (caller*31+round*7)%20
				var answered sync.WaitGroup
				answered.Add(each)
				done := func(_ wire.Outcome, err error) {
					if err != nil {
						t.Error(err)
					}
					answered.Done()
				}
				for i := range each {
					op := fmt.Appendf(nil, "%d %03d %02d", caller, round, i)
					if caller%4 == 0 {
						s.Propose(op, done)
					} else {
						s.Gather(op, done)
					}
				}
				if caller%4 != 0 {
					s.Hurry()
				}
				answered.Wait()
			}
		})
	}
	callers.Wait()
	var of [8][]string
	for _, op := range l.list() {
		of[op[0]-'0'] = append(of[op[0]-'0'], op)
	}
	for caller, ops := range of {
		if !slices.IsSorted(ops) {
			t.Errorf("the operations of caller %d were applied in another order", caller)
		}
	}

	whole := make(chan error, maxBatchOps)
	for range maxBatchOps + 1 { // the last one begins another batch and waits for Hurry
		s.Gather([]byte("x"), func(_ wire.Outcome, err error) { whole <- err })
	}
	for range maxBatchOps {
		if err := <-whole; err != nil {
			t.Error(err)
		}
	}
	s.Hurry()
	if err := <-whole; err != nil {
		t.Error(err)
	}
}

// A server that keeps nothing and is alone has no use for a log: who hurries applies what was
// gathered, and log and snapshots have no part in it. Status goes on counting.
func TestAloneInMemoryNothingIsLogged(t *testing.T) {
	s, l := start(t, Config{Durability: MemoryOnly}, parts{})
	form(t, s)
	logged := s.raft.LastIndex()
	const rounds, each = 100, 3
	atOnce := 0
	for round := range rounds {
		var answered sync.WaitGroup
		var here atomic.Int32
		answered.Add(each)
		for range each {
			s.Gather(fmt.Appendf(nil, "%d", round), func(_ wire.Outcome, err error) {
				if err != nil {
					t.Error(err)
				}
				here.Add(1)
				answered.Done()
			})
		}
		s.Hurry()
		if here.Load() == each {
			atOnce++
		}
		answered.Wait()
	}
	// The proposer may come by first, but nobody has woken it.
	if atOnce < rounds/2 {
		t.Errorf("%d of %d calls of Hurry have applied what was gathered", atOnce, rounds)
	}
	if n := len(l.list()); n != rounds*each {
		t.Errorf("%d operations were applied, not %d", n, rounds*each)
	}
	if last := s.raft.LastIndex(); last != logged {
		t.Errorf("the log has grown from entry %d to %d", logged, last)
	}
	if st := s.Status(); st.Applied < rounds || st.LogIndex < st.Applied {
		t.Errorf("status tells %d entries applied of %d, after %d batches", st.Applied, st.LogIndex, rounds)
	}
	v, at, err := s.fsm.viewNow()
	if err != nil {
		t.Fatal(err)
	}
	v.Release()
	if at.index < rounds || at.term != s.term.Load() || at.time == 0 {
		t.Errorf("a backup would say %+v", at)
	}
}

// While one who hurries applies, another one leaves what it has gathered to the
// proposer, which is told when it is its turn, and also when there is nothing more to do.
func TestAloneInMemoryWhoComesSecondIsServed(t *testing.T) {
	s, l := start(t, Config{Durability: MemoryOnly}, parts{})
	form(t, s)
	hold := func(op string) (release chan struct{}) {
		entered, release := make(chan struct{}), make(chan struct{})
		s.Gather([]byte(op), func(wire.Outcome, error) { close(entered); <-release })
		go s.Hurry()
		<-entered
		return release
	}
	first := hold("one")
	second := make(chan error, 1)
	s.Gather([]byte("two"), func(_ wire.Outcome, err error) { second <- err })
	s.Hurry()
	select {
	case <-second:
		t.Error("two batches were out at once")
	default:
	}
	close(first)
	select {
	case err := <-second:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody has applied what was gathered meanwhile")
	}
	third := hold("three")
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	eventually(t, "the queue is closed", func() bool {
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		return s.queue.closed
	})
	close(third)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if got := l.list(); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("applied %q", got)
	}
}

// What a server alone in memory cannot apply ends its service, as a damaged log does.
func TestAloneInMemoryAnUnknownOperationEndsService(t *testing.T) {
	s, l := start(t, Config{Durability: MemoryOnly}, parts{})
	form(t, s)
	must(t, s, "one")
	for range 2 {
		if _, err := do(s, "later"); !wire.Is(err, wire.ErrUnsure) {
			t.Errorf("answered with %v", err)
		}
	}
	if _, err := do(s, "two"); err == nil {
		t.Error("a change was made after one that was not understood")
	}
	if got := l.list(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("applied %q", got)
	}
	if st := s.Status(); !st.Later {
		t.Errorf("status: %+v", st)
	}
}

// Closing answers what was gathered and what is under way, Hurry or not.
func TestCloseAnswersWhatWasGathered(t *testing.T) {
	for _, hurry := range []bool{false, true} {
		s, _ := start(t, Config{Durability: MemoryOnly}, parts{})
		form(t, s)
		answered := make(chan error, 2)
		for range 2 {
			s.Gather([]byte("x"), func(_ wire.Outcome, err error) { answered <- err })
			if hurry {
				s.Hurry()
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-answered; err != nil && !wire.Is(err, wire.ErrStopping) && !wire.Is(err, wire.ErrUnsure) {
				t.Error(err)
			}
		}
	}
}
