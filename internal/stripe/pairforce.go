package stripe

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// consider goes on alone where there is no leader any more, and where that is
// allowed: this server was in touch and in sync in this run, and did not sleep.
func (p *pair) consider() {
	now := p.clock()
	partner, both := p.passive()
	p.mu.Lock()
	leaderless := time.Since(p.s.raft.LastContact()) >= p.times.alone
	silent := leaderless && p.watch.alone(now)
	sure := p.watch.sure()
	ever, slept := p.watch.assured > 0, p.watch.late().Round(time.Millisecond)
	left := p.watch.denied || p.follows.Number > 0
	forcing := p.forcing
	// A partner that kept nothing on disk and comes back as a new server has nothing
	// that could be waited for.
	n := p.partner
	gone := leaderless && p.s.root == nil && n.ID != "" && n.ID != string(partner) && len(n.History) == 0
	p.mu.Unlock()
	switch {
	case forcing || !silent && !gone:
		return
	case !both:
		if !p.soleVoter() && p.s.formed.Load() {
			p.trouble("the partner is silent, and as far as this server knows it has no vote beside it: it waits for the partner, or for cluster-tool promote", slog.LevelWarn)
		}
		return
	case gone:
	case left && ever:
		p.trouble("the partner is silent, and had gone on without this server, which lacks changes: "+
			"start the partner, which sets it free; only if that one and its data are gone for good: cluster-tool promote", slog.LevelError)
		return
	case !sure && ever:
		p.trouble(fmt.Sprintf("the partner is silent, and this server slept for %v before, so it may have been removed and lack changes: "+
			"start the partner, which sets it free; only if that one and its data are gone for good: cluster-tool promote", slept), slog.LevelError)
		return
	case !sure:
		p.trouble("the partner is silent, and this server was not in touch with it since its start: it waits for the partner, or for cluster-tool promote", slog.LevelWarn)
		return
	}
	p.force(partner, 1)
}

// maxJitter keeps the terms of two branches of one number apart.
const maxJitter = 1 << 32

// force goes on without a majority: the stand-in votes for the partner. by is the
// distance of the new incarnation from all that this server has heard of.
func (p *pair) force(partner raft.ServerID, by uint64) {
	p.mu.Lock()
	next := Incarnation{
		Number: max(p.kept.History.tip().Number, p.follows.Number) + by, Owner: p.s.id, Forced: true,
		WasActive: p.leads > 0 && p.leads == p.s.raft.CurrentTerm(), Fork: p.s.raft.LastIndex(),
		Began: time.Now().UTC().Truncate(time.Second),
	}
	p.forcing = true
	p.mu.Unlock()
	err := p.granted(next)
	if err == nil {
		err = p.begin(next)
	}
	if err != nil {
		p.mu.Lock()
		p.forcing = false
		p.mu.Unlock()
		p.trouble("this server can't go on alone: "+err.Error(), slog.LevelError)
		return
	}
	p.log.Warn("the partner is gone: this server goes on alone, and a split brain is possible until it is back", "incarnation", next.Number, "entries", next.Fork)
	p.t.standIn(partner, next.Number<<48|rand.Uint64N(maxJitter)<<16)
	p.hurry()
}

// hurry makes raft stand for election now and not after its time-out.
func (p *pair) hurry() {
	for end := p.clock() + 10*p.times.lease; p.s.raft.State() != raft.Leader && p.clock() < end; {
		p.s.stand()
		select {
		case <-p.s.stop:
			return
		case <-time.After(p.times.tick() / 5):
		}
	}
}
