package ownership

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Conn is the server's side of a node's connection.
type Conn interface {
	Close() error // must not block
	// Retire ends the connection once what has arrived is answered: its node must
	// look for the active. It must not block.
	Retire()
}

// node is an application process as this active has seen it.
type node struct {
	id wire.NodeID

	// mu orders what the node's connections propose: whatever an older one
	// delivered is proposed before the join of a newer one, or refused.
	mu         sync.Mutex
	reign      uint64    // in which what follows was seen; another reign begins anew
	generation uint64    // the largest that joined
	current    *Member   // nil while the node is absent
	absent     time.Time // since when; zero while current is set
	awaited    bool      // counted in Ownership.expected, and guarded by its mu too
}

// Member is one joined connection. The zero Member is none. It ends with the
// reign in which it joined: meanwhile its node may have joined elsewhere.
type Member struct {
	o      *Ownership
	node   *node
	conn   Conn
	reign  uint64      // in which it joined
	before uint64      // the node's generation before this one
	gone   atomic.Bool // the stripe has agreed that the node has left

	gathers bool // changes wait for Hurry
}

// Gather lets the member's changes wait until Hurry, so that those that have
// arrived together are agreed together. Call it before the first of them.
func (m *Member) Gather() { m.gathers = true }

var (
	errNotJoined = &wire.Error{Word: wire.ErrNotJoined, Text: "TC.JOIN first"}
	errStale     = &wire.Error{Word: wire.ErrStale, Text: "a newer connection of this node has replaced this one"}
	errReign     = &wire.Error{Word: wire.ErrNotActive, Text: "this server was passive meanwhile: connect and join again"}
	errNotNode   = &wire.Error{Word: wire.ErrBadRequest, Text: "the node is not the one that joined on this connection"}
)

// Join opens a connection generation: the older connection of the node is
// closed, and what it still delivers is refused (ErrStale). It returns when the
// stripe has agreed that the node is joined.
func (o *Ownership) Join(ctx context.Context, j *wire.Join, c Conn) (*Member, wire.Joined, error) {
	if j.Node.IsZero() {
		return nil, wire.Joined{}, &wire.Error{Word: wire.ErrBadRequest, Text: "the zero node id names no node"}
	}
	cluster := o.store.Cluster()
	if cluster == nil {
		return nil, wire.Joined{}, &wire.Error{Word: wire.ErrUnconfigured, Text: "the cluster is not configured yet: run cluster-tool configure"}
	}
	m, answer, err := o.enter(j, c)
	if err != nil {
		return nil, wire.Joined{}, err
	}
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil && !m.isCurrent() {
		err = errStale
	}
	if err != nil {
		m.failed(err)
		return nil, wire.Joined{}, err
	}
	return m, wire.Joined{
		Version: wire.Version, ServerName: o.cfg.ServerName, ClusterName: cluster.Name,
		Lease: o.cfg.Lease, MaxValue: o.cfg.MaxValue,
	}, nil
}

// enter makes c the node's connection and proposes the join, in one step.
func (o *Ownership) enter(j *wire.Join, c Conn) (*Member, <-chan error, error) {
	o.mu.Lock()
	n := o.nodes[j.Node]
	if n == nil {
		n = &node{id: j.Node}
		o.nodes[j.Node] = n
	}
	n.mu.Lock()
	reign := o.reign()
	n.enterReign(reign)
	if j.Generation > n.generation {
		o.arrived(n)
	}
	o.mu.Unlock()
	defer n.mu.Unlock()
	if j.Generation <= n.generation {
		return nil, nil, &wire.Error{Word: wire.ErrStale, Text: fmt.Sprintf("generation %d of this node has joined; %d is too late", n.generation, j.Generation)}
	}
	older := n.current
	m := &Member{o: o, node: n, conn: c, reign: reign, before: n.generation}
	n.generation, n.current, n.absent = j.Generation, m, time.Time{}
	if older != nil {
		older.conn.Close()
	}
	return m, o.begin(store.AppendJoin(nil, j)), nil
}

func (m *Member) isCurrent() bool {
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	return m.node.current == m
}

// failed takes back a join that was refused, so that it may be tried again. One
// whose fate is not known may have been agreed: its node counts as absent.
func (m *Member) failed(err error) {
	o, n := m.o, m.node
	o.mu.Lock()
	defer o.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current != m {
		return // a newer connection came meanwhile
	}
	n.current, n.absent, n.generation = nil, time.Now(), m.before
	var refusal *wire.Error
	if m.before == 0 && errors.As(err, &refusal) && refusal.Word != wire.ErrUnsure && o.nodes[n.id] == n {
		delete(o.nodes, n.id)
	}
}

// Leave proposes that m's node leaves in order, behind all that it has sent. What
// it sends after that is refused (ErrNodeGone). done is as for the changes.
func (o *Ownership) Leave(m *Member, l *wire.Leave, done func(wire.Outcome, error)) {
	err := m.during(l.Node, func() {
		o.stripe.Propose(store.AppendLeave(nil, l.Node), func(out wire.Outcome, err error) {
			m.gone.Store(err == nil && out.Err == nil)
			done(out, err)
		})
	})
	if err != nil {
		done(wire.Outcome{}, err)
	}
}

// Left tells that the connection is gone. A node that has not left in order has
// the reconnect window to come back.
func (m *Member) Left() {
	if m == nil || m.node == nil {
		return
	}
	o, n := m.o, m.node
	o.mu.Lock()
	defer o.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current != m {
		return
	}
	n.current, n.absent = nil, time.Now()
	if m.gone.Load() && o.nodes[n.id] == n {
		delete(o.nodes, n.id)
	}
}

// during calls f while m is the current connection of node id, and keeps a newer
// one from joining meanwhile; f must not block. It returns the refusal.
func (m *Member) during(id wire.NodeID, f func()) error {
	if m == nil || m.node == nil {
		return errNotJoined
	}
	if m.node.id != id {
		return errNotNode
	}
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	switch {
	case m.node.reign != m.reign, m.o.reign() != m.reign:
		return errReign
	case m.node.current != m:
		return errStale
	}
	f()
	return nil
}

// reign is the term in which this server is, or was last, the active one.
func (o *Ownership) reign() uint64 {
	_, term := o.stripe.Reign()
	return term
}

// enterReign forgets what was seen of n in an earlier reign: what it did since
// then it did elsewhere, and the store knows. The caller holds n.mu.
func (n *node) enterReign(reign uint64) {
	if n.reign == reign {
		return
	}
	if n.current != nil {
		n.current.conn.Retire()
	}
	n.reign, n.generation, n.current, n.absent = reign, 0, nil, time.Time{}
}

// beginReign is called when this server became active: whoever is joined and
// has not come yet has the whole reconnect window from now on.
func (o *Ownership) beginReign(reign uint64) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	known := map[wire.NodeID]bool{}
	for _, k := range o.store.Nodes() {
		known[k.ID] = true
		if o.nodes[k.ID] == nil {
			o.nodes[k.ID] = &node{id: k.ID}
		}
	}
	var expected int64
	for id, n := range o.nodes {
		n.mu.Lock()
		if n.reign != reign && !known[id] {
			delete(o.nodes, id) // it left while another server was active
		}
		n.enterReign(reign)
		if n.current == nil {
			n.absent = now
		}
		if n.awaited = n.current == nil && known[id]; n.awaited {
			expected++
		}
		n.mu.Unlock()
	}
	o.expected.Store(expected)
	if expected > 0 {
		o.log.Info("waiting for the nodes that were joined to come back", "nodes", expected, "window", o.cfg.ReconnectWindow)
	}
}

// endReign is called when this server is no longer active. Connections of nodes
// end when what they have sent is answered: nothing else would tell an idle node
// to look for another active, and nothing of this reign may reach into the next.
func (o *Ownership) endReign() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.nodes {
		n.mu.Lock()
		n.enterReign(0) // a term is never 0
		n.mu.Unlock()
	}
	clear(o.nodes)
	o.expected.Store(0)
	o.accesses.forget()
}

// Reconnecting reports whether nodes are waited for that were joined when this
// server became active: until all have come back or the reconnect window is over.
func (o *Ownership) Reconnecting() bool { return o.expected.Load() > 0 }

// arrived notes that n is waited for no longer. The caller holds o.mu and n.mu.
func (o *Ownership) arrived(n *node) {
	if !n.awaited {
		return
	}
	n.awaited = false
	if o.expected.Add(-1) == 0 {
		o.log.Info("all nodes that were waited for have come back or were removed")
	}
}

// removeAbsent proposes the leaving of nodes whose reconnect window is over. One
// that comes back while that is agreed joins after it, and is told that it is gone.
func (o *Ownership) removeAbsent(ctx context.Context) {
	now := time.Now()
	for _, n := range o.overdue(now) {
		answer := n.leave(o)
		if answer == nil {
			continue // it has just come back
		}
		var err error
		select {
		case err = <-answer:
		case <-ctx.Done():
			return
		}
		if err != nil {
			o.log.Debug("an absent node could not be removed yet", "node", n.id, "error", err)
			return
		}
		o.log.Info("a node did not come back within the reconnect window and was removed", "node", n.id, "window", o.cfg.ReconnectWindow)
		o.mu.Lock()
		n.mu.Lock()
		if n.current == nil && o.nodes[n.id] == n {
			o.arrived(n)
			delete(o.nodes, n.id)
		}
		n.mu.Unlock()
		o.mu.Unlock()
	}
}

// leave proposes that n leaves, unless it is there. A join that comes later is
// proposed later, and refused.
func (n *node) leave(o *Ownership) <-chan error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current != nil {
		return nil
	}
	return o.begin(store.AppendLeave(nil, n.id))
}

func (o *Ownership) overdue(now time.Time) (list []*node) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.nodes {
		n.mu.Lock()
		if n.current == nil && !n.absent.IsZero() && now.Sub(n.absent) >= o.cfg.ReconnectWindow {
			list = append(list, n)
		}
		n.mu.Unlock()
	}
	return list
}
