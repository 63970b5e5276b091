package history

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// A pair in availability mode. It promises that a single fault between two servers
// in sync loses nothing; so each is healed, and both are in sync, before the next.

// maxCut is how long the network of a pair is cut at most for it to be one fault:
// after a second the passive goes on alone, and there are two.
const maxCut = 400 * time.Millisecond

func startPair(t *testing.T, seed uint64) *cluster {
	return startServers(t, 2, seed, testcluster.Priority(stripe.Availability))
}

// tend does what the server's process does whose data is to be set aside.
func (c *cluster) tend() {
	for _, s := range c.Servers {
		if !s.IsRunning() {
			continue
		}
		select {
		case <-s.Engine().Lost():
			c.h.Note("%s sets its data aside", s.Name())
			s.Kill()
			s.Start()
		default:
		}
	}
}

// together waits until both servers are in sync and know it.
func (c *cluster) together() {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !c.inSync(); rest(5 * time.Millisecond) { // polls
		c.tend()
		if time.Now().After(deadline) {
			for _, s := range c.Servers {
				c.t.Logf("%s: %+v", s.Name(), s.Engine().Status())
			}
			c.t.Fatal("the servers are no pair again after a minute")
		}
	}
	rest(300 * time.Millisecond) // until the passive has asked, and heard that it is one
}

func (c *cluster) inSync() bool {
	actives := 0
	for _, s := range c.Servers {
		st := s.Engine().Status()
		if !s.IsRunning() || !wire.InService(st.State) || st.Alone || st.SplitBrain || st.Waiting != "" {
			return false
		}
		if s.Engine().Serves() {
			actives++
			for _, m := range s.Engine().Members() {
				if !m.Voter || !wire.InService(m.State) {
					return false
				}
			}
		}
	}
	return actives == 1
}

// pairFault does one thing to a pair, drawn by chance, and heals it.
func (c *cluster) pairFault() {
	long := time.Duration(50+c.rnd.IntN(2000)) * time.Millisecond
	short := time.Duration(1 + c.rnd.Int64N(int64(maxCut)))
	victim, who := c.victim()
	m := c.machines[victim.Name()]
	switch kind := c.rnd.IntN(commonFaults + 4); kind {
	default:
		c.commonFault(kind, victim, who, long, short)
	case commonFaults, commonFaults + 1:
		off := c.dayOff()
		c.h.Note("the clock of %s is wrong by %v for %v", who, off, long)
		m.clockOff.Store(int64(off))
		rest(long / 2)
		if c.rnd.IntN(2) == 0 {
			c.h.Note("and the active hands over")
			c.handOver(c.active())
		}
		rest(long / 2)
		m.clockOff.Store(0)
	case commonFaults + 2, commonFaults + 3: // the other one goes on after little more than a second
		c.h.Note("the disk of %s hangs for %v", who, 2*long)
		m.hang(2 * long)
	}
	c.net.MendAll()
	c.h.Note("all is well again")
	c.together()
}

// tooLate is by how much a busy machine may keep this process from its work for what follows
// to be one fault: a passive server that is silent for 0.3 s is removed, and there are several
// who may be late one after the other between a question and its answer.
const tooLate = 50 * time.Millisecond

// lateness tells, until the test ends, by how much this process was kept from its work at most.
func lateness(t *testing.T) (most func() time.Duration) {
	var longest atomic.Int64
	stop, over := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-over })
	go func() {
		defer close(over)
		const tick = 10 * time.Millisecond
		for {
			began := time.Now()
			select {
			case <-stop:
				return
			case <-time.After(tick):
				longest.Store(max(longest.Load(), int64(time.Since(began)-tick)))
			}
		}
	}()
	return func() time.Duration { return time.Duration(longest.Load()) }
}

// oneFaultAtATime runs a test of a pair until nothing was set aside in it, on a busy machine more than
// once: there data may be set aside, and what was acknowledged with it. try returns by how much
// this process was late and what was set aside; where that is nothing it has judged the history.
func oneFaultAtATime(t *testing.T, try func() (late time.Duration, aside []string)) {
	t.Helper()
	for range 5 {
		late, aside := try()
		switch {
		case len(aside) == 0:
			return
		case late < tooLate:
			t.Fatalf("data was set aside, and nobody was later than %v: %q", late, aside)
		}
		t.Logf("%q: this process was kept from its work for %v", aside, late)
	}
	t.Error("this machine makes two faults of one each time, or nobody is so late and data is set aside all the same")
}

// Faults of a pair, one after the other, each healed before the next: nothing
// acknowledged is lost, nothing old is read, and nothing is set aside, unless the
// machine has made two faults of one.
func TestPairUnderFaults(t *testing.T) {
	t.Parallel() // they mostly wait
	eachSeed(t, func(t *testing.T, seed uint64) {
		oneFaultAtATime(t, func() (time.Duration, []string) {
			c := startPair(t, seed)
			late := lateness(t)
			c.together()
			l := Load{Seed: seed, Nodes: nodes(t, c.net, len(clients), c.Addrs()...), Pace: 2 * time.Millisecond}
			r := suffer(t, c.h, l, func() {
				rest(time.Duration(c.rnd.IntN(200)) * time.Millisecond)
				c.pairFault()
			}, func() {})
			of := c.asides()
			aside := slices.Concat(of[0], of[1])
			if len(aside) > 0 {
				r.Wait()
			} else {
				judge(t, c.h, r, l.Nodes[0])
			}
			return late(), aside
		})
	})
}
