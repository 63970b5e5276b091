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
	if err := st.restore(newBlockReader(r)); err != nil {
		st.free()
		return err
	}
	s.replace(st)
	return nil
}

// VerifySnapshot reads a snapshot to its end and reports whether its bytes are those
// that were written: format, checksums, length. It keeps nothing of it.
func VerifySnapshot(r io.Reader) error {
	b := newBlockReader(r)
	for b.next() {
	}
	b.left, b.outside = nil, false
	b.end()
	return b.err
}

func (st *state) restore(b *blockReader) error {
	b.expect(sectionTimes)
	st.index.Store(b.uint())
	st.now.Store(int64(b.time()))
	if !b.ended() {
		b.expect(sectionCluster)
		b.cluster(st)
	}
	var last wire.NodeID
	for !b.ended() {
		b.expect(sectionNode)
		n := b.node(st)
		if bytes.Compare(n.ID[:], last[:]) <= 0 {
			b.fail("nodes are not in order")
		}
		st.nodes[n.ID], last = n, n.ID
	}
	l := startLoading(st)
	section := b.enter()
	for name := ""; section == sectionDataset && b.err == nil; section = b.enter() {
		d := b.dataset(st)
		if b.err == nil && d.name <= name {
			b.fail("datasets are not in order")
		}
		if b.err != nil {
			break
		}
		st.install(d)
		name = d.name
		for i := range d.segments {
			if section := b.enter(); section != sectionSegment {
				b.fail("section %q stands where %q should", section, sectionSegment)
			}
			l.load(b, d, i)
		}
	}
	if b.err == nil && section != sectionEnd {
		b.fail("section %q stands where it may not", section)
	}
	b.end()
	return l.finish(b)
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
	st.limitHeld()
}

func (b *blockReader) node(st *state) *node {
	n := &node{outcomes: map[uint64]wire.Outcome{}}
	b.raw(n.ID[:])
	n.Label = string(b.bytes("label", wire.MaxLabel))
	n.Joined = b.time()
	n.Generation = b.uint()
	n.low = b.uint()
	if n.Generation == 0 || n.low == 0 || len(st.nodes) >= maxNodes || n.Joined > Time(st.now.Load()) {
		b.fail("a node has numbers that cannot be")
	}
	last := n.low - 1
	for count := b.uint(); count > 0 && b.err == nil; count-- {
		seq := b.uint()
		out := b.outcome()
		if seq <= last || out.Version > st.index.Load() {
			b.fail("an outcome has numbers that cannot be")
		}
		st.remember(n, seq, out)
		if n.bytes > maxNodeOutcomes || st.remembered.Load() > maxOutcomes+maxNodes*sureOutcomes {
			b.fail("there are more outcomes than can be")
		}
		last = seq
	}
	return n
}

func (b *blockReader) outcome() (out wire.Outcome) {
	out.Version = b.uint()
	out.Existed = b.bool()
	out.Token = wire.Token{Incarnation: b.uint(), Term: b.uint(), Counter: b.uint(), Index: b.uint()}
	if word := b.bytes("error word", wire.MaxReason); len(word) > 0 {
		out.Err = &wire.Error{Word: wire.Word(word), Text: string(b.bytes("error text", maxRefusal))}
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
		len(*st.datasets.Load()) >= maxDatasets || lockMode != "none" && lockMode != "session" && (lockMode != redisMode || name != RedisDataset)) {
		b.fail("dataset %q cannot be", name)
	}
	if b.err != nil {
		return nil
	}
	return newDataset(&st.epochs, name, r, disk, lockMode, tags, int(segments))
}

func (b *blockReader) account(d *dataset, cost uint64) {
	if b.err != nil {
		return
	}
	if err := d.fits(0, cost); err != nil {
		b.fail("%s", err.Text)
	}
}

// record reads a session into r. It is valid until the blocks it was read from are used again.
func (b *blockReader) record(st *state, r *record) {
	*r = record{Record: Record{attrs: r.attrs[:0]}, stamps: r.stamps[:0], stubs: r.stubs[:0], aliases: r.aliases[:0]}
	r.Key = b.text("key", wire.MaxKey)
	r.Version = b.uint()
	r.Created = b.time()
	r.LastAccess = b.time()
	if idle := b.uint(); idle > maxMillis {
		b.fail("an idle timeout is too long")
	} else {
		r.Idle = time.Duration(idle) * time.Millisecond
	}
	r.Deadline = b.time()
	r.User = b.text("user", wire.MaxUser)
	if r.Version > st.index.Load() || r.Created > r.LastAccess || r.LastAccess > Time(st.now.Load()) {
		b.fail("a session has numbers that cannot be")
	}
	for n := b.uint(); n > 0 && b.err == nil; n-- {
		name := b.text("attribute name", wire.MaxAttributeName)
		r.stamps = append(r.stamps, b.stamp(r.Version))
		r.attrs = append(r.attrs, wire.Attribute{Name: name, Value: b.text("attribute", anyLength)})
		if i := len(r.attrs) - 1; i > 0 && bytes.Compare(r.attrs[i-1].Name, name) >= 0 {
			b.fail("attributes are not in order")
		}
	}
	n := b.uint()
	if n > maxStubs {
		b.fail("a session has too many stubs")
	}
	for ; n > 0 && b.err == nil; n-- {
		s := stub{b.text("attribute name", wire.MaxAttributeName), b.stamp(r.Version)}
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
