package store

import (
	"bytes"
	"io"
	"maps"
	"slices"

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

// Snapshot is a point in time of the store. Writes go on beside it.
type Snapshot struct {
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
// kept in memory in both forms until Release.
func (s *Store) Snapshot() *Snapshot {
	st := s.st.Load()
	n := &Snapshot{
		state: st, epoch: st.epochs.take(),
		index: st.index.Load(), now: Time(st.now.Load()), cluster: st.cluster, document: st.document,
	}
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
	if n.state == nil {
		return
	}
	held, free := n.state.epochs.drop(n.epoch)
	if free {
		n.state.free()
	} else {
		for i := range n.datasets {
			d := n.datasets[i].dataset
			for j := range d.segments {
				d.segments[j].sweep(held)
			}
		}
	}
	*n = Snapshot{}
}

// WriteTo writes the snapshot: a format version, sections with checksums, an end
// mark. Equal stores write equal bytes. Before Release it may be called again and
// writes the same.
func (n *Snapshot) WriteTo(w io.Writer) (int64, error) {
	b := newBlockWriter(w)
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
			b.segment(&d.segments[j], &r)
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

func (b *blockWriter) segment(g *frozenSegment, r *record) {
	records, traces := g.blocks()
	b.part(sectionSegment)
	b.uint(uint64(len(records)))
	for _, s := range records {
		s.read(r)
		b.record(r)
		if b.err != nil {
			return
		}
	}
	b.uint(uint64(len(traces)))
	for _, s := range traces {
		t := s.trace()
		b.trace(&t)
	}
}

// blocks returns what is in the segment, by key.
func (g *frozenSegment) blocks() (records, traces []block) {
	g.index.tables(func(t *table) {
		for _, s := range t.slots {
			if s == 0 {
				continue
			}
			b := block(g.arena.at(slotRef(s)))
			if b.kind() == kindRecord {
				records = append(records, b)
			} else {
				traces = append(traces, b)
			}
		}
	})
	byKey := func(x, y block) int { return bytes.Compare(x.key(), y.key()) }
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
