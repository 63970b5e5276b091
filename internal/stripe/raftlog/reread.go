package raftlog

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// rereadTime is for how long an entry that was read from the log is kept for the next reader.
const rereadTime = time.Second

// Reread says which of the entries that were read just now are kept for the next reader.
// Its zero value: none.
type Reread struct {
	Entries int // so many
	Above   int // those with more bytes
	UpTo    int // and not with more than these
}

// reread keeps the large entries of the log that were read just now: of a message that
// is cut short raft reads the rest again for the next one, and again for each after that.
// Only what was read from the disk is kept, never what is written: that memory is used again.
type reread struct {
	which Reread

	mu   sync.Mutex
	list []raft.Log  // at its index modulo their number
	cuts uint64      // how often something was taken off the log
	over *time.Timer // forgets; nil while nothing is kept
}

func newReread(which Reread) *reread {
	return &reread{which: which, list: make([]raft.Log, max(1, which.Entries))}
}

func (r *reread) at(index uint64) *raft.Log { return &r.list[index%uint64(len(r.list))] }

// get finds entry index, else it returns what put wants to know.
func (r *reread) get(index uint64, entry *raft.Log) (found bool, cuts uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.at(index); e.Index == index && index > 0 {
		*entry = *e
		return true, r.cuts
	}
	return false, r.cuts
}

// put keeps an entry that was read after get returned cuts.
func (r *reread) put(entry *raft.Log, cuts uint64) {
	if size := len(entry.Data); size <= r.which.Above || size > r.which.UpTo {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if cuts != r.cuts {
		return // it may be one of those taken off
	}
	*r.at(entry.Index) = *entry
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
	clear(r.list)
	if r.over != nil {
		r.over.Stop()
		r.over = nil
	}
}
