package stripe

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// rereadTime is for how long an entry that was read from the log is kept for the next reader.
const rereadTime = time.Second

// reread keeps the large entries of the log that were read just now: of a message that
// shorten cut raft reads the rest again for the next one, and again for each after that.
// Only what was read from the disk is kept, never what is written: that memory is used again.
type reread struct {
	mu   sync.Mutex
	list [appendEntries]raft.Log // at its index modulo their number
	cuts uint64                  // how often something was taken off the log
	over *time.Timer             // forgets; nil while nothing is kept
}

// get finds entry index, else it returns what put wants to know.
func (r *reread) get(index uint64, entry *raft.Log) (found bool, cuts uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := &r.list[index%appendEntries]; e.Index == index && index > 0 {
		*entry = *e
		return true, r.cuts
	}
	return false, r.cuts
}

// put keeps an entry that was read after get returned cuts.
func (r *reread) put(entry *raft.Log, cuts uint64) {
	if size := len(entry.Data); size <= besideBytes/appendEntries || size > maxBatchBytes {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if cuts != r.cuts {
		return // it may be one of those taken off
	}
	r.list[entry.Index%appendEntries] = *entry
	if r.over == nil {
		r.over = time.AfterFunc(rereadTime, func() { r.drop(0) })
	} else {
		r.over.Reset(rereadTime)
	}
}

// cut is called when entries were taken off the log, and before others take their place.
func (r *reread) cut() { r.drop(1) }

func (r *reread) drop(cuts uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cuts += cuts
	clear(r.list[:])
	if r.over != nil {
		r.over.Stop()
		r.over = nil
	}
}
