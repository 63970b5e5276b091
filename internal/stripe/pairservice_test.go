package stripe

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// split cuts the network of a pair until both servers serve, and have done so for as
// long as what they acknowledge is not counted. It returns the one that was active first.
func (r *pairRig) split() (a, b int) {
	r.t.Helper()
	a, b = r.divides(func(a, b int) bool {
		r.isolate(a, true)
		r.until("the active is alone, or waits", func() bool { return r.servers[a].Status().Alone || r.waits(a) })
		r.until("the passive goes on, or knows that it slept", func() bool { return r.leads(b) || r.waits(b) })
		return r.leads(a) && r.leads(b)
	}, func(a, _ int) { r.isolate(a, false) })
	for _, s := range r.servers {
		r.until("what is acknowledged counts", func() bool { return int64(s.pair.clock()) >= s.pair.served.from.Load() })
	}
	return a, b
}

// has waits until a server has written down what it served.
func (r *pairRig) has(i int, want service) {
	r.t.Helper()
	p := r.servers[i].pair
	r.until(fmt.Sprint("service ", want, " is noted"), func() bool { return p.note().Service == want })
}

// Both servers went on by themselves. Who served clients keeps its data, and of two that
// did who served more; else the one that was active. What the other one acknowledged is listed.
func TestPairSplitBrainIsWonByWhoServed(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name        string
		active      int // changes that clients of the one that was active made
		passive     int
		passiveWins bool
	}{
		{"none served", 0, 0, false},
		{"the active was cut off from all clients", 0, 1, true},
		{"the passive was cut off from all clients", 1, 0, false},
		{"both served alike", 2, 3, false},
		{"the passive served more", 2, 8, true},
		{"the active served more", 8, 2, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r, _, _ := newPair(t, EverySecond)
			a, b := r.split()
			if !r.servers[a].Status().SplitBrainPossible || !r.servers[b].Status().SplitBrainPossible {
				t.Error("a server does not say that a split brain is possible")
			}
			for _, s := range r.servers { // what servers do by themselves is no service
				for k := range 20 {
					must(t, s, fmt.Sprintf("own %d of %s", k, s.cfg.Self))
				}
			}
			changes := func(prefix string, n int) []string { return numbered(prefix, n) }
			for _, op := range changes("active", row.active) {
				must(t, r.servers[a], op)
			}
			for _, op := range changes("passive", row.passive) {
				must(t, r.servers[b], op)
			}
			r.has(a, serviceOf(uint64(row.active)))
			r.has(b, serviceOf(uint64(row.passive)))
			winner, loser, kept, lost := a, b, changes("active", row.active), changes("passive", row.passive)
			if row.passiveWins {
				winner, loser, kept, lost = b, a, lost, kept
			}
			r.isolate(a, false)
			r.until("the loser starts anew", func() bool { return len(r.lost[loser]) >= 20 })
			r.synced()
			if len(r.lost[winner]) > 0 || !r.leads(winner) {
				t.Error("the winner had to give way")
			}
			r.do("two")
			var listed []string
			for _, l := range r.lost[loser] {
				if !strings.HasPrefix(l.Key, "own ") && l.Key != "one" { // the last that both had may be in the list, too
					listed = append(listed, l.Key)
				}
			}
			if !slices.Equal(listed, lost) {
				t.Errorf("listed are %v, want %v", listed, lost)
			}
			r.equal(r.ops(winner)...)
			var there []string
			for _, op := range r.once(r.ops(loser)) {
				if !strings.HasPrefix(op, "own ") {
					there = append(there, op)
				}
			}
			if want := slices.Concat([]string{"one"}, kept, []string{"two"}); !slices.Equal(there, want) {
				t.Errorf("there are %v, want %v", there, want)
			}
		})
	}
}

// without ends the passive one, until the active one is alone, and returns that one first.
func (r *pairRig) without() (active, other int) {
	r.t.Helper()
	return r.tries(func(a, b int) bool {
		r.down(b)
		r.until("it is alone, or waits", func() bool { return r.leads(a) && r.servers[a].Status().Alone || r.waits(a) })
		return !r.waits(a)
	}, func(_, b int) { r.start(b) })
}

// A restart forgets no service that the partner may have been told of, and it is not
// that of the next incarnation.
func TestPairServiceOutlivesARestart(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, EverySecond)
	a, b := r.without()
	p := r.servers[a].pair
	r.until("it counts", func() bool { return int64(p.clock()) >= p.served.from.Load() })
	for _, op := range numbered("x", 5) {
		must(t, r.servers[a], op)
	}
	r.has(a, serviceOf(5))
	r.down(a)
	r.start(a)
	if had := r.servers[a].pair.note().Service; had != serviceOf(5) {
		t.Errorf("it tells of %d, and had told of %d", had, serviceOf(5))
	}
	r.until("it is active", func() bool { return r.leads(a) })
	r.start(b)
	r.synced()
	last := r.servers[a].pair.note().History.tip().Number
	a, _ = r.without()
	r.until("a new incarnation begins", func() bool {
		n := r.servers[a].pair.note()
		if n.History.tip().Number > last && n.Service != noService {
			t.Fatalf("a new incarnation begins with service %d", n.Service)
		}
		return n.History.tip().Number > last
	})
}

func TestServiceIsAnOrderOfMagnitude(t *testing.T) {
	for n, want := range map[uint64]service{0: 1, 1: 2, 2: 3, 3: 3, 4: 4, 7: 4, 8: 5, 1 << 40: 42} {
		if got := serviceOf(n); got != want || serviceOf(got.atLeast()) != got || got.atLeast() > n {
			t.Errorf("%d entries are %d, at least %d; want %d", n, got, got.atLeast(), want)
		}
	}
	if service(0).told() || !noService.told() || service(0).atLeast() != 0 {
		t.Error("what an older version does not tell is taken for something")
	}
}

// Law: each of two servers compares what it has served by now with what it last heard of
// the other, which may be as old as it likes, and gives way for good where that is more.
// Never do both, and never does neither once each knows what the other has.
func TestNeverDoBothGiveWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tips := [2]Incarnation{{Number: 2, Owner: "a", WasActive: rapid.Bool().Draw(t, "active")}, {Number: 2, Owner: "b", WasActive: rapid.Bool().Draw(t, "active")}}
		if rapid.IntRange(0, 3).Draw(t, "promoted") == 0 {
			tips[1].Number++
		}
		has, heard, gone := [2]service{noService, noService}, [2]service{}, [2]bool{}
		told := [2][]service{{noService}, {noService}}
		judge := func(i int) {
			if !gone[i] && heard[i] > 0 {
				gone[i] = !tips[i].beats(tips[1-i], has[i], heard[i])
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			i := rapid.IntRange(0, 1).Draw(t, "server")
			switch {
			case rapid.Bool().Draw(t, "hears"):
				heard[i] = rapid.SampledFrom(told[1-i]).Draw(t, "of")
				judge(i)
			case !gone[i]:
				has[i] += service(rapid.IntRange(0, 2).Draw(t, "more"))
				told[i] = append(told[i], has[i])
			}
			if gone[0] && gone[1] {
				t.Fatalf("both give way: %v", has)
			}
		}
		for i := range has {
			heard[i] = has[1-i]
			judge(i)
		}
		if gone[0] == gone[1] {
			t.Fatalf("gone: %v, with %v", gone, has)
		}
	})
}

// A partner of a version that does not tell what it served is judged as it judges itself.
func TestServiceCountsOnlyWhereBothTell(t *testing.T) {
	a, b := Incarnation{Number: 2, Owner: "a", WasActive: true}, Incarnation{Number: 2, Owner: "b"}
	if !a.beats(b, 1, 0) || !a.beats(b, 9, 0) || b.beats(a, 9, 0) || b.beats(a, 0, 0) {
		t.Error("another rule than that of the older version")
	}
	if a.beats(b, 1, 2) || !b.beats(a, 2, 1) || !a.beats(b, 2, 2) || b.beats(a, 2, 2) {
		t.Error("who served more is not kept")
	}
	if o := (Incarnation{Number: 3, Owner: "b"}); a.beats(o, 9, 1) || !o.beats(a, 1, 9) {
		t.Error("a higher number counts first: an operator may have promoted it")
	}
}
