package store

import (
	"bytes"
	"io"
	"slices"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// anyLength is for byte strings that only the memory bounds.
const anyLength = 1 << 40

// Restore replaces the whole state by a snapshot. It believes nothing: a snapshot that
// no store can have written is an error. On error the store is empty.
func (s *Store) Restore(r io.Reader) error {
	s.replace(newState()) // first, so that old and new are never in memory together
	st := newState()
	b := newBlockReader(r)
	b.state(st)
	if b.err != nil {
		st.free()
		return b.err
	}
	s.replace(st)
	return nil
}

func (b *blockReader) state(st *state) {
	b.expect(sectionTimes)
	st.index.Store(b.uint())
	st.now.Store(int64(b.time()))
	section := b.byte()
	if section == sectionCluster {
		b.cluster(st)
		section = b.byte()
		var last wire.NodeID
		for ; section == sectionNode && b.err == nil; section = b.byte() {
			n := b.node(st)
			if bytes.Compare(n.ID[:], last[:]) <= 0 {
				b.fail("nodes are not in order")
			}
			st.nodes[n.ID], last = n, n.ID
		}
		name := ""
		for ; section == sectionDataset && b.err == nil; section = b.byte() {
			d := b.dataset(st)
			if b.err == nil && d.name <= name {
				b.fail("datasets are not in order")
			}
			if b.err != nil {
				return
			}
			st.install(d)
			name = d.name
		}
	}
	if b.err == nil && section != sectionEnd {
		b.fail("section %q stands where it may not", section)
	}
	b.end()
}

func (b *blockReader) expect(section byte) {
	if c := b.byte(); c != section {
		b.fail("section %q stands where %q should", c, section)
	}
}

func (b *blockReader) cluster(st *state) {
	document := b.bytes("cluster configuration", anyLength)
	license := b.bytes("licence", anyLength)
	if b.err != nil {
		return
	}
	c, resources, err := readCluster(document, license)
	if err != nil {
		b.fail("%s", err.Text)
		return
	}
	st.cluster, st.document, st.resources = c, document, resources
}

func (b *blockReader) node(st *state) *node {
	n := &node{outcomes: map[uint64]wire.Outcome{}}
	b.raw(n.ID[:])
	n.Label = string(b.bytes("label", wire.MaxLabel))
	n.Joined = b.time()
	n.Generation = b.uint()
	n.low = b.uint()
	count := b.uint()
	if n.Generation == 0 || n.low == 0 || count > maxOutcomes || len(st.nodes) >= maxNodes || n.Joined > Time(st.now.Load()) {
		b.fail("a node has numbers that cannot be")
	}
	last := n.low - 1
	for ; count > 0 && b.err == nil; count-- {
		seq := b.uint()
		out := b.outcome()
		if seq <= last || out.Version > st.index.Load() || n.bytes >= maxOutcomeBytes {
			b.fail("an outcome has numbers that cannot be")
		}
		n.remember(seq, out)
		last = seq
	}
	return n
}

func (b *blockReader) outcome() (out wire.Outcome) {
	out.Version = b.uint()
	out.Existed = b.bool()
	out.Token = wire.Token{Incarnation: b.uint(), Term: b.uint(), Counter: b.uint(), Index: b.uint()}
	if word := b.bytes("error word", wire.MaxReason); len(word) > 0 {
		out.Err = &wire.Error{Word: wire.Word(word), Text: string(b.bytes("error text", anyLength))}
	}
	for count := b.uint(); count > 0 && b.err == nil; count-- {
		name := b.bytes("attribute name", wire.MaxAttributeName)
		if name == nil {
			name = []byte{}
		}
		out.Dropped = append(out.Dropped, name)
	}
	return out
}

func (b *blockReader) dataset(st *state) *dataset {
	name := string(b.bytes("dataset", wire.MaxDatasetName))
	r := findResource(st.resources, string(b.bytes("off-heap resource", wire.MaxUser)))
	disk := string(b.bytes("disk resource", wire.MaxUser))
	lockMode := string(b.bytes("lock mode", wire.MaxUser))
	tags := string(b.bytes("tags", wire.MaxUser))
	segments := b.uint()
	if b.err == nil && (name == "" || r == nil || segments == 0 || segments > wire.MaxConcurrency ||
		len(*st.datasets.Load()) >= maxDatasets || lockMode != "none" && lockMode != "session") {
		b.fail("dataset %q cannot be", name)
	}
	if b.err != nil {
		return nil
	}
	d := newDataset(&st.epochs, name, r, disk, lockMode, tags, int(segments))
	b.account(d, d.ownCost())
	for i := range d.segments {
		if b.segment(st, d, i); b.err != nil {
			break
		}
	}
	if b.err == nil {
		b.bindAliases(st, d)
	}
	if b.err != nil {
		d.free()
		return nil
	}
	return d
}

func (b *blockReader) account(d *dataset, cost uint64) {
	if b.err != nil {
		return
	}
	if err := d.fits(0, cost); err != nil {
		b.fail("%s", err.Text)
	}
}

func (b *blockReader) segment(st *state, d *dataset, at int) {
	b.expect(sectionSegment)
	g := &d.segments[at]
	var last []byte
	for n := b.uint(); n > 0 && b.err == nil; n-- {
		r := b.record(st)
		h := hash(r.Key)
		if d.segmentOf(h) != g || bytes.Compare(r.Key, last) <= 0 {
			b.fail("a session stands where it may not")
		}
		if b.account(d, r.cost); b.err != nil {
			return
		}
		g.put(h, st.scratch.writer.record(r))
		d.enlist(r.User, r.Key)
		d.sessions.Add(1)
		last = r.Key
	}
	last = nil
	for n := b.uint(); n > 0 && b.err == nil; n-- {
		t := b.trace()
		h := hash(t.key)
		if taken, _ := g.look(h, t.key); d.segmentOf(h) != g || bytes.Compare(t.key, last) <= 0 || taken != nil {
			b.fail("an ended session stands where it may not")
		}
		if b.account(d, t.cost()); b.err != nil {
			return
		}
		g.put(h, st.scratch.writer.trace(t))
		last = t.key
	}
}

func (b *blockReader) record(st *state) *record {
	r := new(record)
	r.Key = b.bytes("key", wire.MaxKey)
	r.Version = b.uint()
	r.Created = b.time()
	r.LastAccess = b.time()
	if idle := b.uint(); idle > maxMillis {
		b.fail("an idle timeout is too long")
	} else {
		r.Idle = time.Duration(idle) * time.Millisecond
	}
	r.Deadline = b.time()
	r.User = b.bytes("user", wire.MaxUser)
	if r.Version > st.index.Load() || r.Created > r.LastAccess || r.LastAccess > Time(st.now.Load()) {
		b.fail("a session has numbers that cannot be")
	}
	for n := b.uint(); n > 0 && b.err == nil; n-- {
		name := b.bytes("attribute name", wire.MaxAttributeName)
		r.stamps = append(r.stamps, b.stamp(r.Version))
		r.attrs = append(r.attrs, wire.Attribute{Name: name, Value: b.bytes("attribute", anyLength)})
		if i := len(r.attrs) - 1; i > 0 && bytes.Compare(r.attrs[i-1].Name, name) >= 0 {
			b.fail("attributes are not in order")
		}
	}
	r.attrs, r.stamps = slices.Clip(r.attrs), slices.Clip(r.stamps)
	n := b.uint()
	if n > maxStubs {
		b.fail("a session has too many stubs")
	}
	for ; n > 0 && b.err == nil; n-- {
		s := stub{b.bytes("attribute name", wire.MaxAttributeName), b.stamp(r.Version)}
		_, twice := slices.BinarySearchFunc(r.attrs, s.name, compareAttribute)
		if i := len(r.stubs); twice || i > 0 && bytes.Compare(r.stubs[i-1].name, s.name) >= 0 {
			b.fail("stubs are not in order")
		}
		r.stubs = append(r.stubs, s)
	}
	r.floor.stamp = b.stamp(r.Version)
	if r.floor.others = b.uint(); r.floor.others > r.floor.version {
		b.fail("a floor has numbers that cannot be")
	}
	r.weigh()
	return r
}

func (b *blockReader) stamp(newest uint64) stamp {
	s := stamp{version: b.uint(), by: grant{b.uint(), b.uint(), b.uint()}, seq: b.uint()}
	if s.version > newest {
		b.fail("an attribute is newer than its session")
	}
	return s
}

func (b *blockReader) trace() *trace {
	t := &trace{key: b.bytes("key", wire.MaxKey), target: b.bytes("key", wire.MaxKey), reason: b.bytes("reason", wire.MaxReason)}
	t.until = b.time()
	if b.err == nil && (t.target == nil) != validReason(t.reason) || t.target != nil && t.reason != nil {
		b.fail("an ended session has no fitting reason")
	}
	return t
}

// bindAliases tells each session which keys lead to it.
func (b *blockReader) bindAliases(st *state, d *dataset) {
	var all []*trace
	for i := range d.segments {
		g := &d.segments[i]
		for _, q := range g.ends.s {
			if t := g.block(q.r).trace(); t.target != nil {
				all = append(all, &t)
			}
		}
	}
	slices.SortFunc(all, compareTrace)
	for _, t := range all {
		h := hash(t.target)
		s, _ := d.segmentOf(h).look(h, t.target)
		if s == nil || s.kind() != kindRecord {
			b.fail("an old key leads nowhere")
			return
		}
		r := &st.scratch.record
		s.read(r)
		if len(r.aliases) >= maxAliases {
			b.fail("too many old keys lead to a session")
			return
		}
		r.aliases = append(r.aliases, t.key)
		d.segmentOf(h).put(h, st.scratch.writer.record(r))
	}
}
