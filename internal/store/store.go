// Package store is what the cluster remembers: the cluster's configuration and
// licence, datasets, sessions (records), tombstones, joined nodes and the
// outcomes of their writes, in bounded off-heap resources.
//
// It is deterministic: no clock, no network, no randomness. Everything that
// changes it is an operation from the agreed log, applied in order with the log
// time of its entry; two stores that applied the same log are equal, byte for
// byte in their snapshots. Whether an operation is accepted depends on nothing
// but the store's content.
//
// # What a record is
//
// A record is a key, attributes, times, a user and a version. Each attribute remembers the
// version that last changed it and who did (grant and sequence number). A
// removed attribute leaves a stub with the same facts, so that a set from before
// the removal is not applied after it; beyond 16 stubs the oldest are folded into
// one floor that all attributes without a stub share.
//
// A key without a record may have a trace: an alias (the key was renewed, and
// leads to the record for a grace) or a tombstone (the session ended, and why).
//
// # Where it is
//
// Sessions and traces lie outside of the garbage collector's memory, each in one
// block of its segment's arena (block, arena); the index, the queues of what ends when and the lists of
// users hold places and hashes, no pointers. A change writes a new block, or the
// old one in place, under the segment's lock, which readers share. A snapshot takes the
// segments' directories as they are and begins a new epoch: what is older is
// never changed, and blocks that are replaced are kept until the snapshot is released. Segments
// are restored beside each other. Where sessions grow and end, blocks are moved together, a few with each
// change, so that most of the memory that is taken is used.
// Close gives all memory back.
//
// # What is accounted
//
// Bytes are counted by a fixed formula of replicated facts, not by what the Go
// runtime takes, since every server must refuse the same write:
//
//	dataset    4096 + 256 for each segment
//	record      192 + key + user (and 32 where there is a user)
//	attribute    48 + name + value
//	stub         48 + name
//	alias       128 + key + key it leads to
//	tombstone    64 + key + reason
//
// A key of Redis commands is a record, and a field of a hash an attribute whose name has one
// byte more (RedisDataset).
//
// The numbers are part of the log's format: another number is another format
// version. They are chosen so that ending a session and removing an attribute
// that exists never take more than they give back, and so are never refused; and close to what
// memory is really taken, index, queues and what rounding loses included: a session of
// 1 KiB in 8 attributes counts 1714 bytes and takes about 1600. Memory tells what is taken.
// Nothing is ever evicted. What nodes make us remember has bounds of its own (maxOutcomes).
package store

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Time is log time: milliseconds on the stripe's own clock, which only the
// active advances, by what it stamps into log entries. It never goes back.
type Time int64

// after returns t+d; it stays at the largest Time where the sum has no place.
func (t Time) after(d time.Duration) Time {
	sum := t + Time(d/time.Millisecond)
	if d > 0 && sum < t {
		return 1<<63 - 1
	}
	return sum
}

// Store is the state of one stripe's server. Apply, Snapshot and Restore are for
// one goroutine; all other methods may be called at any time.
type Store struct {
	st atomic.Pointer[state] // replaced whole by Restore
}

// state is everything that Restore replaces. Only the goroutine that applies
// changes it, so that it reads without locks what others must lock to read.
type state struct {
	index    atomic.Uint64
	now      atomic.Int64
	datasets atomic.Pointer[map[string]*dataset] // name -> dataset; the map is copied to change it

	mu        sync.RWMutex // guards the fields below, for those who do not apply
	cluster   *wire.Cluster
	document  []byte // the JSON of cluster as it was agreed, without the licence
	resources []*resource
	nodes     map[wire.NodeID]*node

	epochs     epochs
	heldLimit  atomic.Uint64 // bytes of epochs.kept; 0: heldLeast
	remembered atomic.Int64  // bytes of outcomes of all nodes
	scratch    scratch       // of the goroutine that applies
}

// New returns an empty, unconfigured store.
func New() *Store {
	s := new(Store)
	s.st.Store(newState())
	return s
}

func newState() *state {
	st := &state{nodes: map[wire.NodeID]*node{}}
	st.datasets.Store(&map[string]*dataset{})
	return st
}

// Close gives back the store's memory: what snapshots hold when they are
// released. It is for when nobody applies any more. The store is empty after it.
func (s *Store) Close() { s.replace(newState()) }

// replace puts st in the place of the state and gives back the old one's memory.
func (s *Store) replace(st *state) {
	if old := s.st.Swap(st); old.epochs.close() {
		old.free()
	}
}

// free gives back the memory. Nobody applies, and no snapshot is held.
func (st *state) free() {
	for _, d := range *st.datasets.Load() {
		d.free()
	}
}

func (d *dataset) free() {
	for i := range d.segments {
		d.segments[i].close()
	}
}

// Apply applies one operation. It never fails as a whole: a refusal is an
// outcome and is remembered like any other. op's memory is copied out of.
// An op that does not decode, or of an unknown kind, is ErrBadRequest and
// changes nothing but the store index. A now before the last one counts as the
// last one. The outcome's memory is shared: do not change what its slices hold.
func (s *Store) Apply(now Time, op []byte) wire.Outcome {
	st := s.st.Load()
	a := step{state: st, at: max(now, Time(st.now.Load())), index: st.index.Load() + 1}
	// Time first: whoever sees the change must not see an older time beside it.
	st.now.Store(int64(a.at))
	st.scratch.forgotten = st.scratch.forgotten[:0]
	out := a.apply(op)
	st.index.Store(a.index)
	return out
}

// Forgotten returns the keys of Redis commands that the last Apply deleted: unlike a
// session's end that leaves no trace. It and they are valid until the next Apply, as long
// as that operation's memory; it is for the goroutine that calls Apply.
func (s *Store) Forgotten() [][]byte { return s.st.Load().scratch.forgotten }

// Knows reports whether op is of a kind that this version knows. Where it is not,
// a later version wrote the log, and to go on would make this state differ from
// that of others.
func (*Store) Knows(op []byte) bool {
	return len(op) > 0 && kind(op[0]) >= kindCreate && kind(op[0]) <= kindLast
}

// step is the application of one operation.
type step struct {
	*state
	at    Time   // log time of the entry
	index uint64 // store index that this operation makes
}

func (a *step) apply(op []byte) wire.Outcome {
	d := decoder{b: op}
	switch kind(d.byte()) {
	case kindCreate, kindCommit, kindInvalidate, kindRenew:
		return a.applyWrite(kind(op[0]), &d)
	case kindOpen:
		o := d.open()
		return a.admin(&d, func() *wire.Error { return a.open(&o) })
	case kindTouch:
		dataset, list := d.touches()
		return a.admin(&d, func() *wire.Error { return a.touch(dataset, list) })
	case kindExpire:
		dataset, keys := d.expire()
		out := wire.Outcome{Version: a.index}
		out.Err = a.admin(&d, func() (err *wire.Error) {
			out.Existed, err = a.expire(dataset, keys)
			return err
		}).Err
		return out
	case kindPrune:
		limit := d.uint()
		return a.admin(&d, func() *wire.Error { a.prune(limit); return nil })
	case kindJoin:
		j := d.join()
		return a.admin(&d, func() *wire.Error { return a.join(&j) })
	case kindLeave:
		id := d.node()
		return a.admin(&d, func() *wire.Error { a.leave(id); return nil })
	case kindConfigure:
		document, license := d.raw(), d.raw()
		if err := d.end(); err != nil {
			return wire.Outcome{Err: err}
		}
		if err := a.configure(document, license); err != nil {
			return wire.Outcome{Err: err}
		}
		return wire.Outcome{Version: a.index}
	case kindRedisSet, kindRedisDelete, kindRedisExpire, kindRedisHSet, kindRedisHDel, kindRedisRead:
		return a.redis(kind(op[0]), &d)
	}
	return wire.Outcome{Err: badRequest("unknown kind of operation")}
}

// admin applies an operation that no node numbers: its outcome is not remembered.
func (a *step) admin(d *decoder, do func() *wire.Error) wire.Outcome {
	err := d.end()
	if err == nil && a.cluster == nil {
		err = unconfigured()
	}
	if err == nil {
		err = do()
	}
	if err != nil {
		return wire.Outcome{Err: err}
	}
	return wire.Outcome{Version: a.index}
}

// Index returns the store index: the number of operations applied since the
// stripe was born. A record's version is the index of its last change.
func (s *Store) Index() uint64 { return s.st.Load().index.Load() }

// Now returns the largest log time applied.
func (s *Store) Now() Time { return Time(s.st.Load().now.Load()) }

// Record is a view of one record. It and its byte slices are valid only inside
// the function they were handed to.
type Record struct {
	Key        []byte
	Version    uint64
	Created    Time
	LastAccess Time
	Idle       time.Duration // idle timeout, 0 = none
	Deadline   Time          // absolute timeout, 0 = none
	User       []byte
	attrs      []wire.Attribute
}

// Attributes returns the attributes by name; do not change them.
func (r *Record) Attributes() []wire.Attribute { return r.attrs }

// View calls f with the record of key and returns nil; or returns the refusal
// (ErrUnconfigured, ErrNoDataset, ErrSessionGone with the reason as first word of
// its text, ErrSessionUnknown). f must be quick: writes to the record's segment
// may wait for it. A key that was renewed within its grace leads to the record
// under its new key. A record past its time-outs that no entry has expired yet is
// still returned: the active decides about time.
func (s *Store) View(dataset, key []byte, f func(*Record)) *wire.Error {
	for {
		st := s.st.Load()
		d, err := st.dataset(dataset)
		if err != nil {
			return err
		}
		closed, err := d.view(key, Time(st.now.Load()), f)
		if !closed {
			return err
		}
		// The state was replaced meanwhile.
	}
}

// Cluster returns the installed configuration with its licence, or nil. Do not change it.
func (s *Store) Cluster() *wire.Cluster {
	st := s.st.Load()
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.cluster
}

// Datasets tells what is stored, by name.
func (s *Store) Datasets() []wire.DatasetStatus {
	st := s.st.Load()
	var list []wire.DatasetStatus
	for _, d := range st.sortedDatasets() {
		list = append(list, wire.DatasetStatus{
			Name:     d.name,
			Offheap:  d.resource.name,
			Disk:     d.disk,
			Segments: len(d.segments),
			LockMode: d.lockMode,
			Tags:     *d.tags.Load(),
			Sessions: d.sessions.Load(),
			Bytes:    d.bytes.Load(),
		})
	}
	return list
}

// Offheap tells how full the off-heap resources are, in the order of the configuration.
func (s *Store) Offheap() []wire.OffheapStatus {
	st := s.st.Load()
	st.mu.RLock()
	defer st.mu.RUnlock()
	var list []wire.OffheapStatus
	for _, r := range st.resources {
		list = append(list, wire.OffheapStatus{Name: r.name, Size: r.size, Used: r.used.Load()})
	}
	return list
}
