package ownership

import (
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func (r *rig) leave(m *Member, id wire.NodeID) error {
	_, err := wait(func(done func(wire.Outcome, error)) { r.Leave(m, &wire.Leave{Node: id}, done) })
	return err
}

// A node that ends in order is forgotten at once, behind what it had in flight.
func TestLeaveInOrder(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		m, _ := r.joined(1, 1)
		out := r.create(m, "k", 0, 0)
		fate := make(chan error, 1)
		r.Commit(m, &wire.Commit{Write: r.write(m, "k", out.Token), Idle: wire.KeepIdle,
			Set: []wire.Attribute{{Name: []byte("a"), Value: []byte("last")}}}, func(out wire.Outcome, err error) {
			if err == nil && out.Err != nil {
				err = out.Err
			}
			fate <- err
		})
		if err := r.leave(m, m.node.id); err != nil {
			t.Fatal(err)
		}
		if err := <-fate; err != nil {
			t.Errorf("the change before it: %v", err)
		}
		if nodes := r.store.Nodes(); len(nodes) != 0 {
			t.Errorf("still joined: %v", nodes)
		}
		_, err := r.set(m, "k", out.Token, "a", "late")
		r.refused(wire.ErrNodeGone, err)
		m.Left()
		if len(r.nodes) != 0 {
			t.Errorf("still known: %v", r.nodes)
		}
		_, _, err = r.tryJoin(1, 2)
		r.refused(wire.ErrNodeGone, err)
		other, _ := r.joined(2, 1)
		if _, attrs, err := r.read(other, "k", wire.LoadRead); err != nil || attrs["a"] != "last" {
			t.Errorf("its last change: %v, %v", attrs, err)
		}
	})
}

// Only a node itself, on its newest connection, says that it leaves.
func TestNobodyElseLeavesForANode(t *testing.T) {
	timed(t, Config{}, func(r *rig) {
		old, _ := r.joined(1, 1)
		now, _ := r.joined(1, 2)
		other, _ := r.joined(2, 1)
		r.refused(wire.ErrStale, r.leave(old, nodeID(1)))
		r.refused(wire.ErrBadRequest, r.leave(other, nodeID(1)))
		r.refused(wire.ErrNotJoined, r.leave(nil, nodeID(1)))
		if nodes := r.store.Nodes(); len(nodes) != 2 {
			t.Errorf("joined: %v", nodes)
		}
		// A connection that ends without a word keeps its window.
		now.Left()
		time.Sleep(time.Second)
		r.joined(1, 3)
	})
}
