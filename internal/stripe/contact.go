package stripe

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// contact knows, while this server is the active one, when each other server
// last confirmed that: from the answers to raft's heartbeats, which pass by in
// the transport. Raft's own check (VerifyLeader) is not used, because it counts
// servers without a vote (v1.7.3, raft.go, verifyLeader) and may never answer.
type contact struct {
	mono func() time.Duration

	mu      sync.Mutex
	self    raft.ServerID
	term    uint64 // of the reign; 0 while this server is not active
	members map[raft.ServerID]bool
	voters  [][]raft.ServerID              // a majority of each must confirm; two while one is changed into the other
	peers   map[raft.ServerID]*peerContact // of this reign
	moved   chan struct{}                  // closed, and replaced, when something was confirmed or the reign ended
	leases  bool                           // see forgo
	ended   bool                           // the stripe is closing
}

type peerContact struct {
	confirmed time.Duration // mono when the heartbeat was sent that was answered; 0 = never
	last      uint64        // the last entry in its log, when it answered
	silent    bool          // it did not answer the last time
}

var errReignOver = errors.New("this server ceased to be active")

func newContact(self string, mono func() time.Duration) *contact {
	return &contact{self: raft.ServerID(self), mono: mono, moved: make(chan struct{})}
}

// begin starts a reign.
func (c *contact) begin(term uint64, config raft.Configuration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term, c.leases = term, true
	c.peers = map[raft.ServerID]*peerContact{}
	c.requireLocked(config)
}

// end ends it.
func (c *contact) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term = 0
	c.wakeLocked()
}

// close ends it for good.
func (c *contact) close() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.end()
}

func (c *contact) wakeLocked() {
	close(c.moved)
	c.moved = make(chan struct{})
}

// require says whose confirmation is needed from now on.
func (c *contact) require(configs ...raft.Configuration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requireLocked(configs...)
}

func (c *contact) requireLocked(configs ...raft.Configuration) {
	c.voters, c.members = nil, map[raft.ServerID]bool{}
	for _, config := range configs {
		c.voters = append(c.voters, votersOf(config))
		for _, m := range config.Servers {
			c.members[m.ID] = true
		}
	}
	c.wakeLocked()
}

// forgo ends leases until the next reign: another server was asked to stand for
// election although this one lives, and that message may arrive at any time.
func (c *contact) forgo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leases = false
}

// confirm notes that id answered in term what was sent at start.
func (c *contact) confirm(id raft.ServerID, term uint64, start time.Duration, last uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term == 0 || term != c.term {
		return
	}
	p := c.peerLocked(id)
	p.confirmed, p.last, p.silent = max(p.confirmed, start), last, false
	c.wakeLocked()
}

// lost notes that id could not be asked in term.
func (c *contact) lost(id raft.ServerID, term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if term == c.term {
		c.peerLocked(id).silent = true
	}
}

func (c *contact) peerLocked(id raft.ServerID) *peerContact {
	p := c.peers[id]
	if p == nil {
		p = new(peerContact)
		c.peers[id] = p
	}
	return p
}

// reachable returns once id is not silent, and whether it was; or with an error when
// term is over.
func (c *contact) reachable(id raft.ServerID, term uint64) (waited bool, err error) {
	for {
		c.mu.Lock()
		p, moved := c.peers[id], c.moved
		wait := term == c.term && p != nil && p.silent
		over := term < c.term || c.ended || term == c.term && !c.members[id]
		c.mu.Unlock()
		switch {
		case over:
			return waited, errReignOver
		case !wait:
			return waited, nil
		}
		waited = true
		<-moved
	}
}

// sinceLocked returns a moment at which a majority certainly held this server to
// be the active one, itself counted among them or not.
func (c *contact) sinceLocked(counted bool) time.Duration {
	since := c.mono()
	for _, voters := range c.voters {
		var at []time.Duration
		for _, id := range voters {
			if id == c.self && counted {
				at = append(at, since)
			} else if p := c.peers[id]; p != nil {
				at = append(at, p.confirmed)
			} else {
				at = append(at, 0)
			}
		}
		slices.Sort(at)
		if len(at) == 0 {
			return 0
		}
		since = min(since, at[(len(at)-1)/2]) // that one and all after it are a majority
	}
	return since
}

// leased returns the moment from which a lease counts; 0 for none.
func (c *contact) leased() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term == 0 || !c.leases {
		return 0
	}
	return c.sinceLocked(true)
}

// needed reports whether a majority has confirmed this server within the last while, and the others
// alone were none.
func (c *contact) needed(while time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	recent := func(counted bool) bool {
		since := c.sinceLocked(counted)
		return since > 0 && c.mono()-since < while
	}
	return c.term != 0 && recent(true) && !recent(false)
}

// await returns nil once a majority has confirmed what was sent at start or later.
func (c *contact) await(start time.Duration) error {
	for {
		c.mu.Lock()
		over, ok, moved := c.term == 0, c.sinceLocked(true) >= start, c.moved
		c.mu.Unlock()
		switch {
		case over:
			return errReignOver
		case ok:
			return nil
		}
		<-moved
	}
}

// of returns what is known of a server in this reign, and how long ago it
// confirmed; -1 for never.
func (c *contact) of(id raft.ServerID) (last uint64, ago time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[id]
	if c.term == 0 || p == nil || p.confirmed == 0 {
		return 0, -1
	}
	return p.last, c.mono() - p.confirmed
}

func votersOf(c raft.Configuration) []raft.ServerID {
	var ids []raft.ServerID
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// verify is a leadership check for the confirmer.
func (s *Stripe) verify() raft.Future {
	start := s.contact.mono()
	go s.raft.VerifyLeader() // makes heartbeats go out at once
	return awaited(func() error { return s.contact.await(start) })
}

// awaited is a future by a function.
type awaited func() error

// Error implements raft.Future.
func (a awaited) Error() error { return a() }
