package stripe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// answer is what a server tells another that asks.
type answer struct {
	Stripe  string   `json:"stripe,omitempty"`
	Formed  bool     `json:"formed"`           // it has a configuration
	Active  *peer    `json:"active,omitempty"` // nil where it knows none
	Members []string `json:"members,omitempty"`

	Sums     map[uint64]string `json:"sums,omitempty"`     // see guard
	Diverged bool              `json:"diverged,omitempty"` // its state is not the active one's
	Removed  bool              `json:"removed,omitempty"`  // by the active one: who asks is no member
	Pair     *note             `json:"pair,omitempty"`     // of a pair in availability mode
	Time     store.Time        `json:"time,omitempty"`     // log time, where this server has counted it in this run
}

// joinLast is the last word about a join, in both directions.
type joinLast struct {
	Ready   bool     `json:"ready,omitempty"`
	Refusal *refusal `json:"refusal,omitempty"`
}

// joinPatience bounds each half of a join on both sides.
const joinPatience = 10 * time.Second

func (s *Stripe) self() peer {
	m := s.cfg.self()
	return peer{
		Stripe: s.stripe(), ID: s.id, Name: m.Name, Run: s.run,
		Group: m.GroupAddr, Client: m.ClientAddr, Timers: s.cfg.Timers.String(), Format: s.fsm.newest,
	}
}

// judge decides about who comes to the group port.
func (s *Stripe) judge(h hello) *refusal {
	ours := s.self()
	switch {
	case s.closing.Load():
		return refuse(refusedNotActive, "server %q is shutting down", ours.Name)
	case h.ID == s.id && h.Run != s.run:
		return refuse(refusedIdentity, "server %q at %s has the identity of server %q: a data root was copied; give one of them an empty data directory", h.Name, h.Group, ours.Name)
	case h.ID == s.id:
		return refuse(refusedIdentity, "server %q reached itself: two configured servers have one address", ours.Name)
	case h.Expect != "" && h.Expect != s.id:
		return refuse(refusedIdentity, "this is server %q (%s), and %s was expected", ours.Name, s.id, h.Expect)
	case h.Purpose == forAsk:
		return nil
	case h.Timers != ours.Timers:
		return refuse(refusedTimers, "server %q has the timers %s, and server %q %s: set the same ones on all servers, with all of them stopped", h.Name, h.Timers, ours.Name, ours.Timers)
	case h.Stripe != "" && h.Stripe != ours.Stripe:
		return refuse(refusedStripe, "server %q belongs to stripe %s, and server %q to %s: %s", h.Name, h.Stripe, ours.Name, orNone(ours.Stripe), howToUnite)
	case h.Name == ours.Name:
		return refuse(refusedName, "two servers are named %q: give each a name of its own", ours.Name)
	}
	switch h.Purpose {
	case forRaft:
		switch {
		case h.Stripe == "":
			return refuse(refusedStripe, "server %q belongs to no stripe yet", h.Name)
		case s.group.ctx.Err() != nil || !s.open():
			return refuse(refusedStarting, "server %q is starting", ours.Name)
		}
		return nil
	case forJoin:
		return s.judgeJoin(h)
	}
	return refuse(refusedPurpose, "unknown purpose %q", h.Purpose)
}

func orNone(stripe string) string {
	if stripe == "" {
		return "none"
	}
	return stripe
}

const howToUnite = "each was configured by itself; decide which of them keeps its data, stop the other, move its data folder away and start it again: it joins by itself"

// open reports whether raft may be reached. A server that comes back has
// forgotten which active it followed and would vote against it at once, within
// the lease that it had confirmed: so for one heartbeat time-out nobody reaches it.
func (s *Stripe) open() bool { return s.contact.mono() >= s.opens }

// judgeJoin decides about a server that wants to become a member.
func (s *Stripe) judgeJoin(h hello) *refusal {
	if !s.leading.Load() {
		return refuse(refusedNotActive, "server %q is not active", s.cfg.Self)
	}
	if format := s.fsm.format(); h.format() < format {
		return refuse(refusedVersion, "the stripe writes format %d, and server %q reads up to %d: start it with the version of the others", format, h.Name, h.format())
	}
	if h.Agreement != s.cfg.Agreement {
		return refuse(refusedAgreement, "server %q runs with other settings than the stripe: it has %s, and server %q has %s", h.Name, h.Agreement, s.cfg.Self, s.cfg.Agreement)
	}
	config, err := s.configuration()
	if err != nil {
		return refuse(refusedNotActive, "server %q is not active: %v", s.cfg.Self, err)
	}
	known := false
	for _, m := range config.Servers {
		name, id := splitAddress(m.Address)
		if id == h.ID {
			known = true
		} else if name == h.Name && s.inTouch(m.ID) {
			p, _ := s.group.about(id)
			return refuse(refusedName, "two servers are named %q: one at %s belongs to the stripe and is alive, and another came from %s; give each a name of its own", h.Name, p.Group, h.Group)
		}
	}
	if known {
		return nil
	}
	if s.cfg.MayJoin != nil {
		if err := s.cfg.MayJoin(h.Name); err != nil {
			return refuse(refusedJoin, "server %q may not join: %v", h.Name, err)
		}
	} else if !slices.ContainsFunc(s.cfg.Members, func(m Member) bool { return m.Name == h.Name }) {
		return refuse(refusedJoin, "server %q is not one of the stripe's configured servers", h.Name)
	}
	return nil
}

// inTouch reports whether a server answered within the last heartbeat time-outs.
// Only the active one knows.
func (s *Stripe) inTouch(id raft.ServerID) bool {
	_, ago := s.contact.of(id)
	return ago >= 0 && ago < 2*s.cfg.Timers.Heartbeat
}

// configuration returns raft's latest, which may not be committed yet.
func (s *Stripe) configuration() (raft.Configuration, error) {
	f := s.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return raft.Configuration{}, err
	}
	return f.Configuration(), nil
}

// tell answers one that asks or joins.
func (s *Stripe) tell(_ context.Context, _ net.Conn, h hello) *answer {
	a := &answer{Stripe: s.stripe(), Formed: s.formed.Load(), Sums: s.guard.known(), Diverged: s.diverged.Load() != nil}
	a.Removed = s.leading.Load() && !s.fsm.knows(h.ID)
	if s.served.Load() || s.counts.Load() {
		a.Time = s.clock.counted()
	}
	if s.pair != nil && h.Pair != nil {
		a.Pair = s.pair.answer(h)
	}
	if p, ok := s.activePeer(); ok {
		a.Active = &p
	}
	if config, err := s.configuration(); err == nil {
		for _, m := range config.Servers {
			a.Members = append(a.Members, string(m.ID))
		}
	}
	return a
}

// activePeer returns what is known of the active server.
func (s *Stripe) activePeer() (peer, bool) {
	if s.active() {
		return s.self(), true
	}
	address, id := s.raft.LeaderWithID()
	if id == "" || string(id) == s.id {
		return peer{}, false
	}
	name, _ := splitAddress(address)
	p, _ := s.group.about(string(id))
	if p.Name != "" {
		name = p.Name
	}
	for _, m := range s.cfg.Members {
		if m.Name == name {
			p.Group, p.Client = m.GroupAddr, m.ClientAddr
		}
	}
	p.ID, p.Name = string(id), name
	return p, true
}

// admit is the active's second half of a join: the joiner has noted which stripe
// it belongs to, and becomes a server without a vote.
func (s *Stripe) admit(ctx context.Context, conn net.Conn, h hello) {
	conn.SetDeadline(time.Now().Add(joinPatience))
	var ready joinLast
	if _, err := readFrame(conn, &ready); err != nil || !ready.Ready {
		return
	}
	var last joinLast
	if err := s.addMember(h); err != nil {
		last.Refusal = refuse(refusedNotActive, "server %q could not be added: %v", h.Name, err)
	}
	writeFrame(conn, "", last)
}

func (s *Stripe) addMember(h hello) error {
	err := s.change(func(c raft.Configuration) (raft.Configuration, func() raft.IndexFuture) {
		if slices.ContainsFunc(c.Servers, func(m raft.Server) bool { return string(m.ID) == h.ID }) {
			return c, nil
		}
		server := raft.Server{Suffrage: raft.Nonvoter, ID: raft.ServerID(h.ID), Address: raftAddress(h.Name, h.ID)}
		next := c.Clone()
		next.Servers = append(next.Servers, server)
		return next, func() raft.IndexFuture {
			return s.raft.AddNonvoter(server.ID, server.Address, 0, joinPatience)
		}
	})
	if err == nil {
		s.log.Info("a server joins: it gets the state, then it counts for the majority", "name", h.Name, "server-id", h.ID)
		s.wake()
	}
	return err
}

// join asks the active server at addr to let this one in.
func (s *Stripe) join(ctx context.Context, addr string) error {
	conn, v, err := s.group.dial(ctx, addr, forJoin, "", s.cfg.Agreement)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(joinPatience))
	if v.Answer == nil || len(v.Answer.Stripe) != 32 {
		return errors.New("the active server does not say which stripe it is of")
	}
	if s.stripe() != v.Answer.Stripe {
		if s.raft.LastIndex() > 0 {
			return refuse(refusedStripe, "the active server %q belongs to stripe %s, and this server has data of stripe %s: %s", v.Peer.Name, v.Answer.Stripe, orNone(s.stripe()), howToUnite)
		}
		if err := s.belong(v.Answer.Stripe); err != nil {
			return err
		}
	}
	if _, err := writeFrame(conn, "", joinLast{Ready: true}); err != nil {
		return err
	}
	var last joinLast
	if _, err := readFrame(conn, &last); err != nil {
		return err
	}
	if last.Refusal != nil {
		return last.Refusal
	}
	return nil
}

// asked is what one of the other configured servers answered.
type asked struct {
	member Member
	v      verdict
	err    error
}

// askAll asks all other configured servers at once.
func (s *Stripe) askAll(ctx context.Context) []asked {
	var list []asked
	for _, m := range s.cfg.Members {
		if m.Name != s.cfg.Self {
			list = append(list, asked{member: m})
		}
	}
	var wg sync.WaitGroup
	for i := range list {
		wg.Go(func() {
			a := &list[i]
			conn, v, err := s.group.dial(ctx, a.member.GroupAddr, forAsk, "", "")
			if err == nil {
				conn.Close()
			}
			a.v, a.err = v, err
			if err == nil && a.v.Answer == nil {
				a.err = errors.New("it does not answer")
			}
		})
	}
	wg.Wait()
	return list
}

// nameGrace is for how long it is no fault that the name is taken: the active
// server takes this server's former run for alive until it has not heard of it
// for a while.
const nameGrace = 5 * time.Second

// look asks the others what they know, and joins where this server belongs
// nowhere, or was removed from where it belonged. since is when it began to look.
func (s *Stripe) look(since time.Time) {
	ctx, cancel := context.WithTimeout(s.group.ctx, 2*handshakePatience)
	defer cancel()
	heard, foreign := false, false
	unwanted := func(r *refusal) { foreign = true; s.refused(r) }
	defer func() {
		if heard && !foreign && s.formed.Load() {
			s.refused(nil) // whatever it was, it is over
		}
	}()
	for _, a := range s.askAll(ctx) {
		heard = heard || a.err == nil
		switch {
		case a.err != nil:
			if r := (*refusal)(nil); errors.As(a.err, &r) {
				s.group.complain("ask "+a.member.Name, "a configured server refuses this one", "name", a.member.Name, "error", a.err)
				if r.Code == refusedSecret || r.Code == refusedVersion || r.Code == refusedIdentity {
					unwanted(refuse(r.Code, "%v", a.err))
				}
			}
			continue
		case !a.v.Answer.Formed:
			continue
		case s.formed.Load() && a.v.Answer.Stripe != s.stripe():
			unwanted(refuse(refusedStripe, "server %q at %s belongs to stripe %s, and this server to %s: %s", a.member.Name, a.member.GroupAddr, a.v.Answer.Stripe, orNone(s.stripe()), howToUnite))
			continue
		}
		if s.formed.Load() {
			s.compare(a.v.Peer, a.v.Answer)
		}
		switch {
		case a.v.Answer.Active == nil || slices.Contains(a.v.Answer.Members, s.id):
			continue // nobody to ask, or this server belongs there already
		case s.formed.Load() && s.leading.Load(), s.diverged.Load() != nil:
			continue
		case s.pair != nil && !s.pair.mayJoin():
			continue
		}
		addr := a.v.Answer.Active.Group
		if a.v.Answer.Active.ID == a.v.Peer.ID {
			addr = a.member.GroupAddr // where it was reached
		}
		for _, m := range s.cfg.Members {
			if m.Name == a.v.Answer.Active.Name {
				addr = m.GroupAddr
			}
		}
		err := s.join(ctx, addr)
		if err == nil {
			s.refused(nil)
			s.log.Info("joined the stripe", "stripe", s.stripe(), "active", a.v.Answer.Active.Name)
			return
		}
		switch code := refusedAs(err); {
		case code == "" || code == refusedNotActive || code == refusedStarting || code == refusedBusy,
			code == refusedName && time.Since(since) < nameGrace:
			s.log.Debug("could not join", "error", err)
		default:
			unwanted(refuse(code, "%v", err))
		}
	}
}

// refused notes why this server is not let in; nil once it is.
func (s *Stripe) refused(why *refusal) {
	old := s.unwanted.Swap(why)
	if why != nil {
		s.group.complain("refused", "this server is not let into the stripe", "reason", why.Text)
	}
	if (old == nil) != (why == nil) || old != nil && *old != *why {
		s.changed()
	}
}

// checkAlone is an error where another configured server belongs to a stripe
// already: then this one must not found another.
func (s *Stripe) checkAlone(ctx context.Context) error {
	for _, a := range s.askAll(ctx) {
		if a.err == nil && a.v.Answer.Formed {
			return &wire.Error{Word: wire.ErrConflict, Text: fmt.Sprintf("server %q at %s belongs to a stripe already, and this one joins it by itself", a.member.Name, a.member.ClientAddr)}
		}
		if refusedAs(a.err) == refusedIdentity || refusedAs(a.err) == refusedSecret {
			return &wire.Error{Word: wire.ErrConflict, Text: a.err.Error()}
		}
	}
	return nil
}
