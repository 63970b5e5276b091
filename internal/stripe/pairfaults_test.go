package stripe

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var pairSeedsFlag = flag.Int("pair-seeds", 1, "seeds of random faults of a pair")

// Faults of a pair, each one healed before the next: a kill, a sleep of either
// server, a cut network. What was acknowledged is on the survivor or, after a cut,
// in the list of what the other side lost; and no two logs share an index and a term.
func TestPairSurvivesSingleFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*pairSeedsFlag) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			pairFaults(t, rand.New(rand.NewPCG(seed, 5)), 3)
		})
	}
}

func pairFaults(t *testing.T, random *rand.Rand, rounds int) {
	d := []Durability{EverySecond, EveryWrite, MemoryOnly}[random.IntN(3)]
	r := newPairRig(t, d)
	stop := r.writers(4)
	var said []string
	twice := false // a server had gone on alone before it was killed: this machine is slow
	for range rounds {
		a, b := r.actives()
		lost, cut, alone := len(r.lost[0])+len(r.lost[1]), false, false
		pause := time.Duration(random.Int64N(int64(200 * time.Millisecond)))
		time.Sleep(pause)
		switch fault := random.IntN(5); {
		case fault == 0:
			said = append(said, "kill the active")
			killed := r.servers[a].pair
			r.down(a)
			alone = len(killed.kept.History) > len(r.servers[b].pair.note().History)
			twice = twice || alone
			r.until("the other goes on", func() bool { return r.leads(b) || r.waits(b) })
			r.start(a)
		case fault == 1:
			said = append(said, "kill the passive")
			r.down(b)
			r.until("the active goes on", func() bool { return r.leads(a) && r.servers[a].Status().Alone || r.waits(a) })
			r.start(b)
		case fault == 2 || fault == 3:
			i := []int{a, b}[fault-2]
			said = append(said, []string{"the active sleeps", "the passive sleeps"}[fault-2])
			r.sleep(i)
			time.Sleep(time.Duration(random.Int64N(int64(2 * rigAlone))))
			r.wake(i)
		case d != MemoryOnly: // without a disk there is no list but the log
			said = append(said, "the network is cut")
			cut = true
			r.isolate(a, true)
			time.Sleep(time.Duration(random.Int64N(int64(2 * rigAlone))))
			r.isolate(a, false)
		}
		r.synced()
		if n := len(r.lost[0]) + len(r.lost[1]); n > lost && !cut && !alone {
			t.Errorf("%d changes are lost in: %s", n-lost, strings.Join(said, ", "))
		}
	}
	acked, unsure, _ := stop()
	t.Logf("%s: %s; %d acknowledged, %d unsure, %d and %d listed as lost", d, strings.Join(said, ", "), len(acked), len(unsure), len(r.lost[0]), len(r.lost[1]))
	r.do("last")
	a, _ := r.actives()
	list := r.once(r.ops(a))
	r.equal(list...)
	count := map[string]int{}
	for _, op := range list {
		count[op]++
	}
	for op, n := range count {
		if n > 1 {
			t.Errorf("%q was applied %d times", op, n)
		}
	}
	for _, l := range slices.Concat(r.lost[0], r.lost[1]) {
		count[l.Key]++
	}
	missing := 0
	for _, op := range acked {
		if count[op] == 0 {
			missing++
		}
	}
	switch {
	case d == MemoryOnly && twice:
		t.Log("a server was alone already when it was killed, with all that it kept in memory: two faults at once")
	case missing > 0:
		t.Errorf("%d of %d acknowledged changes are gone, and in no list", missing, len(acked))
	}
	for i := range r.servers {
		r.same(i)
	}
}

// waits reports whether a server is suspended: it slept, as far as it knows.
func (r *pairRig) waits(i int) bool {
	return strings.HasSuffix(r.servers[i].Status().State, "SUSPENDED")
}
