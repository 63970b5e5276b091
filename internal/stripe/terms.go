package stripe

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

const termKey = "CurrentTerm" // raft's

// terms is where raft keeps its term. Raft (v1.7.3, raft.go, processHeartbeat) takes heartbeats in the
// goroutines of their connections, so that they are answered while its main loop waits for the disk. One of
// another term sets that there: of two that wait for the disk at once the older may come last, on it
// and in memory, and this server would take entries of an active one that was replaced. So a heartbeat
// is taken beside the main loop only where it sets nothing, and nothing is set meanwhile.
type terms struct {
	raft.StableStore
	setting sync.RWMutex  // held while a term is set; for reading by heartbeats taken beside
	kept    atomic.Uint64 // written under setting
}

// newTerms returns terms in which none is kept yet: raft writes the one that it finds at its start, which shows whether the
// disk can be written.
func newTerms(store raft.StableStore) *terms {
	t := &terms{StableStore: store}
	t.kept.Store(math.MaxUint64)
	return t
}

// SetUint64 implements raft.StableStore. A term that is kept already needs no disk. It must not wait for
// setting either: raft sets it anew for a heartbeat that finds it a candidate.
func (t *terms) SetUint64(key []byte, v uint64) error {
	if string(key) != termKey {
		return t.StableStore.SetUint64(key, v)
	}
	if v == t.kept.Load() {
		return nil
	}
	t.setting.Lock()
	defer t.setting.Unlock()
	err := t.StableStore.SetUint64(key, v)
	if err == nil {
		t.kept.Store(v)
	}
	return err
}

// beside returns a handler that gives heartbeats of the term that is kept to take, and others to pass, which gives them
// to raft's main loop. Neither waits for a term that is being set.
func (t *terms) beside(take, pass func(raft.RPC)) func(raft.RPC) {
	return func(rpc raft.RPC) {
		if !t.takes(rpc, take) {
			pass(rpc)
		}
	}
}

func (t *terms) takes(rpc raft.RPC, take func(raft.RPC)) bool {
	if !t.setting.TryRLock() {
		return false
	}
	defer t.setting.RUnlock()
	m, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok || m.Term != t.kept.Load() {
		return false
	}
	take(rpc)
	return true
}
