package stripe

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// goAlone removes the passive and goes on without it. Until it is certain that the
// passive has not gone on by itself first, nobody is told anything.
func (p *pair) goAlone(partner raft.ServerID) {
	if err := p.reserve(); err != nil {
		p.trouble("the passive is lost, and this server can't go on alone: "+err.Error(), slog.LevelError)
		return
	}
	next := p.aloneNow(p.s.raft.LastIndex())
	if err := p.granted(next); err != nil {
		p.trouble("the passive is lost, and this server may not go on alone: "+err.Error(), slog.LevelError)
		return
	}
	p.writing.Lock() // from here on nothing may wait for the disk
	writing := true
	defer func() {
		if writing {
			p.writing.Unlock()
		}
	}()
	if now := p.clock(); now-p.verified >= p.times.lease {
		return
	}
	// While another change waits to be agreed on, nothing can be removed.
	if !p.s.changing.TryLock() {
		return
	}
	defer p.s.changing.Unlock()
	before := p.configuration()
	after := before.Clone()
	after.Servers = slices.DeleteFunc(after.Servers, func(m raft.Server) bool { return m.ID == partner })
	p.mu.Lock()
	p.removes = true
	p.mu.Unlock()
	p.s.fsm.gate.close()
	p.s.contact.require(before, after) // reads wait until it is certain
	// Raft answers once the state machine has heard of it, which waits at the gate
	// for what was in flight; but it is done as soon as it is in the log.
	removed := make(chan error, 1)
	go func() { removed <- p.s.raft.RemoveServer(partner, 0, p.times.lease).Error() }()
	var err error
	for waits := true; waits && !p.soleVoter(); {
		select {
		case err = <-removed:
			waits = false
		case <-p.s.stop:
			return
		case <-time.After(time.Millisecond):
		}
	}
	switch {
	case !p.soleVoter():
		p.mu.Lock()
		p.removes = false
		p.mu.Unlock()
		p.s.contact.require(before)
		p.s.fsm.gate.open() // nothing was changed
		p.trouble("the passive is lost, and could not be removed: "+errorText(err), slog.LevelWarn)
		return
	case p.clock()-p.verified >= p.times.certain():
		p.writing.Unlock()
		writing = false
		p.doubt()
		return
	}
	p.aloneLocked(next)
	p.writing.Unlock()
	writing = false
	p.tellAlone(next)
}

// goneAlone is for a server that is its only voter already.
func (p *pair) goneAlone(next Incarnation) {
	p.writing.Lock()
	p.aloneLocked(next)
	p.writing.Unlock()
	p.tellAlone(next)
}

// aloneLocked opens the gate to a server that is its only voter, and the only one
// of the two. It holds p.writing and waits for no disk: the number is reserved
// there, and the log says that this server is the only voter.
func (p *pair) aloneLocked(next Incarnation) {
	p.served.begin(0, p.clock(), p.times.alone)
	p.mu.Lock()
	p.kept = saved{History: p.kept.History.with(next)}
	p.follows, p.removes = Incarnation{}, false
	p.mu.Unlock()
	p.t.setTip(next)
	p.s.contact.require(p.configuration())
	p.s.sole.Store(true)
	p.s.confirmer.revoke() // those who wait for the partner's word wait no more
	p.s.fsm.gate.open()
}

// tellAlone puts the incarnation into the log and onto the disk.
func (p *pair) tellAlone(next Incarnation) {
	p.log.Warn("the passive is lost: this server goes on alone, and a split brain is possible until it is back", "incarnation", next.Number)
	if err := p.record(next); err != nil {
		p.log.Debug("the incarnation is put into the log by the next activation", "error", err)
	}
	if err := p.keep(func(*saved) bool { return true }); err != nil {
		p.trouble("the incarnation can't be written: "+err.Error(), slog.LevelWarn)
	}
	p.s.changed()
}

// record puts an incarnation into the log.
func (p *pair) record(i Incarnation) error {
	return p.await(p.s.raft.Apply(incarnationEntry(i), enqueueTimeout))
}

// doubt stops this server: its partner is removed, but so late that it may have
// gone on before.
func (p *pair) doubt() {
	p.mu.Lock()
	p.kept.Doubt, p.removes = true, false // also where it can't be written
	p.s.leading.Store(false)
	p.s.sole.Store(false)
	p.mu.Unlock()
	if err := p.keep(func(*saved) bool { return true }); err != nil {
		p.log.Warn("that this server is in doubt can't be written", "error", err)
	}
	p.log.Error("the passive was removed too late: it may have gone on by itself, so this server waits for it, or for cluster-tool promote")
	p.s.changed()
}

// resolveDoubt goes on once the partner has said that it did not.
func (p *pair) resolveDoubt() {
	p.mu.Lock()
	n, now := p.partner, p.clock()
	same := n.History.tip().same(p.kept.History.tip()) && n.Follows.Number == 0 && !n.Leads
	heard := p.watch.assured > 0 && now-p.watch.assured < p.times.certain()
	p.mu.Unlock()
	if same && heard && p.soleVoter() {
		p.goneAlone(p.aloneNow(p.s.raft.LastIndex()))
		p.s.becomeActive()
	}
}

func (p *pair) granted(i Incarnation) error {
	if p.grant == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.times.answer())
	defer cancel()
	return p.grant(ctx, i)
}
