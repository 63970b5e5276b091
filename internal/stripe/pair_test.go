package stripe

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestPairGoesOnWithoutItsPassive(t *testing.T) {
	t.Parallel()
	for _, d := range []Durability{EveryWrite, MemoryOnly} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			r, _, _ := newPair(t, d)
			a, b := r.tries(func(a, b int) bool {
				begin := time.Now()
				ended := make(chan struct{})
				go func() { defer close(ended); r.kill(b) }()
				for len(r.running()) > 1 { // its links are gone first
					time.Sleep(time.Millisecond)
				}
				on := r.goesOn(a, "two")
				t.Log("next write after", time.Since(begin))
				<-ended
				return on
			}, func(_, b int) { r.start(b) })
			r.until("a new incarnation", func() bool { n, _ := r.servers[a].Reign(); return n >= 2 })
			r.start(b)
			r.synced()
			r.do("three")
			r.equal("one", "two", "three")
		})
	}
}

func TestPairGoesOnWithoutItsActive(t *testing.T) {
	t.Parallel()
	for _, d := range []Durability{EveryWrite, MemoryOnly} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			r, _, _ := newPair(t, d)
			a, _ := r.tries(func(a, b int) bool {
				begin := time.Now()
				r.down(a)
				on := r.goesOn(b, "two")
				t.Log("next write after", time.Since(begin))
				return on
			}, func(a, _ int) { r.start(a) })
			r.start(a)
			r.synced()
			r.do("three")
			r.equal("one", "two", "three")
		})
	}
}

// suspended waits until a server is, and looks on for a while whether it stays so.
func (r *pairRig) suspended(i int, state string) {
	r.t.Helper()
	r.until("it is suspended", func() bool { return r.servers[i].Status().State == state })
	for end := time.Now().Add(5 * rigAlone / 4); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if r.leads(i) || r.servers[i].Confirm(r.t.Context()) == nil {
			r.t.Fatal("it serves")
		}
	}
	if _, err := do(r.servers[i], "no"); err == nil {
		r.t.Fatal("it took a change")
	}
	if r.servers[i].Status().Waiting == "" {
		r.t.Error("it does not say why")
	}
}

// The passive dies, the active goes on alone and dies, the old passive is started:
// it must not serve its old data by itself.
func TestPairOldPassiveWaitsForItsPartnerOrForPromote(t *testing.T) {
	t.Parallel()
	r, _, _ := newPair(t, EverySecond)
	a, b := r.loses("two")
	r.down(a)
	r.start(b)
	r.suspended(b, wire.StateStartSuspended)
	// Its partner comes: it follows.
	r.start(a)
	r.until("the one with the data is active", func() bool { return r.leads(a) })
	r.synced()
	if err := r.servers[b].Promote(t.Context()); !wire.Is(err, wire.ErrBadRequest) {
		t.Error("a passive was promoted:", err)
	}
	// Once more, and an operator decides.
	var three string // of a try that did not count both may have kept it
	a, b = r.tries(func(a, b int) bool { three += "three"; r.down(b); return r.goesOn(a, three) }, func(_, b int) { r.start(b) })
	r.promotes(a, b)
	must(t, r.servers[b], "four")
	kept := r.once(r.ops(b))
	if len(kept) < 3 || !slices.Equal(kept[:2], []string{"one", "two"}) || slices.Contains(kept, three) {
		t.Errorf("the promoted one has %q", kept)
	}
	if !r.servers[b].Status().SplitBrainPossible {
		t.Error("it does not say that a split brain is possible")
	}
	r.start(a)
	r.synced()
	if !r.leads(b) {
		t.Error("the promoted one has to give way")
	}
	lost := r.lost[a]
	if len(lost) == 0 || len(lost) > 1 && !r.repeated[three] || slices.ContainsFunc(lost, func(l LostChange) bool { return l.Key != three }) {
		t.Errorf("what was lost is listed as %v", lost)
	}
	r.equal(kept...)
	if l := r.servers[a].Status().Lost; l == nil || l.Changes != len(lost) {
		t.Errorf("status tells of %+v", l)
	}
}

// A server whose disk hangs falls silent, and the other one goes on: else neither would take a change. It loses
// nothing, and once its disk answers it is the passive one.
func TestPairServerWhoseDiskHangs(t *testing.T) {
	t.Parallel()
	for _, active := range []bool{true, false} {
		t.Run(map[bool]string{true: "active", false: "passive"}[active], func(t *testing.T) {
			t.Parallel()
			r, _, _ := newPair(t, EveryWrite)
			disk := new(hangingDisk)
			t.Cleanup(disk.answer)
			usual := r.parts
			r.down(0)
			r.parts.files, r.parts.stall = disk.files(), 50*time.Millisecond
			r.start(0)
			r.parts = usual
			r.synced()
			for r.leads(0) != active {
				a, _ := r.actives()
				r.handsOver(a)
				r.synced()
			}
			disk.hang()
			first := make(chan struct{})
			a, _ := r.actives()
			s := r.servers[a]
			go func() { // what becomes of it nobody knows
				defer close(first)
				do(s, "two")
			}()
			r.until("its disk hangs", func() bool { return r.servers[0].Status().DiskError != "" })
			r.until("the other one is alone", func() bool { return r.leads(1) && r.servers[1].pair.soleVoter() })
			<-first
			r.repeated = map[string]bool{"two": true}
			r.do("two")
			if r.leads(0) || r.servers[0].Confirm(t.Context()) == nil {
				t.Error("it serves")
			}
			disk.answer()
			r.synced()
			r.do("three")
			r.equal("one", "two", "three")
			if len(r.lost[0])+len(r.lost[1]) > 0 {
				t.Errorf("set aside was %v", r.lost)
			}
		})
	}
}

// An active one that sleeps and wakes serves nothing.
func TestPairActiveThatSlept(t *testing.T) {
	t.Parallel()
	r, _, _ := newPair(t, EverySecond)
	a, b := r.tries(func(a, b int) bool {
		r.sleep(a)
		r.until("the passive goes on, or knows that it slept itself", func() bool { return r.leads(b) || r.waits(b) })
		return r.leads(b)
	}, func(a, _ int) { r.wake(a) })
	must(t, r.servers[b], "two")
	r.wake(a)
	for range 200 {
		if r.servers[a].Confirm(t.Context()) == nil {
			t.Fatal("it serves reads")
		}
		if _, err := do(r.servers[a], "no"); err == nil {
			t.Fatal("it takes changes")
		}
		time.Sleep(time.Millisecond)
	}
	r.synced()
	r.equal("one", "two")
}

// A passive that slept does not know whether it was removed meanwhile.
func TestPairPassiveThatSlept(t *testing.T) {
	t.Parallel()
	r, _, _ := newPair(t, EverySecond)
	a, b := r.tries(func(a, b int) bool { r.sleep(b); return r.goesOn(a, "two") }, func(_, b int) { r.wake(b) })
	r.until("the active is alone", func() bool { return r.servers[a].Status().Alone })
	time.Sleep(rigAlone) // asleep for longer than it would wait
	r.down(a)
	r.wake(b)
	r.suspended(b, wire.StatePassiveSuspended)
	r.start(a)
	r.synced()
	r.equal("one", "two")
}

// A server that went on alone may do so again after a restart.
func TestPairLoneServerRestarts(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, EverySecond)
	a, b := r.loses("one")
	r.down(a)
	r.start(a)
	r.until("it goes on", func() bool { return r.leads(a) })
	must(t, r.servers[a], "two")
	if n, _ := r.servers[a].Reign(); n < 2 {
		t.Errorf("incarnation %d", n)
	}
	r.start(b)
	r.synced()
	r.equal("one", "two")
}

func TestPairHandsOver(t *testing.T) {
	t.Parallel()
	r, a, b := newPair(t, EverySecond)
	r.until("the other is active", func() bool { return r.leads(b) || r.handsOver(a) && r.leads(b) })
	_, a = r.loses("two")
	r.start(a)
	r.synced()
	r.equal("one", "two")
}

// An active server that stops in order ends as soon as it has handed over: its partner
// must have become active with it, and not need its vote any more.
func TestPairHandsOverAndEndsAtOnce(t *testing.T) {
	t.Parallel()
	r, a, b := newPair(t, EverySecond)
	for try := 0; ; try++ {
		before := r.servers[b].fsm.history().tip()
		r.links[b][a].set(false, false, 100*time.Millisecond)
		r.until("it hands over", func() bool { return r.handsOver(a) || r.leads(b) })
		r.kill(a)
		r.until("the other is active, or knows that it slept", func() bool { return r.leads(b) || r.waits(b) })
		tip := r.servers[b].fsm.history().tip()
		if r.leads(b) && (!tip.Forced || tip.same(before)) && r.goesOn(b, "two") {
			break
		}
		if try == 10 { // once would do, but for a busy machine
			t.Fatalf("it has to go on by itself each time: %+v", tip)
		}
		r.links[b][a].set(false, false, 0)
		r.start(a)
		r.synced()
		a, b = r.actives()
	}
	r.links[b][a].set(false, false, 0)
	r.start(a)
	r.synced()
	r.equal("one", "two")
}

// An active server that is being stopped acknowledges nothing by itself: its partner may only be slow,
// and go on without that.
func TestPairServerThatIsStoppedDoesNotGoOnAlone(t *testing.T) {
	t.Parallel()
	r, a, b := newPair(t, EverySecond)
	r.servers[a].Leave()
	r.sleep(b)
	if _, err := do(r.servers[a], "two"); err == nil {
		t.Fatal("it takes a change alone")
	}
	r.repeated = map[string]bool{"two": true} // what became of it nobody knows
	r.wake(b)
	r.kill(a)
	r.start(a)
	r.synced()
	r.do("two")
	r.equal("one", "two")
	if len(r.lost[0])+len(r.lost[1]) > 0 {
		t.Errorf("set aside was %v", r.lost)
	}
}

// A passive's question is answered; then it is removed and told so, and only then it reads
// that answer: it must not take itself for counted in again.
func TestPairAnswerThatWasOvertaken(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, EverySecond)
	a, b := r.actives()
	r.isolate(a, true) // what the partner says itself must not come in between
	answer := r.servers[a].pair.note()
	told := answer
	told.History = answer.History.with(Incarnation{Number: 2, Owner: answer.ID, WasActive: true})
	told.Voters = []raft.ServerID{raft.ServerID(answer.ID)}
	p := r.servers[b].pair
	p.meet(told)
	if p.meet(answer) || p.isSure() {
		t.Error("it takes the older word for the later one")
	}
	again := answer // the active one was killed before that was on its disk
	again.Run = "another"
	if !p.meet(again) || !p.isSure() {
		t.Error("it does not hear what the partner says after a restart")
	}
}

// An empty server of the partner's name, started by mistake beside the one that lives, is no
// sign that this one's data is gone.
func TestPairStrangerOfThePartnersName(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, MemoryOnly)
	_, b := r.actives()
	p := r.servers[b].pair
	p.meet(note{ID: newNonce(), Run: "stranger"})
	p.consider()
	p.mu.Lock()
	forcing := p.forcing
	p.mu.Unlock()
	if forcing {
		t.Error("it goes on alone beside the active one")
	}
}

func TestIncarnationsOfBothSidesAreJudgedAlike(t *testing.T) {
	list := []Incarnation{
		{Number: 1, Owner: "a"}, {Number: 2, Owner: "a", WasActive: true}, {Number: 2, Owner: "b", Forced: true},
		{Number: 2, Owner: "c", Forced: true}, {Number: 3, Owner: "b", Forced: true},
	}
	for i, x := range list {
		for j, y := range list {
			if i != j && x.beats(y, 0, 0) == y.beats(x, 0, 0) {
				t.Errorf("%v and %v", x, y)
			}
		}
	}
	if !list[1].beats(list[2], 0, 0) || !list[4].beats(list[1], 0, 0) {
		t.Error("the higher number wins, else the side that was active")
	}
	h := history(list[:2])
	ours, theirs := h.forkWith(history{list[0], list[2], list[4]})
	if !ours.same(list[1]) || !theirs.same(list[2]) {
		t.Errorf("they fork at %v and %v", ours, theirs)
	}
	if b := appendHistory(nil, h); !slices.Equal(b, appendHistory(nil, h)) {
		t.Error("the same history, other bytes")
	}
}

// A passive that is awake, but hears nothing of raft's, is removed; it learns so by the
// side channel. Then the active dies: what that one acknowledged alone is not here, so
// this server must not go on.
func TestPairPassiveThatWasToldOfItsRemoval(t *testing.T) {
	t.Parallel()
	r, _, _ := newPair(t, EverySecond)
	a, b := r.tries(func(a, b int) bool {
		r.links[a][b].set(true, true, 0) // what b asks for by itself is answered
		r.until("the active is alone, or has missed the moment for it", func() bool {
			return r.servers[a].Status().Alone || !r.leads(a)
		})
		if !r.leads(a) || !r.servers[a].Status().Alone {
			return false
		}
		p := r.servers[b].pair
		knows := func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.follows.Number > 1 }
		r.until("the passive knows, or has gone on by itself", func() bool {
			return knows() || r.leads(b) || r.servers[b].pair != p
		})
		return knows()
	}, func(a, b int) { r.links[a][b].set(false, false, 0) })
	must(t, r.servers[a], "two")
	r.until("it does not say that it could take over", func() bool { return r.servers[b].Status().State != wire.StatePassive })
	r.down(a) // heals the link
	r.suspended(b, wire.StatePassiveSuspended)
	r.start(a)
	r.synced()
	r.equal("one", "two")
}
