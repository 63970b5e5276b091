package history

import (
	"context"
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
	victim, who := c.active(), "the active"
	if p := c.passive(); p != nil && c.rnd.IntN(3) == 0 {
		victim, who = p, "the passive"
	}
	who += " " + victim.Name()
	other := c.others(victim.Name())
	m := c.machines[victim.Name()]
	switch c.rnd.IntN(11) {
	case 0, 1:
		c.h.Note("%s is killed for %v", who, long)
		victim.Kill()
		rest(long)
		victim.Start()
	case 2:
		c.h.Note("%s is stopped for %v", who, long)
		victim.Stop()
		rest(long)
		victim.Start()
	case 3:
		c.h.Note("%s is alone with the clients for %v", who, short)
		c.isolate(victim.Name(), other)
		rest(short)
	case 4:
		c.h.Note("%s is cut off from everybody for %v", who, short)
		c.isolate(victim.Name(), append(other, clients...))
		rest(short)
	case 5:
		c.h.Note("%s is not heard by the other for %v", who, short)
		c.net.Cut(victim.Name(), other[0])
		rest(short)
	case 6:
		c.h.Note("all messages between servers take up to 30 ms for %v", long)
		c.net.Delay(victim.Name(), other[0], 0, 30*time.Millisecond)
		c.net.Delay(other[0], victim.Name(), 0, 30*time.Millisecond)
		rest(long)
	case 7:
		c.h.Note("all connections break")
		c.net.Break(func(string, string) bool { return true })
	case 8:
		c.h.Note("%s hands over", who)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := victim.Engine().HandOver(ctx); err != nil {
			c.h.Note("which did not succeed: %v", err)
		}
	case 9, 10:
		off := time.Duration(1-2*c.rnd.IntN(2)) * 24 * time.Hour
		c.h.Note("the clock of %s is wrong by %v for %v", who, off, long)
		m.clockOff.Store(int64(off))
		rest(long / 2)
		if c.rnd.IntN(2) == 0 {
			c.h.Note("and the active hands over")
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := c.active().Engine().HandOver(ctx); err != nil {
				c.h.Note("which did not succeed: %v", err)
			}
		}
		rest(long / 2)
		m.clockOff.Store(0)
	}
	c.net.MendAll()
	c.h.Note("all is well again")
	c.together()
}

// Faults of a pair, one after the other, each healed before the next: nothing
// acknowledged is lost, nothing old is read, and nothing is set aside.
func TestPairUnderFaults(t *testing.T) {
	t.Parallel() // they mostly wait
	eachSeed(t, func(t *testing.T, seed uint64) {
		c := startPair(t, seed)
		c.together()
		list := nodes(t, c.net, len(clients), c.Addrs()...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := Run(ctx, c.h, Load{Seed: seed, Dataset: dataset, Nodes: list, Pace: 2 * time.Millisecond})
		for more := lasts(c.h); more(); {
			rest(time.Duration(c.rnd.IntN(200)) * time.Millisecond)
			c.pairFault()
		}
		cancel()
		judge(t, c.h, r, list[0])
		for _, s := range c.Servers {
			if l := s.Engine().Status().Lost; l != nil {
				t.Errorf("%s has set %d changes aside", s.Name(), l.Changes)
			}
		}
	})
}
