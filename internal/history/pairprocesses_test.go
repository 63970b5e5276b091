//go:build unix

package history

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Two processes, of which one is killed, paused or stopped in order, then in sync
// again before the next.
func TestPairOfProcessesUnderFaults(t *testing.T) {
	t.Parallel() // they mostly wait
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := startProcessesOf(t, 2, "availability")
		p.awaitTogether()
		n := testcluster.NewNetwork(t)
		h := New()
		list := nodes(t, n, 3, p.addrs...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := Run(ctx, h, Load{Seed: seed, Dataset: dataset, Nodes: list, Pace: 3 * time.Millisecond})
		rnd := rand.New(rand.NewPCG(seed, 1))
		for more := lasts(h); more(); {
			rest(time.Duration(rnd.IntN(200)) * time.Millisecond)
			i, who := p.active(rnd), "the active"
			if rnd.IntN(3) == 0 {
				i, who = 1-i, "the passive"
			}
			long := time.Duration(50+rnd.IntN(2000)) * time.Millisecond
			if rnd.IntN(2) == 0 {
				h.Note("%s, tc%d, is killed for %v", who, i+1, long)
				p.kill(i)
				rest(long)
				p.start(i)
			} else {
				h.Note("%s, tc%d, is paused for %v", who, i+1, long)
				p.pause(i)
				rest(long)
				p.wake(i)
			}
			h.Note("tc%d is there again", i+1)
			p.awaitTogether()
		}
		cancel()
		judge(t, h, r, list[0])
		p.mustHaveLostNothing()
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

// mustHaveLostNothing fails where a server has set data aside.
func (p *processes) mustHaveLostNothing() {
	p.t.Helper()
	err := filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), "aside-") {
			p.t.Errorf("%s was set aside", path)
		}
		return err
	})
	if err != nil {
		p.t.Error(err)
	}
}
