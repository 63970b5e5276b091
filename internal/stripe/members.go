package stripe

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Member is a configured server of the stripe.
type Member struct {
	Name       string
	GroupAddr  string // host:port of the port for the stripe's other servers
	ClientAddr string // host:port that clients and tools use
}

// How a stripe chooses where it cannot have both: to go on alone, or to have a
// majority (the failover-priority of tc-config.xml).
const (
	Availability = "availability"
	Consistency  = "consistency"
)

// Timers are the times by which servers notice that the active one is gone. They
// must be the same on all servers of a stripe. Zero is the default of each.
type Timers struct {
	Heartbeat time.Duration // without a sign of the active for so long, a passive stands for election
	Election  time.Duration // an election without a result is repeated after so long
	Lease     time.Duration // an active without a majority for so long ceases to be active; at most Heartbeat
	Alone     time.Duration // of a pair in availability mode: without a sign of its partner for so long, a server goes on alone
}

// MemberStatus is what this server knows of one server of the stripe, itself included.
type MemberStatus struct {
	Name        string
	ServerID    string // "" where it never was heard of
	GroupAddr   string
	ClientAddr  string
	State       string        // a wire.State word; StateUnreachable where it is not in touch
	Voter       bool          // it counts for the majority
	LastContact time.Duration // since the last sign of it; 0 for this server, -1 for never
	LogIndex    uint64        // last entry that it is known to have; 0 where unknown
	Lag         uint64        // entries that it lacks, as far as this server knows
}

// pair reports whether the stripe is a pair that stays available when one of the
// two is gone.
func (c *Config) pair() bool { return len(c.Members) == 2 && c.Priority == Availability }

// several reports whether the stripe is configured with more than one server.
func (c *Config) several() bool { return len(c.Members) > 1 }

// self is this server among the configured ones.
func (c *Config) self() Member {
	if i := slices.IndexFunc(c.Members, func(m Member) bool { return m.Name == c.Self }); i >= 0 {
		return c.Members[i]
	}
	return Member{Name: c.ServerName}
}

// complete fills in defaults and refuses what cannot be meant.
func (c *Config) complete() error {
	if !c.several() {
		c.Timers = Timers{Heartbeat: soleHeartbeat, Election: soleHeartbeat, Lease: soleHeartbeat}
		return nil
	}
	if c.Listener == nil {
		return fmt.Errorf("a stripe of %d servers needs a group port", len(c.Members))
	}
	names := map[string]bool{}
	for _, m := range c.Members {
		if m.Name == "" || m.GroupAddr == "" || names[m.Name] {
			return fmt.Errorf("the servers of a stripe need names, each its own, and addresses: server %q has group address %q", m.Name, m.GroupAddr)
		}
		names[m.Name] = true
	}
	if !names[c.Self] {
		return fmt.Errorf("server %q is not one of the stripe's configured servers", c.Self)
	}
	t := &c.Timers
	if c.pair() {
		t.pairDefaults()
	}
	if t.Heartbeat == 0 {
		t.Heartbeat = defaultHeartbeat
	}
	if t.Election == 0 {
		t.Election = t.Heartbeat
	}
	if t.Lease == 0 {
		t.Lease = t.Heartbeat * 5 / 6 // nobody else is elected before the heartbeat's end: to cease much earlier helps nobody
	}
	if t.Heartbeat < 50*time.Millisecond || t.Election < t.Heartbeat || t.Lease < 5*time.Millisecond || t.Lease > t.Heartbeat {
		return fmt.Errorf("the timers %v with a lease of %v cannot work: heartbeat at least 50ms, election at least as long, lease between 5ms and the heartbeat", *t, t.Lease)
	}
	if c.pair() && (t.Lease > t.Heartbeat-2*time.Millisecond || t.Alone < 3*t.Heartbeat/2) {
		return fmt.Errorf("the timers %v cannot work for a pair: lease shorter than the heartbeat, alone at least one and a half heartbeats", *t)
	}
	return nil
}

// defaultHeartbeat leaves room for a machine that is busy; docs/decisions/raft.md
// has the measurements.
const defaultHeartbeat = 500 * time.Millisecond

// String returns the timers as servers compare them. The lease is each server's own
// affair where no passive goes on alone.
func (t Timers) String() string {
	text := fmt.Sprintf("heartbeat %v, election %v", t.Heartbeat, t.Election)
	if t.Alone > 0 {
		text += fmt.Sprintf(", lease %v, alone %v", t.Lease, t.Alone)
	}
	return text
}

// suspendedAfter is for how long a server knows no active one before it shows
// that it cannot serve: an election is over long before.
func (s *Stripe) suspendedAfter() time.Duration { return max(2*time.Second, 6*s.cfg.Timers.Heartbeat) }

// standing is where a server stands. Only suspended makes one that is suspended.
type standing struct {
	state string // a wire.State word
	why   string // it waits; never "" where it is suspended
}

// suspended is one of the three states in which a server waits for others, or for an
// operator, who must be told what for.
func suspended(state, why string) standing {
	if why == "" {
		why = "it waits for the other servers of its stripe"
	}
	return standing{state, why}
}

func (s *Stripe) state() string { return s.stands().state }

// stands is this server's state in the words for operators, and why it waits, of
// one moment.
func (s *Stripe) stands() standing {
	if s.active() {
		return standing{state: wire.StateActive}
	}
	if s.pair != nil {
		if st := s.pair.standing(); st.state != "" {
			return st
		}
	}
	switch hinders := s.hinders.Load(); {
	case s.group == nil && !s.formed.Load():
		return standing{state: wire.StateActive} // what it would become, for display only
	case s.group == nil:
		return standing{state: wire.StateStarting}
	case !s.formed.Load() && s.stripe() == "":
		return standing{state: wire.StateUninitialized}
	case !s.formed.Load():
		return standing{state: wire.StateSynchronizing}
	case hinders != nil:
		return suspended(wire.StateActiveSuspended, *hinders)
	}
	synced := s.synced.Load()
	sure := s.pair == nil || s.pair.isSure()
	_, id := s.raft.LeaderWithID()
	switch long := s.leaderless() > s.suspendedAfter(); {
	case id != "" && string(id) != s.id, !long && synced: // or an election
		if synced && sure {
			return standing{state: wire.StatePassive}
		}
		return standing{state: wire.StateSynchronizing}
	case !long:
		return standing{state: wire.StateStarting}
	case s.wasActive.Load():
		return suspended(wire.StateActiveSuspended, s.alone())
	case s.met.Load():
		return suspended(wire.StatePassiveSuspended, s.alone())
	}
	return suspended(wire.StateStartSuspended, s.alone())
}

// alone says what a server waits for that knows no active one.
func (s *Stripe) alone() string {
	if s.pair != nil {
		return "it knows of no active server, and waits for its partner"
	}
	n := len(s.cfg.Members)
	if config, err := s.configuration(); err == nil {
		n = max(1, len(votersOf(config)))
	}
	return fmt.Sprintf("it knows of no active server: to choose one, %d of the %d servers that have a vote must be there; start the others", n/2+1, n)
}

// Active returns the name and the clients' host:port of the active server, as far
// as this server knows, and whether it knows one.
func (s *Stripe) Active() (name, clientAddr string, ok bool) {
	if s.group == nil {
		self := s.cfg.self()
		return self.Name, self.ClientAddr, s.active()
	}
	p, ok := s.activePeer()
	return p.Name, p.Client, ok
}

// Members returns what this server knows of the stripe's servers: those that
// belong to it, then those that are only configured.
func (s *Stripe) Members() []MemberStatus {
	st := s.Status()
	own := MemberStatus{
		Name: s.cfg.self().Name, ServerID: s.id, GroupAddr: s.cfg.self().GroupAddr, ClientAddr: s.cfg.self().ClientAddr,
		State: st.State, LogIndex: st.LogIndex, Lag: s.raft.CommitIndex() - min(s.raft.CommitIndex(), s.raft.AppliedIndex()),
	}
	config, _ := s.configuration()
	if s.group == nil {
		own.Voter = len(config.Servers) > 0
		return []MemberStatus{own}
	}
	var list []MemberStatus
	seen := map[string]bool{}
	for _, m := range config.Servers {
		if string(m.ID) == s.id {
			own.Voter = m.Suffrage == raft.Voter
			list = append(list, own)
		} else {
			list = append(list, s.member(m, st))
		}
		seen[list[len(list)-1].Name] = true
	}
	for _, m := range s.cfg.Members {
		switch {
		case seen[m.Name]:
		case m.Name == s.cfg.Self:
			list = append(list, own)
		default:
			list = append(list, MemberStatus{Name: m.Name, GroupAddr: m.GroupAddr, ClientAddr: m.ClientAddr, State: wire.StateUnknown, LastContact: -1})
		}
	}
	return list
}

// member tells of another server of the stripe.
func (s *Stripe) member(m raft.Server, own Status) MemberStatus {
	name, _ := splitAddress(m.Address)
	p, _ := s.group.about(string(m.ID))
	if p.Name != "" {
		name = p.Name
	}
	for _, c := range s.cfg.Members {
		if c.Name == name {
			p.Group, p.Client = c.GroupAddr, c.ClientAddr
		}
	}
	o := MemberStatus{
		Name: name, ServerID: string(m.ID), GroupAddr: p.Group, ClientAddr: p.Client,
		State: wire.StateUnknown, Voter: m.Suffrage == raft.Voter, LastContact: -1,
	}
	_, leader := s.raft.LeaderWithID()
	switch {
	case s.leading.Load():
		o.LogIndex, o.LastContact = s.contact.of(m.ID)
		o.Lag = own.LogIndex - min(own.LogIndex, o.LogIndex)
		switch {
		case !s.inTouch(m.ID):
			o.State = wire.StateUnreachable
		case o.Voter:
			o.State = wire.StatePassive
		default:
			o.State = wire.StateSynchronizing
		}
	case m.ID == leader:
		o.State, o.LastContact = wire.StateActive, time.Since(s.raft.LastContact())
	}
	return o
}
