package stripe

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// pairRig is a cluster of two servers in availability mode.
type pairRig struct {
	*cluster
	lost    [2][]LostChange   // what was set aside on each
	entries map[string]string // index and term of every entry in any log -> kind and checksum
	asked   map[string]bool   // what goesOn had a server agree on

	mu     sync.Mutex
	asleep map[string]chan struct{} // identity -> closed when it wakes
}

// The times of a rig are twice the defaults: a server that a busy machine keeps from its
// work for 0.4 of its lease takes itself for one that slept, as it should.
const (
	rigHeartbeat = 2 * defaultPairHeartbeat
	rigAlone     = 5 * rigHeartbeat / 3
)

func newPairRig(t testing.TB, d Durability) *pairRig {
	return newPairRigOf(t, Config{Durability: d})
}

func newPairRigOf(t testing.TB, cfg Config) *pairRig {
	r := &pairRig{asleep: map[string]chan struct{}{}, entries: map[string]string{}, asked: map[string]bool{}}
	cfg.Priority, cfg.Timers = Availability, Timers{Heartbeat: rigHeartbeat}
	r.cluster = newClusterIn(t, make([]string, 2), cfg, parts{pace: func(id string) {
		r.mu.Lock()
		c := r.asleep[id]
		r.mu.Unlock()
		if c != nil {
			<-c
		}
	}})
	t.Cleanup(func() {
		for i, s := range r.servers {
			if s != nil {
				r.wake(i)
			}
		}
	})
	form(t, r.servers[0])
	r.synced()
	return r
}

// newPair returns a rig that has agreed on a change, "one", and which server is active.
func newPair(t testing.TB, d Durability) (r *pairRig, active, other int) {
	t.Helper()
	r = newPairRig(t, d)
	r.do("one")
	active, other = r.actives()
	return r, active, other
}

// sleep stops a server as SIGSTOP does, as far as others see it: what is sent to
// and by it lies there until it wakes, and it does not decide anything.
func (r *pairRig) sleep(i int) {
	r.isolate(i, true)
	r.freeze(r.servers[i].id)
}

func (r *pairRig) wake(i int) {
	r.thaw(r.servers[i].id)
	r.isolate(i, false)
}

// snapshot has a server write one, which it refuses while it goes on alone and its log does not
// say so yet.
func (r *pairRig) snapshot(i int) {
	r.t.Helper()
	r.until("there is a snapshot", func() bool { return r.servers[i].snapshot() == nil })
}

func (r *pairRig) down(i int) {
	if r.servers[i] == nil {
		return
	}
	r.same(i)
	s := r.servers[i]
	r.freeze(s.id) // a killed process decides nothing between its last message and its end
	go func() {
		<-s.stop
		r.thaw(s.id)
	}()
	r.isolate(i, false)
	r.kill(i)
}

func (r *pairRig) freeze(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asleep[id] == nil {
		r.asleep[id] = make(chan struct{})
	}
}

func (r *pairRig) thaw(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.asleep[id]; c != nil {
		close(c)
		delete(r.asleep, id)
	}
}

func (r *pairRig) leads(i int) bool { return r.servers[i] != nil && r.servers[i].leading.Load() }

func (r *pairRig) ops(i int) []string { return r.ledgers[i].list() }

// tend does what a server process does whose data is to be set aside.
func (r *pairRig) tend() {
	r.t.Helper()
	for i, s := range r.servers {
		if s == nil {
			continue
		}
		select {
		case <-s.Lost():
			r.down(i)
			r.start(i)
			r.lost[i] = append(r.lost[i], readLost(r.t, r.dirs[i])...)
		default:
		}
	}
}

// until waits, and restarts servers whose data is set aside. A machine that is busy with much
// else parts a pair again and again before it is one.
func (r *pairRig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		r.tend()
		if time.Now().After(end) {
			for i, s := range r.servers {
				if s != nil {
					s.pair.mu.Lock()
					r.t.Logf("server %d: %+v\n%+v", i+1, s.pair.watch, s.pair.kept)
					s.pair.mu.Unlock()
					r.t.Logf("%+v", s.Status())
				}
			}
			r.t.Fatalf("not within three minutes: %s", what)
		}
	}
}

// actives returns the number of the server that serves, once there is one, and of the other.
func (r *pairRig) actives() (active, other int) {
	r.t.Helper()
	r.until("one server is active", func() bool { return r.leads(0) || r.leads(1) })
	if r.leads(0) {
		return 0, 1
	}
	return 1, 0
}

// tries does something to the active server and the other one until both took it as servers
// do that are awake, ten times at most: neither had gone on alone before it came to the other one.
// heal undoes it after a try that failed. A machine that is too busy for that proves nothing.
func (r *pairRig) tries(once func(active, other int) bool, heal func(active, other int)) (active, other int) {
	r.t.Helper()
	return r.divides(func(a, b int) bool {
		x, y := r.servers[a].pair, r.servers[b].pair
		return once(a, b) && !forked(x, y)
	}, heal)
}

// forked reports whether each of two servers, of which one may be killed by now, has gone on
// without the other.
func forked(a, b *pair) bool {
	past := func(p *pair) history { p.mu.Lock(); defer p.mu.Unlock(); return p.kept.History }
	ours, theirs := past(a), past(b)
	return !ours.contains(theirs.tip()) && !theirs.contains(ours.tip())
}

// divides is tries where both may go on, each without the other.
func (r *pairRig) divides(once func(active, other int) bool, heal func(active, other int)) (active, other int) {
	r.t.Helper()
	for range 10 {
		active, other = r.actives()
		if once(active, other) {
			return active, other
		}
		heal(active, other)
		r.synced()
	}
	tooBusy(r.t)
	return
}

// tooBusy skips a test that could not be made: where all have to be, it fails.
func tooBusy(t testing.TB) {
	t.Helper()
	const why = "this machine is too busy: a server sleeps whenever it should not"
	if os.Getenv("TOOLS_REQUIRED") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// goesOn has a server whose partner is lost agree on op: at once, or after it ceased to be
// active on a busy machine and went on by itself. It reports false where it waits: then it slept,
// as far as it knows.
func (r *pairRig) goesOn(i int, op string) (agreed bool) {
	r.t.Helper()
	if r.asked[op] { // in a try before this one
		r.repeats(op)
	}
	r.asked[op] = true
	r.until("it goes on, or knows that it slept", func() bool {
		if r.leads(i) {
			agreed, _ = r.try(r.servers[i], op)
		}
		return agreed || r.waits(i)
	})
	return agreed
}

// loses ends the passive one, and has the active one agree on op without it. It returns that one first.
func (r *pairRig) loses(op string) (active, other int) {
	r.t.Helper()
	return r.tries(func(a, b int) bool { r.down(b); return r.goesOn(a, op) }, func(_, b int) { r.start(b) })
}

// promotes ends a, which went on alone, and has b go on without what a has agreed on.
func (r *pairRig) promotes(a, b int) {
	r.t.Helper()
	r.down(a)
	r.start(b)
	r.until("it waits", func() bool { return r.waits(b) && r.servers[b].Status().Waiting != "" })
	if err := r.servers[b].Promote(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// sendsHome has b, promoted, agree on op, and a come back to it as the loser. It returns
// what a has listed.
func (r *pairRig) sendsHome(a, b int, op string) []LostChange {
	r.t.Helper()
	r.promotes(a, b)
	r.do(op)
	r.start(a)
	r.until("the loser starts anew", func() bool { return len(r.lost[a]) > 0 })
	r.synced()
	return r.lost[a]
}

// handsOver makes the other server the active one, where i is active. On a busy machine that takes
// more than one try.
func (r *pairRig) handsOver(i int) bool {
	err := r.servers[i].HandOver(r.t.Context())
	if err != nil {
		r.t.Log(err)
	}
	return err == nil
}

// synced returns when both servers are voters and sure of each other.
func (r *pairRig) synced() {
	r.t.Helper()
	r.until("the servers are a pair", func() bool {
		leaders := 0
		for i, s := range r.servers {
			if s == nil {
				return false
			}
			if r.leads(i) {
				leaders++
			}
			p := s.pair
			_, both := p.passive()
			p.mu.Lock()
			ok := both && p.watch.sure() && p.watch.failed == 0 && p.follows.Number == 0 && !p.forcing &&
				p.kept.History.tip().same(s.fsm.history().tip()) && p.partner.History.tip().same(p.kept.History.tip())
			p.mu.Unlock()
			if !ok {
				return false
			}
		}
		return leaders == 1
	})
}

// same notes the entries in a server's log, and fails where two logs ever had
// different ones of one index and term.
func (r *pairRig) same(i int) {
	r.t.Helper()
	logs := r.servers[i].logs
	first, err := logs.FirstIndex()
	last, err2 := logs.LastIndex()
	if err != nil || err2 != nil || first == 0 {
		return
	}
	for ; first <= last; first++ {
		var e raft.Log
		if logs.GetLog(first, &e) != nil {
			return // cut short meanwhile
		}
		at, is := fmt.Sprintf("entry %d of term %d", e.Index, e.Term), fmt.Sprintf("%v %x", e.Type, e.Data)
		if old, ok := r.entries[at]; ok && old != is {
			r.t.Errorf("%s is %q in one log and %q in the other", at, old, is)
		}
		r.entries[at] = is
	}
}

func readLost(t testing.TB, dir string) (list []LostChange) {
	if dir == "" {
		return nil
	}
	l := lastLost(dir)
	if l == nil {
		t.Error("nothing was set aside")
		return nil
	}
	if l.Fault != "" {
		t.Error(l.Fault)
	}
	f, err := os.Open(filepath.Join(dir, l.Folder, lostList))
	if err != nil {
		t.Error(err)
		return nil
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		var c LostChange
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			t.Error(err)
		}
		list = append(list, c)
	}
	if len(list) != l.Changes {
		t.Errorf("%d changes are listed, and %d are told of", len(list), l.Changes)
	}
	return list
}
