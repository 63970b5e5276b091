package stripe

import (
	"math"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Law: a token covers no more of a history than what the one who gave it had of that
// history, and all of it where the histories are one.
func TestWhatTokensCover(t *testing.T) {
	var (
		one = Incarnation{Number: 1, Owner: "a", Applied: 2}
		// A split at 100: a removed its passive, and 10 entries went by before it could say so.
		a2 = Incarnation{Number: 2, Owner: "a", WasActive: true, Version: 95, Applied: 110}
		b2 = Incarnation{Number: 2, Owner: "b", Forced: true, Version: 100, Applied: 100}
		// The side of a was kept; the next time, b's new server went on alone.
		c3 = Incarnation{Number: 3, Owner: "c", Forced: true, Version: 200, Applied: 200}
		// b went on with another partner, and lost that.
		b3 = Incarnation{Number: 3, Owner: "b", WasActive: true, Version: 140, Applied: 150}
		// b was promoted while a had gone on alone.
		p3 = Incarnation{Number: 3, Owner: "b", Forced: true, Version: 99, Applied: 99}
		// Of an older version of this software.
		x2 = Incarnation{Number: 2, Owner: "a", WasActive: true, Version: 95}
	)
	long := history{}
	for i := range uint64(maxHistory + 10) {
		long = long.with(Incarnation{Number: i + 1, Owner: "a", Version: 10 * i, Applied: 10*i + 5})
	}
	for _, c := range []struct {
		what        string
		ours, given history
		index, want uint64
	}{
		{"no pair", nil, nil, 1000, 1000},
		{"of a pair, and this is none", nil, history{one}, 50, 0},
		{"of the tip", history{one}, history{one}, 1000, 1000},
		{"of the tip of several", history{one, a2}, history{one, a2}, 1000, 1000},
		{"before it was a pair", history{one, a2}, nil, 2, 2},
		{"before it was a pair, and behind its beginning", history{one, a2}, nil, 50, 2},
		{"before the passive was lost", history{one, a2}, history{one}, 90, 90},
		{"before this server could say that it goes on alone", history{one, a2}, history{one}, 110, 110},
		{"of the other side before it could say so", history{one, b2}, history{one}, 105, 100},
		{"of the other side, not changed since the split", history{one, a2}, history{one, b2}, 60, 60},
		{"of the other side", history{one, a2}, history{one, b2}, 120, 95},
		{"of the other side, the other way round", history{one, b2}, history{one, a2}, 120, 100},
		{"of a side that was given up long ago", history{one, a2, c3}, history{one, b2}, 190, 95},
		{"of two that are over", history{one, a2, c3}, history{one}, 110, 110},
		{"of one that is over", history{one, a2, c3}, history{one, a2}, 199, 199},
		{"of one that is over, on another branch", history{one, a2, c3}, history{one, a2}, 201, 200},
		{"of a third branch", history{one, a2, c3}, history{one, a2, b3}, 250, 200},
		{"of another branch's second step", history{one, a2, c3}, history{one, b2, b3}, 150, 0},
		{"of one that was promoted", history{one, a2}, history{one, p3}, 150, 95},
		{"of one that was left by a promotion", history{one, p3}, history{one, a2}, 150, 99},
		{"of the other side, before ours has begun", history{one}, history{one, b2}, 90, 0},
		{"of an older version's step", history{one, x2}, history{one}, 110, 95},
		{"of another stripe", history{one, a2}, history{{Number: 1, Owner: "z"}}, 50, 0},
		{"of an old one", long, long[:40], 10 * 45, 10 * 45},
		{"of the oldest that is known", long, long[:1], 100, 100},
		{"of one that is forgotten", long, history{{Number: 1, Owner: "a"}}, 3, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			token := wire.Token{Incarnation: c.given.branch(), Term: 7, Counter: 9, Index: c.index}
			if got := c.ours.covers(token); got != c.want {
				t.Errorf("%d, not %d", got, c.want)
			}
		})
	}
	if a, b := (history{one, a2}).branch(), (history{one, b2}).branch(); a == b || a == 0 || a == (history{one}).branch() {
		t.Errorf("the branches of both sides are %d and %d", a, b)
	}
	made := history{one, a2}
	if got := made.covers(wire.Token{Incarnation: 2, Index: math.MaxUint64}); got != 0 {
		t.Errorf("what nobody gave covers %d", got)
	}
}

// apply gives f an entry of so many operations.
func (r *forkRig) apply(ops ...string) {
	r.t.Helper()
	env := make([]byte, envelopeSize)
	for _, op := range ops {
		env = appendOp(env, []byte(op))
	}
	r.now += 1000
	seal(env, r.now, len(ops))
	r.index++
	if err, bad := r.f.Apply(&raft.Log{Index: r.index, Term: 1, Data: env}).(error); bad {
		r.t.Fatal(err)
	}
}

type forkRig struct {
	t     *testing.T
	f     *fsm
	index uint64
	now   store.Time
}

func (r *forkRig) voters(names ...string) {
	var c raft.Configuration
	for _, n := range names {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(n), Address: raft.ServerAddress(n)})
	}
	r.index++
	r.f.StoreConfiguration(r.index, c)
}

func (r *forkRig) begin(i Incarnation) Incarnation {
	r.t.Helper()
	r.index++
	if err, bad := r.f.Apply(&raft.Log{Index: r.index, Term: 1, Data: incarnationEntry(i)}).(error); bad {
		r.t.Fatal(err)
	}
	return r.f.history().tip()
}

// Where an incarnation forks is never told behind what the other server certainly
// has: the log knows better than a server that said so late.
func TestWhereAnIncarnationForks(t *testing.T) {
	start := func(t *testing.T) *forkRig {
		r := &forkRig{t: t, f: &fsm{m: &ledger{}, newest: 1}}
		r.voters("a", "b")
		r.begin(Incarnation{Number: 1, Owner: "a"})
		r.apply("1", "2")
		return r
	}
	t.Run("told in time", func(t *testing.T) {
		r := start(t)
		next := Incarnation{Number: 2, Owner: "a", Version: r.f.m.Index(), Time: r.f.m.Now(), Fork: r.index + 1}
		r.apply("in flight")
		r.voters("a")
		r.apply("alone")
		if got := r.begin(next); got.Version != 2 || got.Time != next.Time || got.Applied != 4 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("told in time, with nothing in flight", func(t *testing.T) {
		r := start(t)
		next := Incarnation{Number: 2, Owner: "a", Version: r.f.m.Index(), Time: r.f.m.Now(), Fork: r.index}
		r.voters("a")
		if got := r.begin(next); got.Version != 2 || got.Time != next.Time || got.Applied != 2 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("told after a restart, or on the word of an operator", func(t *testing.T) {
		r := start(t)
		before := r.f.m.Now()
		r.apply("in flight", "in flight too")
		r.voters("a")
		r.apply("alone")
		r.voters("a") // it has moved
		r.apply("alone too")
		late := Incarnation{Number: 2, Owner: "a", Version: r.f.m.Index(), Time: r.f.m.Now(), Fork: r.index}
		if got := r.begin(late); got.Version != 2 || got.Time != before || got.Applied != 6 {
			t.Errorf("%+v", got)
		}
		r.voters("a", "b")
		r.apply("together")
		r.apply("together too")
		r.voters("a")
		if got := r.begin(Incarnation{Number: 3, Owner: "a", Version: 8, Time: r.now, Fork: r.index}); got.Version != 7 || got.Applied != 8 {
			t.Errorf("the next one: %+v", got)
		}
		r.apply("more")
		if got := r.begin(Incarnation{Number: 4, Owner: "a", Version: 9, Time: r.now, Fork: r.index}); got.Version != 9 {
			t.Errorf("nobody was removed, and it forks earlier than it says: %+v", got)
		}
	})
	t.Run("without a majority", func(t *testing.T) {
		r := start(t)
		r.apply("that the other one had sent")
		r.voters("b")
		if got := r.begin(Incarnation{Number: 2, Owner: "b", Forced: true}); got.Version != 3 || got.Applied != 3 || got.Time != r.now {
			t.Errorf("%+v", got)
		}
	})
}
