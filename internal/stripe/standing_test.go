package stripe

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Whoever is suspended waits for something, and says for what: only the function
// suspended makes such a state, and it lets no empty reason pass.
func TestOnlySuspendedMakesASuspendedState(t *testing.T) {
	if st := suspended(wire.StatePassiveSuspended, ""); st.why == "" {
		t.Error("an empty reason passes")
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		doc, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		made := map[ast.Node]bool{}
		ast.Inspect(doc, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "suspended" && len(call.Args) > 0 {
					made[call.Args[0]] = true
				}
			}
			if sel, ok := n.(*ast.SelectorExpr); ok && strings.HasSuffix(sel.Sel.Name, "Suspended") && strings.HasPrefix(sel.Sel.Name, "State") {
				seen++
				if !made[sel] {
					t.Errorf("%s: %s is no argument of suspended", file, sel.Sel.Name)
				}
			}
			return true
		})
	}
	if seen < 6 {
		t.Errorf("only %d uses were seen", seen)
	}
}

// A server that is elected while its disk refuses one write would be raft's leader,
// and nobody the active one, for good: it says why, and tries again.
func TestPairElectedServerTriesAgainToBecomeActive(t *testing.T) {
	t.Parallel()
	r, _, _ := newPair(t, EverySecond)
	var file string
	a, b := r.tries(func(a, b int) bool {
		file = filepath.Join(r.dirs[b], incarnationFile)
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(file, "full"), 0o755); err != nil { // nothing can be renamed to it
			t.Fatal(err)
		}
		r.until("it says why it is not active, or is not elected", func() bool {
			if r.leads(a) && r.servers[a].HandOver(t.Context()) != nil {
				return false // this machine is busy
			}
			st := r.servers[b].Status()
			if strings.HasSuffix(st.State, "SUSPENDED") && st.Waiting == "" {
				t.Fatalf("it is %s, and does not say why", st.State)
			}
			return st.State == wire.StateActiveSuspended && strings.Contains(st.Waiting, incarnationFile) || r.servers[a].Status().Alone
		})
		return !r.servers[a].Status().Alone
	}, func(int, int) {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := do(r.servers[b], "no"); err == nil {
		t.Error("it took a change")
	}
	// However long that takes, it hears its partner meanwhile, and need not remove it.
	r.until("the passive confirms it", func() bool {
		_, ago := r.servers[b].contact.of(raft.ServerID(r.servers[a].id))
		return ago >= 0
	})
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	r.until("it is active", func() bool { return r.leads(b) })
	if st := r.servers[b].Status(); st.Waiting != "" {
		t.Errorf("it is %s and waits: %s", st.State, st.Waiting)
	}
	must(t, r.servers[b], "two")
	r.synced()
	r.equal("one", "two")
}

// Ticks that each come a little late, as on a busy machine, add up to no sleep as long
// as the partner answers in between; a sleep after the last question that it answered does.
func TestLatenessBeforeAnAnsweredQuestionIsForgiven(t *testing.T) {
	times := pairTimes{lease: 500 * time.Millisecond, alone: time.Second}
	w := watch{times: times}
	now, wall := time.Hour, time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	tick := func(after time.Duration) {
		now, wall = now+after, wall.Add(after)
		w.tick(now, wall)
	}
	tick(0)
	w.answered(now, w.slept, now, inAccord)
	for range 100 {
		tick(times.tick() * 5 / 2) // half a tick too late
		sent, slept := now, w.slept
		tick(times.tick() * 5 / 2)
		w.answered(sent, slept, now, inAccord)
		if !w.sure() {
			t.Fatalf("it takes itself for one that slept %v", w.late())
		}
	}
	if w.late() >= times.stall() || w.slept < times.stall() {
		t.Fatalf("late by %v of %v", w.late(), w.slept)
	}
	// A sleep that the next tick has yet to tell of.
	if at := now + 2*times.tick() + times.stall(); w.sureAt(at) || !w.sureAt(now) {
		t.Error("a sleep is seen only by the tick after it")
	}
	tick(2*times.tick() + times.stall())
	if w.sure() {
		t.Error("it slept, and is sure")
	}
	// An answer to what was asked before the sleep says nothing.
	w.answered(now-2*times.tick()-times.stall(), w.slept-times.stall(), now, inAccord)
	if w.sure() {
		t.Error("an answer to what was asked before it slept makes it sure")
	}
	// One answer is too few: the partner may still take it for silent.
	w.answered(now, w.slept, now, inAccord)
	if w.sure() {
		t.Error("a single answer makes it sure")
	}
	w.answered(now, w.slept, now, inAccord)
	if !w.sure() {
		t.Error("it is not sure again")
	}
	// What it sleeps once the partner is silent does not count.
	w.lost(now + 1)
	tick(1)
	tick(times.stall() + 10*times.tick())
	if !w.sure() {
		t.Error("a sleep after the partner fell silent counts")
	}
	w.answered(now, w.slept, now, left)
	if w.sure() {
		t.Error("the partner went on without it, and it is sure")
	}
}

// A passive server that has just woken does not say that it could take over: it may
// have been removed.
func TestPairPassiveThatJustWokeIsNotPassive(t *testing.T) {
	t.Parallel()
	r, _, b := newPair(t, EverySecond)
	p := r.servers[b].pair
	r.freeze(r.servers[b].id) // its partner still answers, and that it does is what it can't know
	r.until("it slept", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.clock()-p.watch.ticked > p.times.stall()+2*p.times.tick()
	})
	r.until("it is caught up with", func() bool {
		state := r.servers[b].Status().State
		if state == wire.StatePassive {
			t.Fatal("it says that it could take over")
		}
		return state == wire.StateSynchronizing
	})
	r.thaw(r.servers[b].id)
	r.until("it is sure again", func() bool { return r.servers[b].Status().State == wire.StatePassive })
}
