package history

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// fast are the timers of most runs: more elections in less time.
var fast = stripe.Timers{Heartbeat: 150 * time.Millisecond, Election: 150 * time.Millisecond, Lease: 125 * time.Millisecond}

// cluster is two or three servers, tc1 and so on, and clients, on one network.
type cluster struct {
	*testcluster.Stripe
	t        *testing.T
	dir      string // a folder of its name in it is each server's
	net      *testcluster.Network
	machines map[string]*machine
	h        *History
	rnd      *rand.Rand
}

// machine is what a server runs on, and what can go wrong with it.
type machine struct {
	clockOff atomic.Int64 // by how much the wall clock is wrong, in ns
	diskFull atomic.Bool
	diskHung atomic.Pointer[chan struct{}] // closed when it answers again; nil while it does
}

func (m *machine) faults() *stripe.Faults {
	return &stripe.Faults{
		Wall: func() time.Time { return time.Now().Add(time.Duration(m.clockOff.Load())) },
		Disk: func(bool) error {
			if m.diskFull.Load() {
				return syscall.ENOSPC
			}
			if answers := m.diskHung.Load(); answers != nil {
				<-*answers
			}
			return nil
		},
		Stall: 20 * time.Millisecond, // a disk hangs after five of it
	}
}

// hang is a disk that neither takes a write nor refuses it.
func (m *machine) hang(long time.Duration) {
	answers := make(chan struct{})
	m.diskHung.Store(&answers)
	rest(long)
	m.diskHung.Store(nil)
	close(answers)
}

func startCluster(t *testing.T, seed uint64, opts ...testcluster.Option) *cluster {
	return startServers(t, 3, seed, append([]testcluster.Option{testcluster.Timers(fast)}, opts...)...)
}

func startServers(t *testing.T, servers int, seed uint64, opts ...testcluster.Option) *cluster {
	t.Helper()
	n := testcluster.NewNetwork(t)
	via := func(from, to, addr string) string {
		if from == to {
			return "127.0.0.1:1" // nobody is to be led past the network
		}
		n.Host(addr, to)
		door, err := n.Via(from, addr)
		if err != nil {
			t.Fatal(err)
		}
		return door
	}
	c := &cluster{t: t, net: n, h: New(), rnd: rand.New(rand.NewPCG(seed, 1)),
		machines: map[string]*machine{"tc1": {}, "tc2": {}, "tc3": {}}}
	faults := func(name string) *stripe.Faults { return c.machines[name].faults() }
	c.dir = t.TempDir()
	c.Stripe = testcluster.StartStripe(t, servers, append([]testcluster.Option{
		testcluster.Dir(c.dir), testcluster.Logger(quiet), testcluster.Via(via), testcluster.Faults(faults)}, opts...)...)
	for _, s := range c.Servers {
		n.Host(s.Addr(), s.Name())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the faults:\n%s", c.h.Notes())
		}
	})
	return c
}

// others are the servers but for this one.
func (c *cluster) others(of string) (list []string) {
	for _, s := range c.Servers {
		if s.Name() != of {
			list = append(list, s.Name())
		}
	}
	return list
}

// active returns the active server; where there is none right now, any that runs.
func (c *cluster) active() *testcluster.Cluster {
	var any *testcluster.Cluster
	for _, s := range c.Servers {
		if s.IsRunning() {
			any = s
			if s.Engine().Serves() {
				return s
			}
		}
	}
	return any
}

// passive returns a running server that is not active, nil where there is none.
func (c *cluster) passive() *testcluster.Cluster {
	active := c.active()
	var list []*testcluster.Cluster
	for _, s := range c.Servers {
		if s != active && s.IsRunning() {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[c.rnd.IntN(len(list))]
}

// isolate cuts a server off from all hosts in the list, in both directions.
func (c *cluster) isolate(name string, hosts []string) {
	for _, h := range hosts {
		c.net.Cut(name, h)
		c.net.Cut(h, name)
	}
}

var clients = []string{"node-1", "node-2", "node-3"}

// victim draws the server that something is done to, and says which one it is.
func (c *cluster) victim() (s *testcluster.Cluster, who string) {
	if p := c.passive(); p != nil && c.rnd.IntN(3) == 0 {
		return p, "the passive " + p.Name()
	}
	s = c.active()
	return s, "the active " + s.Name()
}

// commonFaults is how many kinds of faults commonFault knows.
const commonFaults = 9

// commonFault does to a server what can be done to one of two as well as of three. A network
// that is cut stays so for cut, and is the caller's to mend.
func (c *cluster) commonFault(kind int, victim *testcluster.Cluster, who string, long, cut time.Duration) {
	others := c.others(victim.Name())
	switch kind {
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
		c.h.Note("%s is alone with the clients for %v", who, cut)
		c.isolate(victim.Name(), others)
		rest(cut)
	case 4:
		c.h.Note("%s is cut off from everybody for %v", who, cut)
		c.isolate(victim.Name(), append(others, clients...))
		rest(cut)
	case 5:
		c.h.Note("%s is not heard by %s for %v", who, others[0], cut)
		c.net.Cut(victim.Name(), others[0])
		rest(cut)
	case 6:
		c.h.Note("all messages between servers take up to 30 ms for %v", long)
		for _, a := range c.Servers {
			for _, b := range c.others(a.Name()) {
				c.net.Delay(a.Name(), b, 0, 30*time.Millisecond)
			}
		}
		rest(long)
	case 7:
		c.h.Note("all connections break")
		c.net.Break(func(string, string) bool { return true })
	case 8:
		c.h.Note("%s hands over", who)
		c.handOver(victim)
	}
}

// handOver need not succeed.
func (c *cluster) handOver(s *testcluster.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.Engine().HandOver(ctx); err != nil {
		c.h.Note("which did not succeed: %v", err)
	}
}

// dayOff draws by how much a clock is wrong.
func (c *cluster) dayOff() time.Duration { return time.Duration(1-2*c.rnd.IntN(2)) * 24 * time.Hour }

// fault does one thing to the cluster, drawn by chance, lets it last, and mends it.
func (c *cluster) fault() {
	long := time.Duration(50+c.rnd.IntN(1000)) * time.Millisecond
	victim, who := c.victim()
	m := c.machines[victim.Name()]
	switch kind := c.rnd.IntN(commonFaults + 6); kind {
	default:
		c.commonFault(kind, victim, who, long, long)
	case commonFaults:
		c.h.Note("%s hears no server for %v", who, long)
		for _, s := range c.others(victim.Name()) {
			c.net.Cut(s, victim.Name())
		}
		rest(long)
	case commonFaults + 1:
		off := c.dayOff()
		c.h.Note("the clock of %s is wrong by %v from now on", who, off)
		m.clockOff.Store(int64(off))
		rest(long)
	case commonFaults + 2:
		off := c.dayOff()
		c.h.Note("the clock of %s is wrong by %v, and it is killed", who, off)
		m.clockOff.Store(int64(off))
		victim.Kill()
		rest(long)
		victim.Start()
	case commonFaults + 3:
		c.h.Note("the disk of %s is full for %v", who, long)
		m.diskFull.Store(true)
		rest(long)
		m.diskFull.Store(false)
	case commonFaults + 4:
		c.h.Note("the disk of %s hangs for %v", who, long)
		m.hang(long)
	case commonFaults + 5:
		c.h.Note("the disk of %s hangs for %v, and it is cut off for half of that", who, long)
		mended := time.AfterFunc(long/2, c.net.MendAll)
		c.isolate(victim.Name(), c.others(victim.Name()))
		m.hang(long)
		mended.Stop()
	}
	c.net.MendAll()
	c.h.Note("all is well again")
}

// Three servers, one after the other killed, stopped, cut off, half cut off, slowed
// down, a day off, with a disk that is full or hangs: nothing acknowledged is lost, nothing old is read, and in the end all are
// in service again.
func TestThreeServersUnderFaults(t *testing.T) {
	t.Parallel() // they mostly wait
	eachSeed(t, func(t *testing.T, seed uint64) {
		c := startCluster(t, seed)
		list := nodes(t, c.net, len(clients), c.Addrs()...)
		underLoad(t, c.h, Load{Seed: seed, Nodes: list, Pace: 2 * time.Millisecond}, func() {
			rest(time.Duration(c.rnd.IntN(600)) * time.Millisecond)
			c.fault()
		}, c.AwaitInService)
	})
}

// The server that takes over has a clock that is a day fast, then one that is a day
// slow: no session ends before its time, and none lives on.
func TestAClockADayOffNeitherEndsNorKeepsSessions(t *testing.T) {
	t.Parallel()                                // it mostly waits
	c := startCluster(t, 1, testcluster.Calm()) // nobody takes over by himself
	node := nodes(t, c.net, 1, c.Addrs()...)[0]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	create := func(key string, idle time.Duration) {
		t.Helper()
		w := &wire.Create{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(key)}, Idle: idle}
		if _, err := node.Create(ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	look := func(key string) (wire.Session, error) {
		return node.Load(ctx, &wire.Load{Dataset: []byte(dataset), Key: []byte(key), Mode: wire.LoadPeek})
	}
	create("long", time.Hour)
	for _, off := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		was := c.Active()
		for _, s := range c.Servers {
			if s != was {
				c.machines[s.Name()].clockOff.Store(int64(off))
			}
		}
		if err := was.Engine().HandOver(ctx); err != nil {
			t.Fatal(err)
		}
		now := c.Active()
		if now == was {
			t.Fatalf("%s is active again", was.Name())
		}
		if s, err := look("long"); err != nil || s.Idle > time.Minute {
			t.Errorf("with a clock %v off: %v, last access %v ago", off, err, s.Idle)
		}
		short := "short" + off.String()
		create(short, 200*time.Millisecond)
		for deadline := time.Now().Add(time.Minute); ; rest(time.Millisecond) { // polls
			if _, err := look(short); wire.Is(err, wire.ErrSessionGone) {
				break
			} else if err != nil || time.Now().After(deadline) {
				t.Fatalf("with a clock %v off a session of 200 ms does not end: %v", off, err)
			}
		}
		c.AwaitInService()
	}
}
