package stripe

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/terracotta-go/terracotta/internal/wire"
)

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
