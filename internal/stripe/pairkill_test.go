package stripe

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var pairKillsFlag = flag.Int("pair-kills", 1, "rounds of kill -9 of the active one of a pair, and of its passive")

// pairChild is a server of a pair in a process of its own. It writes whenever it
// is active, and prints what was acknowledged and when it began to read what it
// confirmed, until it is killed.
func pairChild(spec string) {
	fields := strings.Split(spec, " ")
	dir, self, addrs := fields[0], fields[1], fields[2:]
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	cfg := Config{Dir: dir, Durability: EveryWrite, ServerName: self, Self: self, Priority: Availability}
	for i, addr := range addrs {
		cfg.Members = append(cfg.Members, Member{Name: serverName(i), GroupAddr: addr, ClientAddr: "client:1"})
		if serverName(i) == self {
			var err error
			if cfg.Listener, err = net.Listen("tcp", addr); err != nil {
				fail(err)
			}
		}
	}
	l := &ledger{}
	s, err := open(cfg, l, parts{})
	if err != nil {
		fail(err)
	}
	if self == serverName(0) && s.raft.LastIndex() == 0 {
		go s.Form(context.Background())
	}
	var mu sync.Mutex
	say := func(what string, began time.Time, rest string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, began.UnixNano(), rest)
	}
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				if !s.leading.Load() {
					time.Sleep(time.Millisecond)
					continue
				}
				began, op := time.Now(), fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if _, err := do(s, op); err == nil {
					say("ack", began, op)
				}
			}
		}()
	}
	go func() {
		for ; ; time.Sleep(time.Millisecond) {
			began := time.Now()
			if s.Confirm(context.Background()) == nil {
				say("read", began, "")
			}
		}
	}()
	for last := ""; ; time.Sleep(5 * time.Millisecond) {
		_, both := s.pair.passive()
		s.pair.mu.Lock()
		sure := both && s.pair.watch.sure() && s.pair.watch.failed == 0
		s.pair.mu.Unlock()
		if state := fmt.Sprint(s.Status().State, " ", sure); state != last {
			last = state
			say("state", time.Now(), state)
		}
	}
}

// pairProcess is a pairChild as its parent sees it.
type pairProcess struct {
	t    *testing.T
	cmd  *exec.Cmd
	spec string

	mu    sync.Mutex
	state string
	acks  map[string]bool // over all runs
	acted time.Time       // when the last operation began that was acknowledged or read
	heard time.Time       // when the last acknowledgement was read
	pause time.Duration   // the longest between two
	ended chan struct{}
}

func (p *pairProcess) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), "STRIPE_TEST_PAIR="+p.spec)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.ended = make(chan struct{})
	p.mu.Lock()
	p.state = ""
	p.mu.Unlock()
	go func() {
		defer close(p.ended)
		for in := bufio.NewScanner(out); in.Scan(); {
			p.take(in.Text())
		}
	}()
}

func (p *pairProcess) take(line string) {
	f := strings.SplitN(line, " ", 3)
	if len(f) < 3 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	nanos, err := strconv.ParseInt(f[1], 10, 64)
	if f[0] == "error" || err != nil {
		p.t.Error(line)
		return
	}
	began := time.Unix(0, nanos)
	switch f[0] {
	case "state":
		p.state = f[2]
	case "ack":
		p.acks[f[2]] = true
		now := time.Now()
		p.pause, p.heard = max(p.pause, now.Sub(p.heard)), now
		fallthrough
	case "read":
		if began.After(p.acted) {
			p.acted = began
		}
	}
}

func (p *pairProcess) is() string { p.mu.Lock(); defer p.mu.Unlock(); return p.state }

func (p *pairProcess) lastActed() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.acted }

// paused returns the longest pause between two acknowledgements since the last call.
func (p *pairProcess) paused() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.pause
	p.pause = 0
	return d
}

func (p *pairProcess) kill() {
	p.cmd.Process.Kill()
	<-p.ended
	p.cmd.Wait()
}

// FreePort is that of package testcluster, which imports this one: the external test package sets it.
var FreePort func(testing.TB) string

type pairProcesses [2]*pairProcess

func newPairProcesses(t *testing.T) (pair pairProcesses) {
	var addrs []string
	for range pair {
		addrs = append(addrs, net.JoinHostPort("127.0.0.1", FreePort(t)))
	}
	for i := range pair {
		spec := strings.Join(append([]string{t.TempDir(), serverName(i)}, addrs...), " ")
		pair[i] = &pairProcess{t: t, spec: spec, acks: map[string]bool{}}
		pair[i].start()
		t.Cleanup(func() { pair[i].kill() })
	}
	return pair
}

// ready waits until they are a pair and returns the active one first.
func (pair pairProcesses) ready() (active, passive *pairProcess) {
	pair[0].t.Helper()
	if !within(time.Minute, func() bool {
		a, b := pair[0].is(), pair[1].is()
		active, passive = pair[0], pair[1]
		if strings.HasPrefix(b, "ACTIVE") {
			active, passive = passive, active
			a, b = b, a
		}
		return a == "ACTIVE true" && b == "PASSIVE true"
	}) {
		pair[0].t.Fatalf("they do not become a pair: %q and %q", pair[0].is(), pair[1].is())
	}
	return active, passive
}

// goesOn waits until p has begun something after a time, or is suspended: then it slept, as far
// as it knows, and waits for the other one.
func (p *pairProcess) goesOn(after time.Time) bool {
	p.t.Helper()
	if !within(time.Minute, func() bool { return p.lastActed().After(after) || strings.Contains(p.is(), "SUSPENDED") }) {
		p.t.Fatalf("the other does not go on: it is %s", p.is())
	}
	return p.lastActed().After(after)
}

// tries takes a server away until the other one has gone on without it, ten times at most, and
// gives it back in between. A machine that is too busy for that proves nothing.
func (pair pairProcesses) tries(once func(active, passive *pairProcess) bool, back func(active, passive *pairProcess)) (active, passive *pairProcess) {
	pair[0].t.Helper()
	for range 10 {
		active, passive = pair.ready()
		if once(active, passive) {
			return active, passive
		}
		back(active, passive)
	}
	tooBusy(pair[0].t)
	return
}

// A pair as two processes: kill -9 of either, again and again. Nothing that was
// acknowledged is lost, and the other goes on within two seconds.
func TestPairKilled(t *testing.T) {
	t.Parallel()
	pair := newPairProcesses(t)
	var afterActive, afterPassive []time.Duration
	var killed time.Time
	for range *pairKillsFlag {
		a, b := pair.tries(func(a, b *pairProcess) bool {
			killed = time.Now()
			a.kill()
			return b.goesOn(killed)
		}, func(a, _ *pairProcess) { a.start() })
		afterActive = append(afterActive, b.lastActed().Sub(killed))
		a.start()
		a, b = pair.tries(func(a, b *pairProcess) bool {
			killed = time.Now()
			a.paused()
			b.kill()
			return a.goesOn(killed.Add(defaultPairAlone / 2))
		}, func(_, b *pairProcess) { b.start() })
		afterPassive = append(afterPassive, a.paused())
		b.start()
	}
	a, b := pair.ready()
	slices.Sort(afterActive)
	slices.Sort(afterPassive)
	n := len(afterActive)
	t.Logf("%d rounds: after the active was killed the next operation began after %v (median), %v (worst); after the passive it paused for %v, %v",
		n, afterActive[n/2], afterActive[n-1], afterPassive[n/2], afterPassive[n-1])
	a.kill()
	b.kill()
	// Either has everything.
	for _, p := range pair {
		count := map[string]bool{}
		for _, op := range pairLedger(t, strings.Split(p.spec, " ")[0]) {
			if count[op] {
				t.Errorf("%q is there twice", op)
			}
			count[op] = true
		}
		missing := 0
		for _, q := range pair {
			for op := range q.acks {
				if !count[op] {
					missing++
				}
			}
		}
		if missing > 0 {
			t.Errorf("%d of %d acknowledged changes are not in %s", missing, len(pair[0].acks)+len(pair[1].acks), p.spec)
		}
	}
}

// pairLedger returns everything in a server's log and snapshots.
func pairLedger(t *testing.T, dir string) []string {
	t.Helper()
	l := &ledger{}
	c := &checker{ctx: t.Context(), dir: dir, m: l}
	if err := c.run(); err != nil || len(c.Faults) > 0 {
		t.Fatal(err, c.Faults)
	}
	return l.list()
}
