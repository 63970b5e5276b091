// Package model checks the protocol of session ownership (docs/ownership.md) by
// searching every state that it can reach within bounds: two nodes, one session with
// one attribute, an active, a fail-over, and lost, late and repeated messages. It
// shares no code with the servers: it is what they are built from.
//
// The one idea: a rule of the protocol that can be left out without breaking a promise
// is not a rule. Each has a name, each can be switched off, and a test tells which
// promise breaks then, and after how many steps. Searches go breadth first, so what is
// told is the shortest way into the fault.
//
//	r := model.Run(ctx, model.Search{Writes: 2, Loads: 2, Breaks: 1}, model.Limits{})
//	fmt.Print(r.Broken, r.Trace) // "" and nothing where every promise holds
//
// It does not model: several sessions or attributes, a split pair, renewed ids, hop
// counting (an active may answer any load with a grant or a ticket), the removal of a
// node, bounded queues and time-outs of locks, and a second fail-over.
package model

import "fmt"

// Search says what may happen, and how often. Its zero value is the protocol with
// asynchronous writes and nothing that fails.
type Search struct {
	Name   string
	Writes int // requests that change the session, at most 3; each reads it first
	Loads  int // loads that begin
	Breaks int // connections that break
	Faults int // crashes of a node or of the active; at most one fail-over
	Drift  int // ticks that a node's clock may lose, which its margin covers
	Renews int // renewals of leases, besides those that come with a claim; 0: any number

	PassThrough bool // the active may answer a load with a ticket
	Sync        bool // synchronousWrite=true
	Locking     bool // sessionLocking=true
	Logout      bool // the last write ends the session
	Admin       bool // the active ends the session: InvalidateUser, an operator
	Expiry      bool // the session ends when nobody has used it for two ticks
	Progress    bool // at any time faults may end, and all that waits must be answered
	Strict      bool // an asynchronous write counts as promised even where its node has failed

	Without []Rule // rules that are switched off
}

const (
	nodes     = 2
	maxWrites = 3
	lease     = 2 // ticks that a node's lease lasts
	idleLimit = 2 // ticks after which an unused session expires
	nobody    = 2 // as owner; as the writer of an entry: the active itself
	expiry    = 4 // the log entry that ends an unused session; writes are 1 to 3
)

// Validate reports a Search that does not fit into a state.
func (c *Search) Validate() error {
	writes := c.Writes
	if c.Admin {
		writes++
	}
	for _, b := range []struct {
		what      string
		have, max int
	}{
		{"writes, Admin's included,", writes, maxWrites}, {"loads", c.Loads, 4}, {"breaks", c.Breaks, 3},
		{"faults", c.Faults, 2}, {"drift", c.Drift, 2},
		{"renews", c.Renews, 100},
	} {
		if b.have < 0 || b.have > b.max {
			return fmt.Errorf("%d %s are not within 0 and %d", b.have, b.what, b.max)
		}
	}
	if c.Locking && c.PassThrough {
		return fmt.Errorf("sessionLocking has no pass-through")
	}
	return nil
}

// machine makes the states that follow one state.
type machine struct {
	*Search
	off      uint64 // the rules that are switched off, as bits
	from     *state
	s        state // the one that is being made
	broken   Property
	words    []said
	tracing  bool
	overflow bool // a queue or the log had no room: the state is outside of the bounds
	busy     bool // something other than the clock can move
	out      func()
}

func newMachine(c *Search, out func()) *machine {
	m := &machine{Search: c, out: out}
	for _, r := range c.Without {
		m.off |= 1 << r
	}
	return m
}

// without reports whether a rule is switched off.
func (m *machine) without(r Rule) bool { return m.off&(1<<r) != 0 }

// said is a sentence of a trace. %n is a node, %s a server, %d a number, %v a set of writes.
type said struct {
	format string
	args   [4]uint8
}

func (m *machine) say(format string, args ...uint8) {
	if m.tracing {
		w := said{format: format}
		copy(w.args[:], args)
		m.words = append(m.words, w)
	}
}

// breaks notes that a promise is broken. The first one counts.
func (m *machine) breaks(p Property) {
	if m.broken == "" {
		m.broken = p
	}
}

// successors calls out for each state that follows from. It is in m.s then.
func (m *machine) successors(from *state) {
	m.from, m.busy = from, false
	for n := range uint8(nodes) {
		m.nodeSteps(n)
	}
	for v := range from.server {
		m.serverSteps(uint8(v))
	}
	m.logSteps()
	m.faults()
	m.clockSteps()
}

// step makes one state.
func (m *machine) step(f func(s *state)) {
	m.busy = true
	m.quietStep(f)
}

func (m *machine) quietStep(f func(s *state)) {
	m.s = *m.from
	m.broken, m.words, m.overflow = "", m.words[:0], false
	f(&m.s)
	m.s.clean(m.without(GenerationDown))
	m.check()
	m.out()
}

// initial is the state in which node A owns the session, unless it may be created
// unawaited: then its creation is on the way.
func (c *Search) initial() state {
	s := state{loads: uint8(c.Loads), breaks: uint8(c.Breaks), faults: uint8(c.Faults), drift: uint8(c.Drift), renews: uint8(c.Renews), tokens: 1}
	s.store.version = 1
	for n := range s.node {
		s.node[n] = node{open: true, lease: lease}
		s.server[0].lease[n], s.server[0].claimed[n] = c.activeLease(), true
	}
	s.server[0].owner, s.server[0].token = 0, 1
	s.server[1].owner = nobody
	s.node[0].owns, s.node[0].token, s.node[0].index = true, 1, 1
	m := newMachine(c, nil)
	s.node[1].used = m.never()
	if m.without(CreateWaits) {
		m.s = s
		id := m.newWrite(0, 1, 1, 0)
		m.s.node[0].value, m.s.promised = bit(id), bit(id)
		m.s.store.absent = true
		m.s.server[0].owner, m.s.server[0].token = nobody, 0
		m.send(0, msg(commit, id, 0, 0))
		s = m.s
	}
	s.clean(false)
	return s
}

// activeLease is how long the active waits for a node's lease to end: longer than the
// node itself by the margin.
func (c *Search) activeLease() uint8 {
	for _, r := range c.Without {
		if r == Margin {
			return lease
		}
	}
	return lease + uint8(c.Drift)
}
