package store

import (
	"bytes"
	"maps"
	"slices"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Bounds on what nodes can make us remember. Outcomes are counted by a formula
// of replicated facts, as sessions are, but belong to no off-heap resource:
//
//	outcome      192 + text of a refusal + (24 + name) for each dropped attribute
//
// No node has more than maxNodeOutcomes. Once all together have maxOutcomes, only
// those go on that stay within sureOutcomes: one that never acknowledges holds up
// nobody else. So all together never have more than maxOutcomes + maxNodes * sureOutcomes.
const (
	maxNodes        = 1 << 16
	maxNodeOutcomes = 16 << 20 // bytes
	maxOutcomes     = 128 << 20
	sureOutcomes    = 4 << 10

	outcomeCost = 192  // with its share of a map's empty places
	maxRefusal  = 1024 // bytes of a refusal's text; longer ones are cut
)

// Node is one joined application process.
type Node struct {
	ID         wire.NodeID
	Label      string
	Joined     Time
	Generation uint64 // the highest that joined
}

// node is a joined node and what its writes came to. Node is guarded by
// state.mu, the rest is of the goroutine that applies.
type node struct {
	Node
	low      uint64                  // outcomes below are forgotten
	outcomes map[uint64]wire.Outcome // sequence number -> the first outcome
	bytes    int                     // that outcomes count
	most     int                     // outcomes at once in this map, which never shrinks
}

func costOf(out *wire.Outcome) int {
	n := outcomeCost
	if out.Err != nil {
		n += len(out.Err.Text)
	}
	for _, name := range out.Dropped {
		n += 24 + len(name)
	}
	return n
}

// room reports whether n may have cost bytes of outcomes more.
func (st *state) room(n *node, cost int) bool {
	return n.bytes+cost <= maxNodeOutcomes && (int(st.remembered.Load())+cost <= maxOutcomes || n.bytes+cost <= sureOutcomes)
}

// tells refuses a commit whose dropped attributes cannot be told again and again.
func (st *state) tells(n *node, out *wire.Outcome) *wire.Error {
	switch cost := costOf(out); {
	case out.Dropped == nil || st.room(n, cost):
		return nil
	case cost > maxNodeOutcomes:
		return &wire.Error{Word: wire.ErrTooBig, Text: "the names of the attributes that others have changed are too long together"}
	}
	return errUnacknowledged
}

// errUnacknowledged refuses a write and is not remembered: the node may send the
// write again once it has acknowledged others.
var errUnacknowledged = &wire.Error{Word: wire.ErrBusy, Text: "too many outcomes of this node are not acknowledged"}

// admit finds the node of a write, and the answer where there is one already:
// a refusal, or the outcome that the number had the first time.
func (a *step) admit(w *wire.Write) (n *node, out wire.Outcome, known bool) {
	if a.cluster == nil {
		return nil, wire.Outcome{Err: unconfigured()}, true
	}
	n = a.nodes[w.Node]
	if n == nil {
		return nil, wire.Outcome{Err: nodeGone()}, true
	}
	a.raise(n, w.Low)
	if w.Seq < n.low {
		return n, wire.Outcome{Err: &wire.Error{Word: wire.ErrStale, Text: "the outcome of this number was acknowledged and forgotten"}}, true
	}
	if out, known = n.outcomes[w.Seq]; known {
		return n, out, true
	}
	if !a.room(n, outcomeCost+maxRefusal) {
		return n, wire.Outcome{Err: errUnacknowledged}, true
	}
	return n, out, false
}

func nodeGone() *wire.Error {
	return &wire.Error{Word: wire.ErrNodeGone, Text: "this node is not known here: it must come back under a new id"}
}

// remember keeps out until it is acknowledged.
func (st *state) remember(n *node, seq uint64, out wire.Outcome) {
	n.outcomes[seq] = out
	n.most = max(n.most, len(n.outcomes))
	cost := costOf(&out)
	n.bytes += cost
	st.remembered.Add(int64(cost))
}

// raise forgets the outcomes below low.
func (st *state) raise(n *node, low uint64) {
	if low <= n.low {
		return
	}
	forget := func(seq uint64) {
		if out, ok := n.outcomes[seq]; ok {
			cost := costOf(&out)
			n.bytes -= cost
			st.remembered.Add(-int64(cost))
			delete(n.outcomes, seq)
		}
	}
	if low-n.low <= uint64(len(n.outcomes)) {
		for seq := n.low; seq < low; seq++ {
			forget(seq)
		}
	} else { // a leap may be any size: go through what is there
		for seq := range n.outcomes {
			if seq < low {
				forget(seq)
			}
		}
	}
	n.low = low
	if n.most > 64 && len(n.outcomes) < n.most/4 {
		// A map keeps the memory of all that was ever in it at once.
		smaller := make(map[uint64]wire.Outcome, len(n.outcomes))
		maps.Copy(smaller, n.outcomes)
		n.outcomes, n.most = smaller, len(smaller)
	}
}

func (a *step) join(j *wire.Join) *wire.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.nodes[j.Node]
	switch {
	case n == nil && j.Generation > 1:
		return nodeGone()
	case n == nil && len(a.nodes) >= maxNodes:
		return &wire.Error{Word: wire.ErrBusy, Text: "too many nodes have joined"}
	case n == nil:
		n = &node{Node: Node{ID: j.Node, Joined: a.at}, outcomes: map[uint64]wire.Outcome{}}
		a.nodes[j.Node] = n
	case j.Generation < n.Generation:
		return &wire.Error{Word: wire.ErrStale, Text: "a newer connection of this node has joined"}
	}
	n.Label, n.Generation = string(j.Label), j.Generation
	a.raise(n, j.Low)
	return nil
}

func (a *step) leave(id wire.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.nodes[id]; n != nil {
		a.remembered.Add(-int64(n.bytes))
		delete(a.nodes, id)
	}
}

// OutcomeBytes tells what all nodes together make us remember because they have not
// acknowledged it, by the formula of maxOutcomes. It is beside Memory, on Go's heap.
func (s *Store) OutcomeBytes() int { return int(s.st.Load().remembered.Load()) }

// Nodes lists the joined nodes, by id.
func (s *Store) Nodes() []Node {
	st := s.st.Load()
	st.mu.RLock()
	defer st.mu.RUnlock()
	list := make([]Node, 0, len(st.nodes))
	for _, n := range st.nodes {
		list = append(list, n.Node)
	}
	slices.SortFunc(list, func(a, b Node) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return list
}
