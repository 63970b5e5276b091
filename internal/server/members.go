package server

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// This file is about the other servers of the stripe: who is configured, who may
// join, who is active, and what an operator is told of it.

// several reports whether this server was started as one of several of its stripe.
func (s *Server) several() bool { return len(s.cfg.Running.Servers) > 1 }

// Members makes the stripe's members of its configured servers.
func Members(c wire.StripeConfig) []stripe.Member {
	list := make([]stripe.Member, len(c.Servers))
	for i, x := range c.Servers {
		list[i] = stripe.Member{Name: x.Name, GroupAddr: hostPort(x.Host, x.GroupPort), ClientAddr: hostPort(x.Host, x.Port)}
	}
	return list
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// Agreement is what all servers of a stripe must run alike, as text to compare
// and to show. Paths and addresses are not in it: they are each machine's own.
func Agreement(c wire.StripeConfig) string {
	text := ""
	for i, row := range agreed {
		if i > 0 {
			text += "; "
		}
		text += row.what + ": " + orNothing(row.of(c))
	}
	return text
}

// MayJoin returns what the active server asks before it lets a server called name
// in that has not been in the stripe: only those of the cluster's configuration
// may, whom its licence covers. A server made anew under its name is one of them.
func MayJoin(st *store.Store) func(name string) error {
	return func(name string) error {
		c := st.Cluster()
		if c == nil {
			return &wire.Error{Word: wire.ErrUnconfigured, Text: "the cluster is not configured yet; try again"}
		}
		if c.Stripe < len(c.Stripes) && slices.ContainsFunc(c.Stripes[c.Stripe].Servers, func(x wire.ServerConfig) bool { return x.Name == name }) {
			return nil
		}
		return &wire.Error{Word: wire.ErrConflict, Text: fmt.Sprintf("server %q is not in the configuration of cluster %q", name, c.Name)}
	}
}

// notServing says why this server does not execute commands on data.
func (s *Server) notServing() error {
	st := s.stripe.Status()
	switch _, addr, known := s.stripe.Active(); {
	case !st.Formed:
	case s.stripe.Serves():
		if s.store.Cluster() != nil {
			return &wire.Error{Word: wire.ErrNotActive, Text: "this server has just become active; try again"}
		}
	case known && addr != "":
		return &wire.Error{Word: wire.ErrNotActive, Text: "this server is " + st.State + "; the active server is " + addr}
	case s.several():
		return &wire.Error{Word: wire.ErrNotActive, Text: "this server is " + st.State + " and knows of no active one yet; try again"}
	default:
		return &wire.Error{Word: wire.ErrNotActive, Text: "this server is " + st.State + ": it reads its log; try again"}
	}
	host := s.cfg.Self.Host
	if host == "" {
		host = "HOST"
	}
	return &wire.Error{Word: wire.ErrUnconfigured, Text: "this server belongs to no cluster yet; run: cluster-tool configure -n NAME -l LICENSE -s " +
		hostPort(host, s.cfg.Self.Port)}
}

// state is what operators read. A single server that belongs to no stripe yet
// shows ACTIVE: display only, it serves no data.
func (s *Server) state(st stripe.Status) string {
	switch {
	case !st.Formed && !s.several():
		return wire.StateActive
	case !st.Formed && st.State == wire.StateActive:
		return wire.StateUninitialized
	case st.State == wire.StateActive && s.own.Reconnecting():
		return wire.StateActiveReconnecting
	}
	return st.State
}

// members tells of the servers of the stripe: those of the configuration in its
// order, then those that are not in it. A single server has none to tell of.
func (s *Server) members(st stripe.Status) (list []wire.MemberStatus) {
	if !s.several() {
		return nil
	}
	known := s.stripe.Members()
	take := func(m *stripe.MemberStatus) wire.MemberStatus {
		w := wire.MemberStatus{
			Name: m.Name, Address: m.ClientAddr, Group: m.GroupAddr, ServerID: m.ServerID, State: m.State, Voter: m.Voter,
			LogIndex: m.LogIndex, Lag: m.Lag, ContactMS: m.LastContact.Milliseconds(), Self: m.Name == s.cfg.Self.Name,
		}
		if m.LastContact < 0 {
			w.ContactMS = -1
		}
		if w.Self { // what this server knows of itself is more
			w.State = s.state(st)
		}
		return w
	}
	for _, c := range s.cfg.Running.Servers {
		i := slices.IndexFunc(known, func(m stripe.MemberStatus) bool { return m.Name == c.Name })
		if i < 0 {
			list = append(list, wire.MemberStatus{Name: c.Name, Address: hostPort(c.Host, c.Port), Group: hostPort(c.Host, c.GroupPort),
				State: wire.StateUnknown, ContactMS: -1})
			continue
		}
		list = append(list, take(&known[i]))
		known = slices.Delete(known, i, i+1)
	}
	for i := range known {
		list = append(list, take(&known[i]))
	}
	return list
}

// memberWarnings says loudly what an operator may not have meant.
func (s *Server) memberWarnings(st stripe.Status) (list []string) {
	if len(s.cfg.Running.Servers) > 2 && s.cfg.Running.FailoverPriority == stripe.Availability {
		list = append(list, MajorityInstead)
	}
	if s.cfg.Running.Voters > 0 {
		list = append(list, VotersIgnored)
	}
	if st.SplitBrainPossible {
		list = append(list, fmt.Sprintf("this server serves without the other one of the pair (incarnation %d), which it cannot reach: "+
			"a split brain is possible if that one is alive and was cut off; make sure that it is down, or bring it back", st.Incarnation))
	}
	if st.SplitBrain {
		list = append(list, "split brain: the other server of the pair went on by itself too; this server's data is kept, and that one sets its own aside")
	}
	if st.Waiting != "" {
		list = append(list, "this server does not serve: "+st.Waiting)
	}
	if l := st.Lost; l != nil && l.Changes == 0 && l.Fault == "" && l.Folder != "" {
		list = append(list, fmt.Sprintf("a split brain has cost nothing: no session was changed here that the other server does not have (%s); what this server set aside is in the data root, folder %s, which may be removed",
			l.Found.Format("2006-01-02 15:04 MST"), l.Folder))
	} else if l != nil {
		list = append(list, fmt.Sprintf("a split brain has cost %d changed sessions here (%s): they are listed in the data root, folder %s; move that folder away once it was seen to",
			l.Changes, l.Found.Format("2006-01-02 15:04 MST"), l.Folder))
	}
	return list
}

// MajorityInstead is what servers say where failover-priority availability cannot
// mean anything else than consistency.
const MajorityInstead = "failover-priority availability is for a pair of servers: this stripe has more and runs as with consistency, " +
	"so a majority of its servers is needed to serve"

// VotersIgnored is what servers say where failover-priority asks for external voters.
const VotersIgnored = "failover-priority consistency names external voters, which are not in this version and are not waited for: " +
	"only servers vote, two need both, and three survive the loss of one"

// memberText is a line about a server of the stripe.
func memberText(m *wire.MemberStatus) string {
	text := fmt.Sprintf("%s at %s: %s", m.Name, m.Address, m.State)
	if m.Self {
		text += " (this server)"
	}
	if m.ServerID != "" {
		text += ", id " + m.ServerID
	}
	if m.LogIndex > 0 {
		text += fmt.Sprintf(", log %d", m.LogIndex)
	}
	if m.Lag > 0 {
		text += fmt.Sprintf(", %d behind", m.Lag)
	}
	if !m.Voter {
		text += ", no voter"
	}
	switch {
	case m.ContactMS < 0:
		text += ", never heard of"
	case m.ContactMS > 0:
		text += ", last heard of " + (time.Duration(m.ContactMS) * time.Millisecond).String() + " ago"
	}
	return text
}

// watchState logs each change of the state, as the original does, and looks at
// the licence when it comes: a server that joins gets it from the log.
func (s *Server) watchState() {
	changes := s.stripe.Changes()
	tick := time.NewTicker(time.Second) // nodes come back, and the cluster comes, without a change of the stripe's state
	defer tick.Stop()
	last, licensed := "", s.store.Cluster() != nil
	var reign uint64
	for {
		if _, term := s.stripe.Reign(); s.stripe.Serves() && term != reign {
			reign = term
			s.activations.Add(1)
		}
		if now := s.state(s.stripe.Status()); now != last {
			last = now
			s.log.Info("Moved to State[ " + now + " ]")
		}
		if c := s.store.Cluster(); c != nil && !licensed {
			licensed = true
			if s.stripe.Serves() {
				continue // it was configured here, and that was said
			}
			s.log.Info("this server has the configuration of its cluster", "cluster", c.Name, "stripe", c.Stripe+1, "of", len(c.Stripes))
			s.firstLicence(c)
			if m := s.drift(c); m != "" {
				s.log.Warn(m)
			}
		}
		select {
		case <-changes:
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// drift says where this server was started with something else than the cluster has, or "".
func (s *Server) drift(c *wire.Cluster) string {
	if c == nil || c.Stripe >= len(c.Stripes) {
		return ""
	}
	if m := mismatch(c.Stripes[c.Stripe], s.cfg.Running, "the cluster has", "this server was started with"); m != "" {
		return m + "; the cluster's count"
	}
	return ""
}

// role is this server's in Redis's words, by which its clients choose a server. A
// single server is a master before it is configured, too.
func (s *Server) role() string {
	if s.several() && !s.stripe.Serves() {
		return "slave"
	}
	return "master"
}

// replication is what INFO tells of it.
func (s *Server) replication() []any {
	pairs := []any{"role", s.role()}
	_, active, known := s.stripe.Active()
	if s.role() == "slave" {
		host, port, err := net.SplitHostPort(active)
		if !known || err != nil {
			return append(pairs, "master_link_status", "down")
		}
		return append(pairs, "master_host", host, "master_port", port, "master_link_status", "up")
	}
	passives := 0
	for _, m := range s.members(s.stripe.Status()) {
		if m.State == wire.StatePassive && !m.Self {
			passives++
		}
	}
	return append(pairs, "connected_slaves", passives)
}
