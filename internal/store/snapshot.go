package store

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// The sections of a snapshot, in this order; each starts with its letter. Where
// a length varies, its number stands first. The first three are one part, each
// other section is a part of its own.
const (
	sectionTimes   = 'T' // index, log time
	sectionCluster = 'C' // where configured: document, licence
	sectionNode    = 'N' // one node with its outcomes; by id
	sectionDataset = 'D' // one dataset without its sessions; by name
	sectionSegment = 'S' // records and traces of the next segment of the dataset; each by key
	sectionEnd     = 'E'
)

// ErrGivenUp is returned when a snapshot is written that GiveUp gave up.
var ErrGivenUp = errors.New("the snapshot was given up: it got on too slowly for the changes made meanwhile, whose older forms it holds in memory")

// errDrained is a fault of the caller.
var errDrained = errors.New("a snapshot is drained once, and cannot be written after that")

// Snapshot is a point in time of the store. Writes go on beside it.
type Snapshot struct {
	// mu is held while memory of the store is read, and let go of while that is written on.
	// It guards gone: nothing is held any more.
	mu   sync.Mutex
	gone bool

	done atomic.Int64 // bytes that were written

	looked bool  // by GiveUp
	seen   int64 // done at its last look

	drained  bool
	state    *state
	epoch    uint32
	index    uint64
	now      Time
	cluster  *wire.Cluster
	document []byte
	nodes    []node
	datasets []frozenDataset
}

type frozenDataset struct {
	*dataset // only what never changes
	tags     string
	segments []frozenSegment
}

// frozenSegment is a segment as it was: directory, tables and blocks of the
// epoch stay as they are until the snapshot is released.
type frozenSegment struct {
	arena arena // only the chunks
	index index
}

// Snapshot returns the state as it is now. Call Release when done. It is for the
// goroutine that calls Apply, and copies no sessions: what changes meanwhile is
// kept in memory in both forms until Drain has written it, or until Release.
func (s *Store) Snapshot() *Snapshot {
	st := s.st.Load()
	n := &Snapshot{
		state: st,
		index: st.index.Load(), now: Time(st.now.Load()), cluster: st.cluster, document: st.document,
	}
	st.epochs.take(n)
	for _, nd := range st.nodes {
		c := *nd
		c.outcomes = maps.Clone(nd.outcomes)
		n.nodes = append(n.nodes, c)
	}
	for _, d := range st.sortedDatasets() {
		f := frozenDataset{dataset: d, tags: *d.tags.Load(), segments: make([]frozenSegment, len(d.segments))}
		for i := range d.segments {
			g := &d.segments[i]
			f.segments[i] = frozenSegment{arena{chunks: g.arena.chunks}, g.index}
		}
		n.datasets = append(n.datasets, f)
	}
	return n
}

// Release gives back what the snapshot held. It may be called at any time, once
// nobody writes the snapshot any more.
func (n *Snapshot) Release() {
	n.giveUp()
	n.nodes, n.datasets = nil, nil
}

// giveUp is Release while somebody may be writing the snapshot, who gets ErrGivenUp.
func (n *Snapshot) giveUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		return
	}
	n.gone = true
	if n.state.epochs.drop(n) {
		n.state.free()
	} else {
		for i := range n.datasets {
			d := n.datasets[i].dataset
			for j := range d.segments {
				d.segments[j].sweep()
			}
		}
	}
	n.state = nil
}

// WriteTo writes the snapshot: a format version, sections with checksums, an end
// mark. Equal stores write equal bytes. Before Drain and Release it may be called again and
// writes the same.
func (n *Snapshot) WriteTo(w io.Writer) (int64, error) {
	if n.drained {
		return 0, errDrained
	}
	return n.write(w)
}

// Drain writes what WriteTo does, and lets go of each session as it is written: what
// changes behind that is not kept for the snapshot. It is called once.
func (n *Snapshot) Drain(w io.Writer) (int64, error) {
	if n.drained {
		return 0, errDrained
	}
	n.drained = true
	return n.write(w)
}

func (n *Snapshot) write(w io.Writer) (int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		return 0, ErrGivenUp
	}
	b := newBlockWriter(unlocked{n, w})
	b.byte(sectionTimes)
	b.uint(n.index)
	b.uint(uint64(n.now))
	if n.cluster != nil {
		b.byte(sectionCluster)
		b.bytes(n.document)
		b.bytes([]byte(n.cluster.License))
	}
	slices.SortFunc(n.nodes, func(x, y node) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	for i := range n.nodes {
		b.node(&n.nodes[i])
	}
	var r record
	for i := range n.datasets {
		d := &n.datasets[i]
		b.part(sectionDataset)
		b.bytes([]byte(d.name))
		b.bytes([]byte(d.resource.name))
		b.bytes([]byte(d.disk))
		b.bytes([]byte(d.lockMode))
		b.bytes([]byte(d.tags))
		b.uint(uint64(len(d.segments)))
		for j := range d.segments {
			n.segment(b, d, j, &r)
			if b.err != nil {
				return b.n, b.err
			}
		}
	}
	b.part(sectionEnd)
	b.close()
	return b.n, b.err
}

func (b *blockWriter) node(n *node) {
	b.byte(sectionNode)
	b.raw(n.ID[:])
	b.bytes([]byte(n.Label))
	b.uint(uint64(n.Joined))
	b.uint(n.Generation)
	b.uint(n.low)
	b.uint(uint64(len(n.outcomes)))
	for _, seq := range slices.Sorted(maps.Keys(n.outcomes)) {
		out := n.outcomes[seq]
		b.uint(seq)
		b.uint(out.Version)
		b.bool(out.Existed)
		b.token(out.Token)
		if out.Err == nil {
			b.bytes(nil)
		} else {
			b.bytes([]byte(out.Err.Word))
			b.bytes([]byte(out.Err.Text))
		}
		b.uint(uint64(len(out.Dropped)))
		for _, name := range out.Dropped {
			b.bytes(name)
		}
	}
}

// unlocked writes to w without the snapshot's lock: GiveUp does not wait for it.
type unlocked struct {
	n *Snapshot
	w io.Writer
}

// Write implements io.Writer.
func (u unlocked) Write(p []byte) (n int, err error) {
	u.n.mu.Unlock()
	defer func() {
		u.n.mu.Lock()
		if u.n.done.Add(int64(n)); err == nil && u.n.gone {
			err = ErrGivenUp
		}
	}()
	return u.w.Write(p)
}

// What is let go of at once, while the segment is locked: so many sessions, or so many bytes.
const (
	drainSessions = 64
	drainBytes    = 64 << 10
)

// segment writes segment j of d. Once b.err is set the memory may have gone.
func (n *Snapshot) segment(b *blockWriter, d *frozenDataset, j int, r *record) {
	if b.err != nil {
		return
	}
	records, traces := d.segments[j].blocks()
	var written []ref
	size := 0
	let := func(at placed) {
		if !n.drained {
			return
		}
		written = append(written, at.r)
		if size += at.size(); len(written) >= drainSessions || size >= drainBytes {
			d.dataset.segments[j].wrote(n.epoch, written)
			written, size = written[:0], 0
		}
	}
	if n.drained {
		d.segments[j].index = index{} // changes have copied it, as likely as not
	}
	b.part(sectionSegment)
	b.uint(uint64(len(records)))
	for _, s := range records {
		if b.err != nil {
			return
		}
		s.read(r)
		if b.record(r); b.err == nil {
			let(s)
		}
	}
	b.uint(uint64(len(traces)))
	for _, s := range traces {
		if b.err != nil {
			return
		}
		t := s.trace()
		if b.trace(&t); b.err == nil {
			let(s)
		}
	}
	if len(written) > 0 && b.err == nil {
		d.dataset.segments[j].wrote(n.epoch, written)
	}
}

// placed is a block and where it is.
type placed struct {
	block
	r ref
}

// blocks returns what is in the segment, by key.
func (g *frozenSegment) blocks() (records, traces []placed) {
	g.index.tables(func(t *table) {
		for _, s := range t.slots {
			if s == 0 {
				continue
			}
			b := placed{g.arena.at(slotRef(s)), slotRef(s)}
			if b.kind() == kindRecord {
				records = append(records, b)
			} else {
				traces = append(traces, b)
			}
		}
	})
	byKey := func(x, y placed) int { return bytes.Compare(x.key(), y.key()) }
	slices.SortFunc(records, byKey)
	slices.SortFunc(traces, byKey)
	return records, traces
}

func (b *blockWriter) trace(t *trace) {
	b.bytes(t.key)
	b.bytes(t.target)
	b.bytes(t.reason)
	b.uint(uint64(t.until))
}

func (b *blockWriter) record(r *record) {
	b.bytes(r.Key)
	b.uint(r.Version)
	b.uint(uint64(r.Created))
	b.uint(uint64(r.LastAccess))
	b.uint(millis(r.Idle))
	b.uint(uint64(r.Deadline))
	b.bytes(r.User)
	b.uint(uint64(len(r.attrs)))
	for i, at := range r.attrs {
		b.bytes(at.Name)
		b.stamp(r.stamps[i])
		b.bytes(at.Value)
	}
	b.uint(uint64(len(r.stubs)))
	for _, s := range r.stubs {
		b.bytes(s.name)
		b.stamp(s.stamp)
	}
	b.stamp(r.floor.stamp)
	b.uint(r.floor.others)
}

func (b *blockWriter) stamp(s stamp) {
	b.uint(s.version)
	b.uint(s.by.incarnation)
	b.uint(s.by.term)
	b.uint(s.by.counter)
	b.uint(s.seq)
}

func (b *blockWriter) token(t wire.Token) {
	b.uint(t.Incarnation)
	b.uint(t.Term)
	b.uint(t.Counter)
	b.uint(t.Index)
}
