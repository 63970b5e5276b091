package stripe

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// hold keeps the log from being cut short while another server gets a snapshot:
// else, under a heavy load, the log would not go back to that snapshot any more
// once it is restored there, and the server would never catch up.
type hold struct {
	mu   sync.Mutex
	from map[*uint64]uint64 // who holds -> the first entry that is needed
}

// holdGrace is for how long the log is held after the snapshot has been sent and
// restored: meanwhile the server gets the log.
const holdGrace = 30 * time.Second

// begin keeps all entries behind index until holdGrace after release was called.
func (h *hold) begin(index uint64) (release func()) {
	key := &index
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.from == nil {
		h.from = map[*uint64]uint64{}
	}
	h.from[key] = index // this one too: raft looks at the term of the entry before
	return sync.OnceFunc(func() {
		time.AfterFunc(holdGrace, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.from, key)
		})
	})
}

// limit returns up to which entry the log may be cut short; high at most.
func (h *hold) limit(high uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, index := range h.from {
		high = min(high, max(index, 1)-1)
	}
	return high
}

// heldLog is a log that obeys a hold.
type heldLog struct {
	raft.LogStore
	held *hold
}

// IsMonotonic implements raft.MonotonicLogStore.
func (l heldLog) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// DeleteRange implements raft.LogStore. Only the beginning of the log is held:
// what raft takes off the end, or all of it, it must take off.
func (l heldLog) DeleteRange(low, high uint64) error {
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	if low <= first && high < last {
		// One more stays: raft looks at the term of the entry that a snapshot ends with,
		// and knows it without the log only of the newest one.
		if high = l.held.limit(max(high, 1) - 1); high < low {
			return nil
		}
	}
	return l.LogStore.DeleteRange(low, high)
}
