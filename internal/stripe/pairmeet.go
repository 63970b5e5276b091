package stripe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// asking asks the partner all the time: raft's messages alone don't tell whether
// it lives, in which incarnation it is, and whether it counts this server in.
func (p *pair) asking() {
	defer p.s.work.Done()
	tick := time.NewTicker(p.times.every())
	defer tick.Stop()
	for first := true; ; first = false {
		if !p.s.withdrawn.Load() { // else the partner is to hear nothing
			p.askOnce()
		}
		if first {
			close(p.asked)
		}
		select {
		case <-p.s.stop:
			return
		case <-tick.C:
		}
	}
}

func (p *pair) askOnce() {
	p.mu.Lock()
	sent, slept := p.clock(), p.watch.slept
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), p.times.answer())
	n, err := p.ask(ctx, p.note())
	cancel()
	p.mu.Lock()
	if err != nil {
		p.watch.lost(p.clock())
	}
	p.mu.Unlock()
	if err == nil && p.meet(n) {
		accord := p.accord(n)
		p.mu.Lock()
		p.watch.answered(sent, slept, p.clock(), accord)
		if accord == inAccord {
			p.fails = ""
		}
		p.mu.Unlock()
	}
	p.proveDisk()
}

// note is what this server tells its partner.
func (p *pair) note() note {
	n := note{ID: p.s.id, Run: p.s.run, Last: p.s.raft.LastIndex(), Leads: p.s.raft.State() == raft.Leader, Serves: p.s.leading.Load()}
	n.Voters = votersOf(p.configuration())
	if m := p.s.fsm.members.Load(); m != nil {
		n.Config = m.index
		// One that was not agreed to yet counts as little as one that was removed.
		n.Voters = slices.DeleteFunc(n.Voters, func(id raft.ServerID) bool { return !slices.Contains(m.voters, id) })
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n.History, n.Follows = p.kept.History, p.follows
	n.Service = max(p.kept.Service, noService)
	n.Hangs = p.s.stalled.Load() != nil
	now := p.clock()
	n.Able = !n.Hangs && p.proved > 0 && now-p.proved < p.times.alone && p.follows.Number == 0 && (n.Serves || p.watch.sureAt(now))
	return n
}

// answer is called for a question of the partner's; nil where there is no answer yet.
func (p *pair) answer(h hello) *note {
	if !p.ready.Load() || p.s.withdrawn.Load() || h.Name == p.s.cfg.Self || h.ID == p.s.id || h.Stripe != "" && h.Stripe != p.s.stripe() {
		return nil
	}
	p.meet(*h.Pair)
	p.mu.Lock()
	p.watch.heard = p.clock()
	p.mu.Unlock()
	n := p.note()
	return &n
}

// proveDisk writes what is kept once more where the partner's disk hangs: both may be on one that does.
func (p *pair) proveDisk() {
	p.mu.Lock()
	hangs := p.partner.Hangs && p.watch.failed == 0
	p.mu.Unlock()
	if !hangs || p.keep(func(*saved) bool { return true }) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proved = p.clock()
}

// replaces reports whether the partner would go on if this server fell silent, as it said a moment ago.
func (p *pair) replaces() bool {
	if _, both := p.passive(); !both {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.partner
	return n.Able && n.History.tip().same(p.kept.History.tip()) && p.refusesLocked() == nil && !p.removes &&
		p.watch.failed == 0 && p.clock()-p.watch.heard < p.times.alone
}

// askPartner asks the other configured server.
func (s *Stripe) askPartner(ctx context.Context, n note) (note, error) {
	var errs []error
	for _, m := range s.cfg.Members {
		if m.Name == s.cfg.Self {
			continue
		}
		conn, v, err := s.group.dialAs(ctx, m.GroupAddr, hello{Purpose: forAsk, Pair: &n})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		conn.Close()
		switch a := v.Answer; {
		case a == nil || a.Pair == nil:
			errs = append(errs, fmt.Errorf("server %q does not answer as the partner of a pair", m.Name))
		case a.Stripe != "" && s.stripe() != "" && a.Stripe != s.stripe():
			errs = append(errs, fmt.Errorf("server %q is of another stripe", m.Name))
		default:
			return *a.Pair, nil
		}
	}
	return note{}, errors.Join(errs...)
}

// accord tells what the note of a partner means for whether the two are a pair.
func (p *pair) accord(n note) accord {
	p.mu.Lock()
	same := n.History.tip().same(p.kept.History.tip()) && p.follows.Number == 0 && n.Follows.Number == 0
	p.mu.Unlock()
	leads := p.s.raft.State() == raft.Leader
	switch {
	case !leads && (!same || !slices.Contains(n.Voters, raft.ServerID(p.s.id))):
		return left
	case same && leads && !n.Leads, same && n.Leads && !leads && p.inSync(n):
		return inAccord
	}
	return undecided
}

// meet compares this server's history with the partner's, and stops whoever has to
// give way. Both sides come to the same result by themselves. It reports whether n is
// the partner's latest word.
func (p *pair) meet(n note) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.outdated(p.partner) {
		return false
	}
	p.partner = n
	if p.lostTo == nil {
		p.compareLocked(n)
	}
	return true
}

func (p *pair) compareLocked(n note) {
	ours, theirs := p.kept.History.tip(), n.History.tip()
	switch {
	case ours.same(theirs):
		p.split = false // the partner has set its data aside, and has ours now
		p.followLocked(Incarnation{})
	case n.History.contains(ours):
		if p.soleVoter() && ours.Number > 0 {
			// What it has beyond the partner's data is applied, and raft would not take it back.
			p.loseLocked(theirs)
			return
		}
		p.followLocked(theirs)
	case p.kept.History.contains(theirs):
		p.followLocked(Incarnation{})
	case ours.beats(theirs, max(p.kept.Service, noService), n.Service):
		if !p.split {
			p.split = true
			p.log.Error("split brain: the partner went on by itself too; its data is set aside and this server's is kept", "incarnation", ours.String(), "partner", theirs.String())
		}
	default:
		p.loseLocked(theirs)
	}
}

// followLocked makes this server catch up with the partner's incarnation; with the
// zero one, it is in its own.
func (p *pair) followLocked(i Incarnation) {
	if p.follows.same(i) {
		return
	}
	p.follows = i
	if i.Number == 0 {
		p.t.setTip(p.kept.History.tip())
		return
	}
	p.log.Info("the partner went on without this server, which follows it now", "incarnation", i.String())
	p.s.leading.Store(false)
	p.s.sole.Store(false)
	p.s.confirmer.revoke()
	p.t.setTip(i)
	go p.s.changed()
}

// loseLocked ends this server's service: the partner's data is kept. Close then
// lists what is lost, and the next Open sets the data aside.
func (p *pair) loseLocked(to Incarnation) {
	p.lostTo = &to
	p.s.fsm.gate.close()
	p.s.leading.Store(false)
	p.s.sole.Store(false)
	p.s.confirmer.revoke()
	p.log.Error("split brain: the partner's data is kept; this server's is set aside, and what was changed here is listed", "incarnation", p.kept.History.tip().String(), "partner", to.String())
	p.s.lose()
	go p.s.changed()
}

func (p *pair) isLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lostTo != nil
}

// admits says whether a message may pass to raft: one of another incarnation may
// not, nor one of a server that this one's configuration does not know.
func (p *pair) admits(id string, tip Incarnation) error {
	if !p.ready.Load() {
		return errors.New("this server is starting")
	}
	p.mu.Lock()
	ours := p.kept.History.tip()
	if p.follows.Number > 0 {
		ours = p.follows
	}
	lost, partner := p.lostTo != nil, p.partner.ID
	p.mu.Unlock()
	switch {
	case lost:
		return errors.New("this server's data is about to be set aside")
	case p.s.withdrawn.Load():
		return errHushed
	case !ours.same(tip):
		return fmt.Errorf("this server is in incarnation %v, and the message is of incarnation %v", ours, tip)
	case id == partner:
		return nil
	}
	known, self := false, false
	for _, server := range p.configuration().Servers {
		known = known || string(server.ID) == id
		self = self || string(server.ID) == p.s.id
	}
	if self && !known { // one that joins replays configurations that it is not in
		return fmt.Errorf("server %.8s is not of this stripe", id)
	}
	return nil
}

// promote makes a suspended server go on alone, on the word of an operator. Its
// incarnation is beyond any that its partner can have begun without it.
func (p *pair) promote(ctx context.Context) error {
	p.mu.Lock()
	silent := p.watch.failed > 0 && p.clock()-p.watch.heard >= p.times.answer()
	doubt, forcing, lost := p.kept.Doubt, p.forcing, p.lostTo != nil
	p.mu.Unlock()
	partner, both := p.passive()
	switch {
	case lost:
		return badRequest("the partner's data is newer: this server joins it")
	case forcing:
	case !silent:
		return badRequest("the other server of the pair answers: it is not suspended because of it")
	case doubt && p.soleVoter():
		next := p.aloneNow(p.s.raft.LastIndex())
		next.Number++
		p.goneAlone(next)
		p.s.becomeActive()
	case !both:
		return badRequest("this server was removed from the stripe by its partner, whose data is newer: start that one")
	default:
		p.force(partner, 2)
	}
	return p.s.waitActive(ctx)
}

func badRequest(text string) *wire.Error {
	return &wire.Error{Word: wire.ErrBadRequest, Text: text}
}

// mayJoin reports whether this server may ask to become a member of the stripe
// again: its data is the beginning of the partner's.
func (p *pair) mayJoin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := p.kept.History.tip()
	return p.lostTo == nil && p.partner.ID != "" && (p.follows.Number > 0 || ours.same(p.partner.History.tip()))
}

// mayVote reports whether a server that has caught up may get its vote: it has
// written down in which incarnation it is, and this server the number of the next.
func (p *pair) mayVote(id string) bool {
	p.mu.Lock()
	n, tip := p.partner, p.kept.History.tip()
	p.mu.Unlock()
	if n.ID != id || tip.Number == 0 || n.Follows.Number > 0 || !n.History.tip().same(tip) {
		return false
	}
	if err := p.reserve(); err != nil {
		p.trouble("the passive can't get its vote: "+err.Error(), slog.LevelWarn)
		return false
	}
	return true
}

// standing is that of a server that waits for its partner where raft's own view does
// not show it; the zero one where it does.
func (p *pair) standing() standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	why := p.fails
	switch silent := p.watch.failed > 0 && p.watch.alone(now); {
	case p.lostTo != nil:
		return suspended(wire.StateStartSuspended, "a split brain: the partner's data is kept, and this server's is about to be set aside")
	case p.kept.Doubt:
		return suspended(wire.StateActiveSuspended, "it removed its partner too late to be certain that that one has not gone on by itself: it waits for the partner, or for cluster-tool promote")
	case !silent || !p.s.formed.Load():
		return standing{}
	case p.forcing && p.s.leaderless() > p.s.suspendedAfter():
		why = "the partner is gone, and this server tries to go on alone: it is not elected yet"
	case p.forcing, why == "" && p.watch.sure():
		return standing{} // it goes on in a moment
	case why == "":
		why = "the partner is silent: this server waits for it, or for cluster-tool promote"
	}
	switch {
	case p.s.served.Load() && p.s.wasActive.Load():
		return suspended(wire.StateActiveSuspended, why)
	case p.watch.assured > 0:
		return suspended(wire.StatePassiveSuspended, why)
	case !p.asksFirst():
		return suspended(wire.StateStartSuspended, why)
	}
	return standing{}
}

// isSure reports whether this server knows now that it has all that its partner can
// have acknowledged.
func (p *pair) isSure() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.follows.Number == 0 && p.watch.sureAt(p.clock())
}

// asksFirst reports whether this server is still asking its partner after its start.
func (p *pair) asksFirst() bool {
	select {
	case <-p.asked:
		return false
	default:
		return true
	}
}

// status adds to st what only a pair has.
func (p *pair) status(st *Status) {
	serves, tip := p.s.active(), p.s.fsm.history().tip()
	alone := serves && p.soleVoter()
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Incarnation = max(tip.Number, p.kept.History.tip().Number)
	st.Alone = alone && st.Incarnation > 1
	st.SplitBrainPossible = st.Alone && p.watch.failed > 0
	st.SplitBrain = p.split
	if !serves && st.Waiting == "" {
		st.Waiting = p.fails
	}
}
