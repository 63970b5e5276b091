package store

import (
	"bytes"
	"slices"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Bounds on what nodes can make us remember.
const (
	maxNodes        = 1 << 16
	maxOutcomes     = 1 << 16 // per node
	maxOutcomeBytes = 8 << 20 // per node: names of dropped attributes, texts of refusals
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
	bytes    int                     // that outcomes hold beside themselves
}

func outcomeBytes(out *wire.Outcome) int {
	n := 0
	if out.Err != nil {
		n = len(out.Err.Text)
	}
	for _, name := range out.Dropped {
		n += len(name)
	}
	return n
}

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
	n.raise(w.Low)
	if w.Seq < n.low {
		return n, wire.Outcome{Err: &wire.Error{Word: wire.ErrStale, Text: "the outcome of this number was acknowledged and forgotten"}}, true
	}
	if out, known = n.outcomes[w.Seq]; known {
		return n, out, true
	}
	if len(n.outcomes) >= maxOutcomes || n.bytes >= maxOutcomeBytes {
		return n, wire.Outcome{Err: &wire.Error{Word: wire.ErrBusy, Text: "too many outcomes of this node are not acknowledged"}}, true
	}
	return n, out, false
}

func nodeGone() *wire.Error {
	return &wire.Error{Word: wire.ErrNodeGone, Text: "this node is not known here: it must come back under a new id"}
}

// remember keeps out until it is acknowledged.
func (n *node) remember(seq uint64, out wire.Outcome) {
	n.outcomes[seq] = out
	n.bytes += outcomeBytes(&out)
}

// raise forgets the outcomes below low.
func (n *node) raise(low uint64) {
	if low <= n.low {
		return
	}
	forget := func(seq uint64) {
		if out, ok := n.outcomes[seq]; ok {
			n.bytes -= outcomeBytes(&out)
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
	n.raise(j.Low)
	return nil
}

func (a *step) leave(id wire.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.nodes, id)
}

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
