package store

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestRepeatReturnsTheFirstOutcome(t *testing.T) {
	r := newRig(t, 1<<20)
	w := r.write(nodeA, "s", wire.Token{})
	create := func() wire.Outcome { return r.apply(AppendCreate(nil, &wire.Create{Write: w, Set: attrs("a", "1")})) }
	first := r.ok(create())
	r.refused(wire.ErrSessionExists, r.create(nodeB, "s", "", 0, 0))
	refusedSeq := r.seq[nodeB]
	if again := create(); !reflect.DeepEqual(first, again) {
		t.Fatalf("first %+v, then %+v", first, again)
	}
	r.ok(r.invalidate(nodeA, "s", "logout"))
	if again := create(); !reflect.DeepEqual(first, again) {
		t.Fatalf("first %+v, after the logout %+v", first, again)
	}
	// A refusal is remembered too, although it would be another one now.
	wB := wire.Write{Dataset: shop, Key: []byte("s"), Node: nodeB, Seq: refusedSeq, Low: 1}
	r.refused(wire.ErrSessionExists, r.apply(AppendCreate(nil, &wire.Create{Write: wB})))
	// Until it is acknowledged.
	wB.Seq, wB.Low = refusedSeq+1, refusedSeq+1
	r.refused(wire.ErrSessionGone, r.apply(AppendCreate(nil, &wire.Create{Write: wB})))
	wB.Seq, wB.Low = refusedSeq, 1
	r.refused(wire.ErrStale, r.apply(AppendCreate(nil, &wire.Create{Write: wB})))
}

func TestUnknownNodeIsRefused(t *testing.T) {
	r := newRig(t, 1<<20)
	stranger := wire.NodeID{0: 9}
	r.refused(wire.ErrNodeGone, r.create(stranger, "s", "", 0, 0))
	r.refused(wire.ErrNodeGone, r.apply(AppendJoin(nil, &wire.Join{Node: stranger, Generation: 2, Low: 1})))
	r.ok(r.apply(AppendJoin(nil, &wire.Join{Node: stranger, Generation: 1, Low: 1})))
	r.ok(r.apply(AppendJoin(nil, &wire.Join{Node: stranger, Generation: 5, Low: 3, Label: []byte("new label")})))
	r.refused(wire.ErrStale, r.apply(AppendJoin(nil, &wire.Join{Node: stranger, Generation: 4, Low: 3})))
	want := Node{ID: stranger, Label: "new label", Joined: r.now, Generation: 5}
	if list := r.Nodes(); len(list) != 3 || list[2] != want {
		t.Fatalf("nodes %+v", list)
	}
	r.refused(wire.ErrStale, r.create(stranger, "s", "", 0, 0)) // number 2, below the low of the join
	r.ok(r.create(stranger, "s", "", 0, 0))
	r.ok(r.apply(AppendLeave(nil, stranger)))
	r.ok(r.apply(AppendLeave(nil, stranger)))
	r.refused(wire.ErrNodeGone, r.invalidate(stranger, "s", "logout"))
	r.shows("s", "")
}

func TestNodeThatNeverAcknowledgesIsHeldUp(t *testing.T) {
	r := newRig(t, 1<<20)
	w := wire.Write{Dataset: shop, Key: []byte("s"), Node: nodeA, Low: 1}
	var op []byte
	commit := func(seq, low uint64) wire.Outcome {
		w.Seq, w.Low = seq, low
		op = AppendCommit(op[:0], &wire.Commit{Write: w, Idle: wire.KeepIdle})
		return r.Apply(r.now, op)
	}
	first := commit(1, 1)
	r.refused(wire.ErrSessionUnknown, first)
	last := 1 + (maxNodeOutcomes-costOf(&first)-outcomeCost-maxRefusal)/costOf(&first) + 1
	for seq := 2; seq <= last; seq++ {
		r.refused(wire.ErrSessionUnknown, commit(uint64(seq), 1))
	}
	next := uint64(last + 1)
	r.refused(wire.ErrBusy, commit(next, 1))
	r.refused(wire.ErrSessionUnknown, commit(7, 1)) // remembered
	r.ok(r.create(nodeB, "s", "", 0, 0))            // others are served
	r.refused(wire.ErrSessionUnknown, commit(uint64(last), 1))
	r.ok(commit(next, 10))     // BUSY was not remembered
	r.ok(commit(1<<60, 1<<60)) // a leap costs no more than what is there
	st := r.st.Load()
	if n := st.nodes[nodeA]; len(n.outcomes) != 1 || n.bytes != outcomeCost || n.most != 1 {
		t.Fatalf("%d outcomes and %d bytes are kept in a map of %d", len(n.outcomes), n.bytes, n.most)
	}
	r.mustAddUp()
	r.ok(r.apply(AppendLeave(nil, nodeA)))
	r.mustAddUp()
}

// mustAddUp checks that what all nodes are remembered for together is the sum of each.
func (r *rig) mustAddUp() {
	r.Helper()
	st, sum := r.st.Load(), 0
	for _, n := range st.nodes {
		one := 0
		for _, out := range n.outcomes {
			one += costOf(&out)
		}
		if one != n.bytes {
			r.Fatalf("the outcomes of %s count %d bytes, not %d", n.ID, one, n.bytes)
		}
		sum += one
	}
	if sum != r.OutcomeBytes() {
		r.Fatalf("all outcomes count %d bytes, not %d", sum, r.OutcomeBytes())
	}
}

// Nodes that never acknowledge fill what all may have together, by the names of
// attributes that were dropped. The others go on, no commit is made twice, and what
// came of it can be restored.
func TestOutcomesOfAllNodesAreBounded(t *testing.T) {
	r := newRig(t, 64<<20)
	var kv []string
	for i := range 4000 {
		kv = append(kv, fmt.Sprintf("%01000d", i), "")
	}
	// Removals leave a floor, which drops what has read nothing, whatever its name.
	r.ok(r.create(nodeB, "s", "", 0, 0))
	var gone []string
	for i := range maxStubs + 1 {
		gone = append(gone, fmt.Sprint(i))
	}
	r.ok(r.remove(nodeB, "s", r.ticket("s"), gone...))
	blind := func(n wire.NodeID, seq, low uint64) wire.Outcome {
		w := wire.Write{Dataset: shop, Key: []byte("s"), Node: n, Seq: seq, Low: low}
		return r.Apply(r.now, AppendCommit(nil, &wire.Commit{Write: w, Idle: wire.KeepIdle, Set: attrs(kv...)}))
	}
	greedy := func(i int) wire.NodeID { return wire.NodeID{0: 3, 1: byte(i)} }
	for i := range 16 {
		r.ok(r.apply(AppendJoin(nil, &wire.Join{Node: greedy(i), Generation: 1, Low: 1})))
		for seq := uint64(1); ; seq++ {
			if out := blind(greedy(i), seq, 1); out.Err != nil {
				r.refused(wire.ErrBusy, out)
				break
			} else if len(out.Dropped) != 4000 {
				t.Fatalf("%d were dropped", len(out.Dropped))
			}
		}
		if n := r.st.Load().nodes[greedy(i)]; n.bytes > maxNodeOutcomes {
			t.Fatalf("a node has %d bytes of outcomes", n.bytes)
		}
	}
	st := r.st.Load()
	if st.remembered.Load() > maxOutcomes || st.remembered.Load() < maxOutcomes-maxNodeOutcomes/2 {
		t.Fatalf("all have %d bytes of outcomes", st.remembered.Load())
	}
	r.ok(r.create(nodeB, "tiny", "", 0, 0))
	empty := func(s *Store, n wire.NodeID, seq, low uint64) wire.Outcome {
		w := wire.Write{Dataset: shop, Key: []byte("tiny"), Node: n, Seq: seq, Low: low}
		return s.Apply(r.now, AppendCommit(nil, &wire.Commit{Write: w, Idle: wire.KeepIdle}))
	}
	for i := 0; int(st.remembered.Load())+outcomeCost+maxRefusal <= maxOutcomes; i++ { // the last places
		for seq := uint64(1000); ; seq++ {
			if out := empty(r.Store, greedy(i), seq, 1); out.Err != nil {
				r.refused(wire.ErrBusy, out)
				break
			}
		}
	}
	first := r.ok(empty(r.Store, nodeA, 1, 1)) // one that has acknowledged goes on
	sure := uint64(2)
	for ; ; sure++ {
		if out := empty(r.Store, nodeA, sure, 1); out.Err != nil {
			r.refused(wire.ErrBusy, out)
			break
		}
	}
	if sure < 10 || st.nodes[nodeA].bytes > sureOutcomes {
		t.Fatalf("commit %d is refused, at %d bytes", sure, st.nodes[nodeA].bytes)
	}
	r.refused(wire.ErrBusy, blind(nodeB, 1000, 1)) // too much to tell: nothing is changed, nor remembered
	r.mustAddUp()

	// A snapshot of it is one that can be restored, and goes on alike.
	other := &rig{TB: t, Store: newStore(t)}
	if err := other.Restore(bytes.NewReader(r.snapshot())); err != nil {
		t.Fatal(err)
	}
	other.mustAddUp()
	for _, s := range []*rig{r, other} {
		if again := empty(s.Store, nodeA, 1, 1); !reflect.DeepEqual(again, first) {
			t.Fatalf("the repeat answers %+v, not %+v", again, first)
		}
		s.refused(wire.ErrBusy, empty(s.Store, nodeA, sure, 1))
		s.ok(empty(s.Store, nodeA, sure, sure))
		for i := range 16 { // they leave, and there is room
			s.ok(s.Apply(r.now, AppendLeave(nil, greedy(i))))
		}
		s.mustAddUp()
	}
	if out := r.ok(blind(nodeB, 1000, 1)); len(out.Dropped) != 4000 {
		t.Fatalf("%d were dropped", len(out.Dropped))
	}
}
