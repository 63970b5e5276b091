package store

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/terracotta-go/terracotta/internal/wire"
)

const (
	// chosenSegments is the concurrency of a dataset that names none.
	chosenSegments = 32
	// maxDatasets bounds the datasets of a stripe.
	maxDatasets = 256
)

// resource is a budget of bytes. used never exceeds size.
type resource struct {
	name string
	size uint64
	used atomic.Uint64
}

// dataset is a named set of sessions in one off-heap resource.
type dataset struct {
	name     string
	resource *resource
	disk     string // name of a data directory, "" where there is none
	lockMode string // "none" or "session"
	tags     atomic.Pointer[string]
	segments []segment
	sessions atomic.Uint64
	bytes    atomic.Uint64 // part of resource.used

	// usersMu guards users. Who changes a session's key or user, or ends a
	// session that has one, holds it over the whole change, so that a listing
	// misses no session that is just being renewed. It is taken before segments' locks.
	usersMu sync.RWMutex
	users   map[string]map[string]struct{} // user -> keys of the user's sessions
}

func (d *dataset) segment(key []byte) *segment {
	return &d.segments[hash(key)%uint64(len(d.segments))]
}

// ownCost is what the dataset takes without its sessions.
func (d *dataset) ownCost() uint64 { return datasetCost + segmentCost*uint64(len(d.segments)) }

// fits accounts the change from old to new bytes; or it refuses and changes nothing.
// A change that takes no more than it gives back always fits.
func (d *dataset) fits(old, new uint64) *wire.Error {
	r := d.resource
	used := r.used.Load()
	if new > old && (new-old > r.size || used > r.size-(new-old)) {
		return &wire.Error{Word: wire.ErrOutOfOffheap, Text: fmt.Sprintf(
			"off-heap resource %q is full: %d bytes more do not fit, %d of its %d bytes are used", r.name, new-old, used, r.size)}
	}
	r.used.Store(used + new - old)
	d.bytes.Store(d.bytes.Load() + new - old)
	return nil
}

// give accounts a change that gives back at least what it takes.
func (d *dataset) give(old, new uint64) {
	if err := d.fits(old, new); err != nil {
		panic("store: ending something took memory: " + err.Text)
	}
}

// find returns the session that key leads to at now, or the refusal.
func (d *dataset) find(key []byte, now Time) (*record, *wire.Error) {
	// An alias leads to a session directly. Readers, who lock one segment after the
	// other, may find it moved on or ended in between, and begin again.
	for look, followed := key, false; ; {
		g := d.segment(look)
		g.mu.RLock()
		r, t := g.records[string(look)], g.traces[string(look)]
		g.mu.RUnlock()
		switch {
		case r != nil:
			return r, nil
		case followed:
			look, followed = key, false
		case t != nil && t.leads(now):
			look, followed = t.target, true
		case t != nil:
			return nil, gone(t.ending())
		default:
			return nil, &wire.Error{Word: wire.ErrSessionUnknown, Text: "no session has this key"}
		}
	}
}

func gone(reason []byte) *wire.Error {
	return &wire.Error{Word: wire.ErrSessionGone, Text: string(reason)}
}

// lock locks the segments of keys and returns what unlocks them. They are locked
// in their order; only the goroutine that applies locks more than one.
func (d *dataset) lock(keys ...[]byte) (unlock func()) {
	at := make([]int, 0, len(keys))
	for _, key := range keys {
		at = append(at, int(hash(key)%uint64(len(d.segments))))
	}
	slices.Sort(at)
	at = slices.Compact(at)
	for _, i := range at {
		d.segments[i].mu.Lock()
	}
	return func() {
		for _, i := range at {
			d.segments[i].mu.Unlock()
		}
	}
}

// enlist notes that the session under key is user's. The caller holds usersMu.
func (d *dataset) enlist(user, key []byte) {
	if len(user) == 0 {
		return
	}
	keys := d.users[view(user)]
	if keys == nil {
		keys = map[string]struct{}{}
		d.users[string(user)] = keys
	}
	keys[view(key)] = struct{}{}
}

// delist undoes enlist. The caller holds usersMu.
func (d *dataset) delist(user, key []byte) {
	if len(user) == 0 {
		return
	}
	keys := d.users[view(user)]
	delete(keys, view(key))
	if len(keys) == 0 {
		delete(d.users, view(user))
	}
}

// UserSession is one session of a user.
type UserSession struct {
	Key                 []byte
	Created, LastAccess Time
}

// UserSessions lists the sessions of user in dataset, oldest first, at most limit.
func (s *Store) UserSessions(dataset, user []byte, limit int) ([]UserSession, *wire.Error) {
	d, err := s.st.Load().dataset(dataset)
	if err != nil {
		return nil, err
	}
	d.usersMu.RLock()
	defer d.usersMu.RUnlock()
	var list []UserSession
	for key := range d.users[string(user)] {
		g := d.segment([]byte(key))
		g.mu.RLock()
		r := g.records[key]
		g.mu.RUnlock()
		list = append(list, UserSession{Key: bytes.Clone(r.Key), Created: r.Created, LastAccess: r.LastAccess})
	}
	slices.SortFunc(list, func(a, b UserSession) int {
		if a.Created != b.Created {
			return int(min(max(a.Created-b.Created, -1), 1))
		}
		return bytes.Compare(a.Key, b.Key)
	})
	return list[:min(len(list), max(limit, 0))], nil
}

func unconfigured() *wire.Error {
	return &wire.Error{Word: wire.ErrUnconfigured, Text: "the cluster is not configured: run cluster-tool configure"}
}

// dataset finds the dataset called name, or returns the refusal.
func (st *state) dataset(name []byte) (*dataset, *wire.Error) {
	if d := (*st.datasets.Load())[string(name)]; d != nil {
		return d, nil
	}
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.cluster == nil {
		return nil, unconfigured()
	}
	return nil, &wire.Error{Word: wire.ErrNoDataset, Text: fmt.Sprintf("no dataset %q: open it first", name)}
}

func (st *state) sortedDatasets() []*dataset {
	m := *st.datasets.Load()
	list := make([]*dataset, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[name])
	}
	return list
}

// install makes d part of the state.
func (st *state) install(d *dataset) {
	m := maps.Clone(*st.datasets.Load())
	m[d.name] = d
	st.datasets.Store(&m)
}

// newDataset returns an empty dataset that nothing is accounted for yet.
func newDataset(name string, r *resource, disk, lockMode, tags string, segments int) *dataset {
	d := &dataset{name: name, resource: r, disk: disk, lockMode: lockMode,
		segments: make([]segment, segments), users: map[string]map[string]struct{}{}}
	d.tags.Store(&tags)
	return d
}
