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
	lockMode string // "none" or "session"; redisMode where the records are no sessions
	tags     atomic.Pointer[string]
	segments []segment
	sessions atomic.Uint64
	bytes    atomic.Uint64 // part of resource.used

	// usersMu guards users. Who changes a session's key or user, or ends a
	// session that has one, holds it over the whole change, so that a listing
	// misses no session that is just being renewed. It is taken before segments' locks.
	usersMu sync.RWMutex
	users   users
}

func (d *dataset) segment(key []byte) *segment { return d.segmentOf(hash(key)) }

// segmentOf returns the segment of keys with hash h.
func (d *dataset) segmentOf(h uint64) *segment { return &d.segments[h%uint64(len(d.segments))] }

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

// at is where a session is.
type at struct {
	*segment
	h uint64
	b block
	r ref
}

// find returns the session that key leads to at now, or the refusal. It is for the
// goroutine that applies. What it returns is valid until the session changes.
func (d *dataset) find(key []byte, now Time) (at, *wire.Error) {
	h := hash(key)
	g := d.segmentOf(h)
	b, r := g.look(h, key)
	switch {
	case b == nil:
		return at{}, unknownSession()
	case b.kind() == kindRecord:
		return at{g, h, b, r}, nil
	}
	t := b.trace()
	if !t.leads(now) {
		return at{}, gone(t.ending())
	}
	h = hash(t.target)
	g = d.segmentOf(h)
	b, r = g.look(h, t.target)
	return at{g, h, b, r}, nil
}

func unknownSession() *wire.Error {
	return &wire.Error{Word: wire.ErrSessionUnknown, Text: "no session has this key"}
}

// reader is what one View needs.
type reader struct {
	record Record
	target []byte
}

// readers holds *reader.
var readers = sync.Pool{New: func() any { return new(reader) }}

// view calls f with the session that key leads to at now. Readers lock one segment after the
// other, and may find a session moved on or ended in between: then they begin again.
func (d *dataset) view(key []byte, now Time, f func(*Record)) (closed bool, err *wire.Error) {
	v := readers.Get().(*reader)
	defer readers.Put(v)
	for {
		found, alias, closed, err := d.segment(key).view(v, key, now, f)
		if alias {
			found, _, closed, _ = d.segment(v.target).view(v, v.target, now, f)
		}
		if found || closed || err != nil {
			return closed, err
		}
	}
}

// view calls f with the session of key, if there is one. If key is an alias it
// copies where it leads to.
func (g *segment) view(v *reader, key []byte, now Time, f func(*Record)) (found, alias, closed bool, err *wire.Error) {
	h := hash(key)
	g.mu.RLock()
	defer g.mu.RUnlock()
	b, _ := g.look(h, key)
	switch {
	case g.closed:
		return false, false, true, nil
	case b == nil:
		return false, false, false, unknownSession()
	case b.kind() == kindRecord:
		b.view(&v.record)
		f(&v.record)
		return true, false, false, nil
	}
	t := b.trace()
	if t.leads(now) {
		v.target = append(v.target[:0], t.target...)
		return false, true, false, nil
	}
	return false, false, false, gone(t.ending())
}

func gone(reason []byte) *wire.Error {
	return &wire.Error{Word: wire.ErrSessionGone, Text: string(reason)}
}

// lock locks the segments of keys and returns what unlocks them. They are locked
// in their order; only the goroutine that applies locks more than one.
func (d *dataset) lock(keys ...[]byte) (unlock func()) {
	at := d.places(keys)
	for _, i := range at {
		d.segments[i].mu.Lock()
	}
	return func() {
		for _, i := range at {
			d.segments[i].mu.Unlock()
		}
	}
}

// places returns the numbers of the segments of keys, in their order.
func (d *dataset) places(keys [][]byte) []int {
	at := make([]int, 0, len(keys))
	for _, key := range keys {
		at = append(at, int(hash(key)%uint64(len(d.segments))))
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// enlist notes that the session under key is user's. The caller holds usersMu.
func (d *dataset) enlist(user, key []byte) {
	if len(user) > 0 {
		d.users.add(pair{hash(user), hash(key)})
	}
}

// delist undoes enlist. The caller holds usersMu.
func (d *dataset) delist(user, key []byte) {
	if len(user) > 0 {
		d.users.remove(pair{hash(user), hash(key)})
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
	list := d.userSessions(user)
	slices.SortFunc(list, func(a, b UserSession) int {
		if a.Created != b.Created {
			return int(min(max(a.Created-b.Created, -1), 1))
		}
		return bytes.Compare(a.Key, b.Key)
	})
	return list[:min(len(list), max(limit, 0))], nil
}

func (d *dataset) userSessions(user []byte) (list []UserSession) {
	d.usersMu.RLock()
	defer d.usersMu.RUnlock()
	for _, h := range d.users.keys(hash(user)) {
		g := d.segmentOf(h)
		g.mu.RLock()
		g.index.each(&g.arena, h, func(b block) {
			if b.kind() == kindRecord && bytes.Equal(b.user(), user) {
				list = append(list, UserSession{Key: bytes.Clone(b.key()), Created: b.created(), LastAccess: b.lastAccess()})
			}
		})
		g.mu.RUnlock()
	}
	return list
}

func unconfigured() *wire.Error {
	return &wire.Error{Word: wire.ErrUnconfigured, Text: "the cluster is not configured: run cluster-tool configure"}
}

// dataset finds the dataset of sessions called name, or returns the refusal.
func (st *state) dataset(name []byte) (*dataset, *wire.Error) {
	if d := (*st.datasets.Load())[string(name)]; d != nil {
		if d.ofRedis() {
			return nil, noSessions()
		}
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
func newDataset(epochs *epochs, name string, r *resource, disk, lockMode, tags string, segments int) *dataset {
	d := &dataset{name: name, resource: r, disk: disk, lockMode: lockMode,
		segments: make([]segment, segments)}
	for i := range d.segments {
		d.segments[i].epochs, d.segments[i].ends.ties = epochs, true
	}
	d.tags.Store(&tags)
	return d
}
