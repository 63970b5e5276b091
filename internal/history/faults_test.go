package history

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// make torture runs the tests of this file with more seeds.
var (
	seedFlag   = flag.Uint64("seed", 0, "run only this seed")
	seedsFlag  = flag.Uint64("seeds", 1, "seeds, from 1")
	lengthFlag = flag.Duration("length", 2*time.Second, "how long the faults of one seed go on")
)

const dataset = "histories"

// eachSeed runs f for each seed that the flags ask for.
func eachSeed(t *testing.T, f func(t *testing.T, seed uint64)) {
	first, last := uint64(1), *seedsFlag
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			f(t, seed)
			if t.Failed() {
				t.Logf("once more: go test ./internal/history -run %s -seed %d -length %v", name, seed, *lengthFlag)
			}
		})
	}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// nodes are clients on the network, named node-1 and so on, each a node of its own.
func nodes(t *testing.T, n *testcluster.Network, count int, hosts ...string) (list []Node) {
	t.Helper()
	for i := range count {
		c, err := client.New(client.Options{Hosts: hosts, Node: true, Logger: quiet, Dial: n.Dialer(fmt.Sprintf("node-%d", i+1))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		list = append(list, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := list[0].(*client.Client).Open(ctx, &wire.Open{Dataset: []byte(dataset), LockMode: []byte("none")}); err != nil {
		t.Fatal(err)
	}
	return list
}

// lasts returns whether a run's faults go on: for its time, and on a busy machine for up to a
// minute more, until the writes that judge wants have gone through.
func lasts(h *History) func() bool {
	end := time.Now().Add(*lengthFlag)
	return func() bool {
		now := time.Now()
		return now.Before(end) || h.Tally().Writes < wanted() && now.Before(end.Add(time.Minute))
	}
}

// underLoad lets clients use the servers while fault is called again and again, waits with
// settle until all is well, and judges what the clients were told.
func underLoad(t *testing.T, h *History, l Load, fault, settle func()) {
	t.Helper()
	r := suffer(t, h, l, fault, settle)
	judge(t, h, r, l.Nodes[0])
}

// suffer is underLoad without the judgement.
func suffer(t *testing.T, h *History, l Load, fault, settle func()) *Running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l.Dataset = dataset
	r := Run(ctx, h, l)
	for more := lasts(h); more(); {
		fault()
	}
	settle()
	return r
}

// wanted is how many writes must go through, else a run proves nothing.
func wanted() int { return int(lengthFlag.Seconds() * 5) }

// judge ends a run: everything is well again, so every session must be readable, at
// least the wanted writes must have gone through, and the history must check.
func judge(t *testing.T, h *History, r *Running, node Node) {
	t.Helper()
	r.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := r.Recheck(ctx, node); err != nil {
		t.Errorf("%v\n%s", err, h.Notes())
	}
	tally := h.Tally()
	t.Logf("%+v", tally)
	if tally.Writes < wanted() {
		t.Errorf("only %d writes went through, want %d: this run proves nothing", tally.Writes, wanted())
	}
	if err := h.Check(2 * time.Minute); err != nil {
		t.Error(err)
	}
}

// rest waits for a fault's time; it is what the test is made of, not a wait for
// something to happen.
func rest(d time.Duration) { time.Sleep(d) }

// One server that is killed, stopped, cut off and slowed down loses nothing and tells
// nothing wrong.
func TestOneServerUnderFaults(t *testing.T) {
	t.Parallel() // they mostly wait
	eachSeed(t, func(t *testing.T, seed uint64) {
		c := testcluster.Start(t, testcluster.Dir(t.TempDir()), testcluster.Logger(quiet))
		n := testcluster.NewNetwork(t)
		n.Host(c.Addr(), "server")
		list := nodes(t, n, 3, c.Addr())
		h := New()
		rnd := rand.New(rand.NewPCG(seed, 1))
		underLoad(t, h, Load{Seed: seed, Nodes: list, Pace: 2 * time.Millisecond}, func() {
			rest(time.Duration(20+rnd.IntN(150)) * time.Millisecond)
			who := fmt.Sprintf("node-%d", 1+rnd.IntN(len(list)))
			long := time.Duration(1+rnd.IntN(300)) * time.Millisecond
			switch rnd.IntN(6) {
			case 0:
				h.Note("kill, start")
				c.Kill()
				c.Start()
			case 1:
				h.Note("stop, start")
				c.Stop()
				c.Start()
			case 2:
				h.Note("%s does not reach the server for %v", who, long)
				n.Cut(who, "server")
				rest(long)
			case 3:
				h.Note("the server does not reach %s for %v, then its connections break", who, long)
				n.Cut("server", who)
				rest(long)
				n.Break(func(from, _ string) bool { return from == who })
			case 4:
				h.Note("all connections break")
				n.Break(func(string, string) bool { return true })
			case 5:
				h.Note("what the server says to %s is late", who)
				n.Delay("server", who, 5*time.Millisecond, 20*time.Millisecond)
				rest(long)
			}
			n.MendAll()
		}, func() {})
	})
}

// The same with a server that remembers nothing turns red: what it had acknowledged
// before the kill is gone. So the check sees through all floors.
func TestForgetfulServerIsFound(t *testing.T) {
	c := testcluster.Start(t, testcluster.Logger(quiet)) // no folder: memory only
	n := testcluster.NewNetwork(t)
	list := nodes(t, n, 2, c.Addr())
	h := New()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := Run(ctx, h, Load{Seed: 1, Dataset: dataset, Nodes: list, Life: 1000, Pace: 2 * time.Millisecond})
	for h.Tally().Writes < 100 {
		rest(time.Millisecond) // polls the condition above
	}
	c.Kill()
	c.Start()
	for before := h.Tally().Reads; h.Tally().Reads < before+20; {
		rest(time.Millisecond) // polls the condition above
	}
	cancel()
	r.Wait()
	if err := h.Check(time.Minute); err == nil || !strings.Contains(err.Error(), "not linearizable") {
		t.Errorf("a server forgot what it had acknowledged, and the check says: %v", err)
	}
}
