package stripe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// How often the keeper looks.
const (
	tendInterval = 50 * time.Millisecond  // while a server catches up
	lookInterval = 250 * time.Millisecond // while this server belongs nowhere, or knows no active one
	idleInterval = 5 * time.Second        // otherwise
	watchPause   = 100 * time.Millisecond // between looks at this server's own state
)

// caughtUp is how many entries a server may lack when it gets its vote.
const caughtUp = 64

// keeper keeps the membership in order: on the active server it gives a vote to
// those that have caught up; elsewhere it finds the stripe.
func (s *Stripe) keeper() {
	var looked time.Time
	since := time.Now()
	for {
		pause, every := watchPause, idleInterval
		switch {
		case s.leading.Load():
			if s.tend() {
				pause = tendInterval
			}
			s.raiseFormat()
		case !s.formed.Load() || s.diverged.Load() != nil || s.leaderless() > s.cfg.Timers.Heartbeat:
			every = lookInterval
		}
		if time.Since(looked) >= every {
			s.look(since)
			looked = time.Now()
		}
		select {
		case <-s.stop:
			return
		case <-s.woken:
		case <-time.After(pause):
		}
	}
}

// lookout follows what becomes of this server where raft does not tell, and of
// the others where it must be said.
func (s *Stripe) lookout() {
	tick := time.NewTicker(s.cfg.Timers.Heartbeat / 20)
	defer tick.Stop()
	last := ""
	away := map[string]bool{} // identities of servers that were said to be away
	for {
		s.takeNotice()
		s.watchSilence()
		if state := s.state(); state != last {
			last = state
			s.changed()
		}
		s.sayWhoIsAway(away)
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
	}
}

// sayWhoIsAway logs once that a server went away, and that it came back.
func (s *Stripe) sayWhoIsAway(away map[string]bool) {
	if !s.leading.Load() {
		clear(away)
		return
	}
	config, err := s.configuration()
	if err != nil {
		return
	}
	s.sayOf(config, away)
}

// sayOf does so for the members of config. Two of them have one name while a server
// with a new data root takes the place of its former self.
func (s *Stripe) sayOf(config raft.Configuration, away map[string]bool) {
	for _, m := range config.Servers {
		name, id := splitAddress(m.Address)
		_, ago := s.contact.of(m.ID)
		switch lost := ago > 2*s.cfg.Timers.Heartbeat; {
		case id == s.id || ago < 0 || lost == away[id]:
			continue
		case lost:
			s.log.Warn("a passive server does not answer", "name", name, "server-id", id, "voters", len(votersOf(config)))
		default:
			s.log.Info("a passive server is back", "name", name, "server-id", id)
		}
		away[id] = !away[id]
		s.changed()
	}
}

// wake makes the keeper look now.
func (s *Stripe) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// takeNotice follows what raft learns from the active server.
func (s *Stripe) takeNotice() {
	config, err := s.configuration()
	if err != nil {
		return
	}
	if len(config.Servers) > 0 {
		s.formed.Store(true)
	}
	_, id := s.raft.LeaderWithID()
	if id == "" {
		return
	}
	s.led.Store(int64(s.contact.mono()))
	s.wasActive.Store(string(id) == s.id)
	if string(id) == s.id {
		s.synced.Store(true)
		return
	}
	s.met.Store(true)
	if s.fsm.timed.Load() == s.raft.CurrentTerm() { // what is only read from the log again tells of former times
		s.counts.Store(true)
	}
	voter := slices.Contains(votersOf(config), raft.ServerID(s.id))
	s.synced.Store(voter && hasAll(s.raft.AppliedIndex(), s.raft.CommitIndex(), s.told(), s.synced.Load()))
}

// hasAll reports whether a server that applied the log up to applied has all but
// the newest of what was agreed. committed is what it knows to be agreed of its own
// log; told is up to where the active one said that all agree, which is far more
// where this server was away for long. Once it has all it may lag a little: else it
// would seem to fall back whenever much is written.
func hasAll(applied, committed, told uint64, already bool) bool {
	room := uint64(caughtUp)
	if already {
		room *= 16
	}
	return applied > 0 && committed > 0 && applied+room >= max(committed, told)
}

// leaderless returns for how long this server has known no active one.
func (s *Stripe) leaderless() time.Duration {
	return s.contact.mono() - time.Duration(s.led.Load())
}

// change changes the configuration by one server. next returns the one after it,
// and who asks raft for it; nil where nothing is to be done. Leases need the
// majority of both until it is certain.
func (s *Stripe) change(next func(raft.Configuration) (raft.Configuration, func() raft.IndexFuture)) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old, err := s.configuration()
	if err != nil {
		return err
	}
	to, ask := next(old)
	if ask == nil {
		return nil
	}
	s.contact.require(old, to)
	s.sole.Store(onlyVoter(old, s.id) && onlyVoter(to, s.id))
	s.confirmer.revoke()
	err = ask().Error()
	now, gone := s.configuration()
	if gone != nil {
		return errors.Join(err, gone)
	}
	if err != nil {
		s.contact.require(old, to, now)
		return err
	}
	s.contact.require(now)
	s.sole.Store(onlyVoter(now, s.id))
	s.confirmer.revoke()
	s.changed()
	return nil
}

func onlyVoter(c raft.Configuration, id string) bool {
	v := votersOf(c)
	return len(v) == 1 && string(v[0]) == id
}

// tend is the active server's care for the others. It reports whether some have
// yet to catch up.
func (s *Stripe) tend() (more bool) {
	config, err := s.configuration()
	if err != nil {
		return false
	}
	for _, m := range config.Servers {
		if err := s.rename(m); err != nil {
			s.log.Debug("could not note a server's name", "server-id", m.ID, "error", err)
		}
		if m.Suffrage == raft.Voter {
			continue
		}
		more = true
		last, ago := s.contact.of(m.ID)
		if ago < 0 || ago > s.cfg.Timers.Heartbeat || last == 0 || last+caughtUp < s.raft.LastIndex() {
			continue
		}
		if s.pair != nil && !s.pair.mayVote(string(m.ID)) {
			continue
		}
		if err := s.promote(m); err != nil && !s.closing.Load() {
			s.group.complain("promote"+string(m.ID), "a server that caught up could not get its vote", "server-id", m.ID, "error", err)
		}
	}
	return more
}

// rename notes the name under which a server runs now.
func (s *Stripe) rename(m raft.Server) error {
	name := s.cfg.Self
	if string(m.ID) != s.id {
		p, ok := s.group.about(string(m.ID))
		if !ok {
			return nil
		}
		name = p.Name
	}
	address := raftAddress(name, string(m.ID))
	if m.Address == address {
		return nil
	}
	return s.change(func(c raft.Configuration) (raft.Configuration, func() raft.IndexFuture) {
		return c, func() raft.IndexFuture { // of a voter it changes the address only
			return s.raft.AddNonvoter(m.ID, address, 0, joinPatience)
		}
	})
}

// promote gives m a vote, after it has taken it from the server that m replaces:
// the one of the same name, whose disk is gone.
func (s *Stripe) promote(m raft.Server) error {
	name, _ := splitAddress(m.Address)
	config, err := s.configuration()
	if err != nil {
		return err
	}
	for _, old := range config.Servers {
		if oldName, _ := splitAddress(old.Address); oldName != name || old.ID == m.ID {
			continue
		}
		if s.inTouch(old.ID) {
			return fmt.Errorf("two servers are named %q, and both are alive", name)
		}
		if s.pair != nil && old.Suffrage == raft.Voter {
			return errors.New("the server that it replaces has its vote still")
		}
		if err := s.removeMember(old.ID); err != nil {
			return err
		}
		s.log.Warn("a server was replaced by one of the same name with a new data root", "name", name, "server-id", old.ID, "by", m.ID)
	}
	err = s.change(func(c raft.Configuration) (raft.Configuration, func() raft.IndexFuture) {
		next := c.Clone()
		for i := range next.Servers {
			if next.Servers[i].ID == m.ID {
				next.Servers[i].Suffrage = raft.Voter
			}
		}
		return next, func() raft.IndexFuture {
			return s.raft.AddVoter(m.ID, m.Address, 0, joinPatience)
		}
	})
	if err == nil {
		s.log.Info("a server has caught up and counts for the majority", "name", name, "server-id", m.ID)
	}
	return err
}

func (s *Stripe) removeMember(id raft.ServerID) error {
	return s.change(func(c raft.Configuration) (raft.Configuration, func() raft.IndexFuture) {
		next := raft.Configuration{}
		for _, m := range c.Servers {
			if m.ID != id {
				next.Servers = append(next.Servers, m)
			}
		}
		return next, func() raft.IndexFuture { return s.raft.RemoveServer(id, 0, joinPatience) }
	})
}

// Leave is for a server that is about to be stopped: of a pair it does not go on alone from now on, as what it
// acknowledged then would be gone with it where its partner is only slow, and goes on in its turn. It may be called at any time.
func (s *Stripe) Leave() { s.leaving.Store(true) }

// handOverPatience bounds the wait for what is being agreed when a hand-over begins,
// and that for the other one to be active at its end.
const handOverPatience = time.Second

// HandOver makes the passive server that is furthest the active one, so that this
// one can be stopped without a request failing. It returns when this server is
// not active any more and, unless that takes too long, another one has become it; nil
// at once where it is not, or where there is no other. On error this server is still active.
func (s *Stripe) HandOver(ctx context.Context) error {
	if !s.leading.Load() || s.sole.Load() {
		return nil
	}
	config, err := s.configuration()
	if err != nil {
		return err
	}
	var to *raft.Server
	var furthest uint64
	for _, m := range config.Servers {
		last, _ := s.contact.of(m.ID)
		if m.Suffrage == raft.Voter && string(m.ID) != s.id && s.inTouch(m.ID) && (to == nil || last > furthest) {
			to, furthest = &m, last
		}
	}
	if to == nil {
		return errors.New("hand over: no passive server is in touch")
	}
	// What waits goes to the new active server, and no lease outlives this line.
	release := s.queue.hold()
	defer release()
	within(handOverPatience, s.queue.idle)
	s.contact.forgo()
	s.confirmer.revoke()
	name, _ := splitAddress(to.Address)
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- s.raft.LeadershipTransferToServer(to.ID, to.Address).Error() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil && s.raft.State() == raft.Leader {
		return fmt.Errorf("hand over to %q: %w", name, err)
	}
	if err == nil {
		s.log.Info("handed over", "to", name, "took", time.Since(began))
	} else {
		s.log.Info("this server ceased to be active before it had handed over", "to", name, "error", err)
	}
	// Who is told to go elsewhere is told where.
	within(s.cfg.Timers.Election, func() bool {
		_, id := s.raft.LeaderWithID()
		return !s.leading.Load() && id != ""
	})
	release()
	// An elected one needs this server's vote until an entry of its own is agreed on, of a pair always.
	within(handOverPatience, func() bool { return !s.leading.Load() && s.fsm.timed.Load() == s.raft.CurrentTerm() })
	return nil
}

// Promote wakes a server that waits suspended for its partner. It answers
// ErrBadRequest where this server does not.
func (s *Stripe) Promote(ctx context.Context) error {
	if s.pair != nil && s.formed.Load() && !s.active() {
		return s.pair.promote(ctx)
	}
	return &wire.Error{Word: wire.ErrBadRequest, Text: "this server is not suspended: it is " + s.Status().State}
}
