//go:build unix

package history

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Two processes, of which one is killed, paused or stopped in order, then in sync
// again before the next.
func TestPairOfProcessesUnderFaults(t *testing.T) {
	t.Parallel() // they mostly wait
	eachSeed(t, func(t *testing.T, seed uint64) {
		oneFaultAtATime(t, func() (time.Duration, []string) {
			late := lateness(t)
			p := startProcessesOf(t, 2, "availability")
			p.awaitTogether()
			n := testcluster.NewNetwork(t)
			h := New()
			list := nodes(t, n, 3, p.addrs...)
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := suffer(t, h, Load{Seed: seed, Nodes: list, Pace: 3 * time.Millisecond}, func() {
				rest(time.Duration(rnd.IntN(200)) * time.Millisecond)
				i, who := p.active(rnd), "the active"
				if rnd.IntN(3) == 0 {
					i, who = 1-i, "the passive"
				}
				p.harm(h, rnd, i, who, time.Duration(50+rnd.IntN(2000))*time.Millisecond)
				p.awaitTogether()
			}, func() {})
			aside := p.asides()
			if len(aside) > 0 {
				r.Wait()
			} else {
				judge(t, h, r, list[0])
			}
			return late(), aside
		})
	})
}

// awaitTogether waits until both servers of a pair are in sync and know it.
func (p *processes) awaitTogether() {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; rest(10 * time.Millisecond) { // polls
		actives, voters := 0, 0
		for i := range p.running {
			st := p.status(i)
			if st.State == wire.StateActive {
				actives++
			}
			if st.State == wire.StateActive && !slices.ContainsFunc(st.Members, func(m wire.MemberStatus) bool { return !m.Voter || !wire.InService(m.State) }) {
				voters = len(st.Members)
			}
			if !wire.InService(st.State) {
				actives = -len(p.running)
			}
		}
		if actives == 1 && voters == len(p.running) {
			break
		}
		if time.Now().After(deadline) {
			for i := range p.running {
				p.t.Logf("%+v", p.status(i))
			}
			p.t.Fatal("the servers are no pair again after a minute")
		}
	}
	rest(300 * time.Millisecond) // until the passive has asked, and heard that it is one
}

// asides are the folders of what the servers have set aside.
func (p *processes) asides() (folders []string) {
	p.t.Helper()
	err := filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), "aside-") {
			folders = append(folders, path)
		}
		return err
	})
	if err != nil {
		p.t.Error(err)
	}
	return folders
}

// A split brain of two processes, told step by step: the active one is paused, its
// passive goes on alone, acknowledges a change and is killed; the first one wakes and is
// promoted. The other one then finds that its data is not kept: in the same process it
// sets that aside, lists the change and starts again as a passive.
func TestPairOfProcessesAfterASplitBrain(t *testing.T) {
	t.Parallel() // they mostly wait
	p := startProcessesOf(t, 2, "availability")
	p.awaitTogether()
	nodes(t, testcluster.NewNetwork(t), 1, p.addrs...) // opens the dataset
	rnd := rand.New(rand.NewPCG(1, 1))
	first := p.active(rnd)
	p.create(first, "of both")
	for try := 1; ; try++ {
		first = p.active(rnd)
		p.pause(first)
		if p.await("the other goes on, or knows that it slept", func() bool {
			return p.serves(1-first) || strings.HasSuffix(p.state(1-first), "SUSPENDED")
		}); p.serves(1 - first) {
			break
		}
		if try == 30 {
			t.Fatal("this machine is too busy: the passive sleeps whenever it should not")
		}
		p.wake(first)
		p.awaitTogether()
	}
	second := 1 - first
	p.create(second, "of the second")
	p.kill(second)
	p.wake(first)
	p.await("the first is suspended, because it slept", func() bool { return strings.HasSuffix(p.state(first), "SUSPENDED") })
	p.await("it is promoted", func() bool {
		if st := p.status(first); strings.HasSuffix(st.State, "SUSPENDED") && st.Waiting == "" {
			t.Fatalf("it is %s, and does not say why", st.State)
		}
		p.promote(first)
		return p.serves(first)
	})
	p.create(first, "of the first")

	p.start(second)
	process := p.running[second].Process
	p.awaitTogether()
	if process.Signal(syscall.Signal(0)) != nil {
		t.Error("the process has ended")
	}
	said := p.out[second].String()
	for _, want := range []string{"split brain: the partner's data is kept", "terracotta-server has stopped", "the data of this server is set aside"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	p.await("the first is active, the second passive", func() bool { // a busy machine may part them once more
		return p.state(first) == wire.StateActive && p.state(second) == wire.StatePassive
	})
	for key, want := range map[string]bool{"of both": true, "of the first": true, "of the second": false} {
		if got := p.has(first, key); got != want {
			t.Errorf("%q is there: %t", key, got)
		}
	}
	lists, err := filepath.Glob(filepath.Join(p.dir, fmt.Sprintf("tc%d", second+1), "*", "aside-*", "lost.jsonl"))
	if err != nil || len(lists) != 1 {
		t.Fatalf("lists of what is lost: %q, %v", lists, err)
	}
	if list, err := os.ReadFile(lists[0]); err != nil || !strings.Contains(string(list), `"key":"of the second"`) || strings.Contains(string(list), "of both") {
		t.Errorf("%s, %v", list, err)
	}
	if w := strings.Join(p.status(second).Warnings, "; "); !strings.Contains(w, "a split brain has cost 1 changed sessions here") {
		t.Errorf("it warns %q", w)
	}
}

// await polls for at most a minute.
func (p *processes) await(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); rest(10 * time.Millisecond) { // polls
		if time.Now().After(deadline) {
			for i := range p.running {
				if p.running[i] != nil {
					p.t.Logf("%+v", p.status(i))
				}
			}
			p.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// serves reports whether a server serves data.
func (p *processes) serves(i int) bool {
	state := p.state(i)
	return state == wire.StateActive || state == wire.StateActiveReconnecting
}

// with lets a node of one server do something, and leave.
func (p *processes) with(i int, do func(ctx context.Context, node *client.Client) error) {
	p.t.Helper()
	c, err := client.New(client.Options{Hosts: p.addrs[i : i+1], Node: true, Logger: quiet})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	if err := do(ctx, c); err != nil {
		p.t.Fatal(err)
	}
}

// create creates a session on one server.
func (p *processes) create(i int, key string) {
	p.t.Helper()
	p.with(i, func(ctx context.Context, node *client.Client) error {
		_, err := node.Create(ctx, &wire.Create{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(key)},
			Set: []wire.Attribute{{Name: []byte("a"), Value: []byte("v")}}})
		return err
	})
}

// has reports whether a server has a session.
func (p *processes) has(i int, key string) (is bool) {
	p.t.Helper()
	p.with(i, func(ctx context.Context, node *client.Client) error {
		_, err := read(ctx, node, key)
		if is = err == nil; wire.Is(err, wire.ErrSessionUnknown) {
			return nil
		}
		return err
	})
	return is
}

// promote asks a server to go on alone. It may refuse: then its state tells.
func (p *processes) promote(i int) {
	c, err := client.New(client.Options{Hosts: p.addrs[i : i+1], Logger: quiet})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := c.Do(ctx, false, []byte(wire.CmdPromote)); err != nil {
		p.t.Logf("promote: %v", err)
	}
}
