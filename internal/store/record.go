package store

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// What is accounted beside the bytes themselves: see the package's comment.
const (
	datasetCost   = 4096
	segmentCost   = 256
	recordCost    = 192
	userCost      = 32
	attributeCost = 48
	stubCost      = 48
	aliasCost     = 128
	tombstoneCost = 64
)

const (
	// maxStubs is how many removed attributes a record remembers one by one.
	maxStubs = 16
	// maxAliases is how many old keys may lead to a record at once; the one
	// that ends first makes room.
	maxAliases = 8
)

// record is the working form of a session. As it is read from a block its slices
// point into the block: clone it, change the clone, and put that in the block's place.
type record struct {
	Record           // attributes stand by name
	stamps  []stamp  // who last changed Record.attrs[i]
	stubs   []stub   // removed attributes, by name
	floor   floor    // stands for stubs that were folded
	aliases [][]byte // keys of the aliases that lead here, the one that ends first in front
	cost    uint64   // by the formula, without its aliases

	spareAttrs  []wire.Attribute // for the next change
	spareStamps []stamp
	spareStubs  []stub
}

// grant is the part of a token that names a grant.
type grant struct{ incarnation, term, counter uint64 }

func grantOf(t wire.Token) grant { return grant{t.Incarnation, t.Term, t.Counter} }

// stamp tells of the last change of an attribute.
type stamp struct {
	version uint64
	by      grant
	seq     uint64
}

// admits reports whether a change under token with number seq may follow
// (docs/protocol.md, "Changes are made once"). The zero grant, which goes with a create, is nobody's.
func (s stamp) admits(token wire.Token, seq uint64) bool {
	return s.version <= token.Index || (s.by != grant{} && s.by == grantOf(token) && s.seq < seq)
}

// stub is what is left of a removed attribute.
type stub struct {
	name []byte
	stamp
}

// floor is the stamp of every attribute that has neither value nor stub: it is
// at least as strict as each stub folded into it.
type floor struct {
	stamp         // the newest of the stubs
	others uint64 // newest version among stubs of other grants than stamp's
}

func (f floor) admits(token wire.Token, seq uint64) bool {
	return f.others <= token.Index && f.stamp.admits(token, seq)
}

// fold returns the floor with s folded in, which is no older than what was folded before.
func (f floor) fold(s stamp) floor {
	if s.by == f.by {
		s.seq = max(s.seq, f.seq)
	} else {
		f.others = f.version
	}
	f.stamp = s
	return f
}

// clone returns a copy to be changed; the slices are shared, so replace them whole.
func (r *record) clone() *record {
	c := *r
	c.spareAttrs, c.spareStamps, c.spareStubs = nil, nil, nil
	return &c
}

// due returns when the session's time is up, 0 for never.
func (r *Record) due() Time {
	var due Time
	if r.Idle > 0 {
		due = r.LastAccess.after(r.Idle)
	}
	if r.Deadline > 0 && (due == 0 || r.Deadline < due) {
		due = r.Deadline
	}
	return due
}

// isDue reports whether the time of the session b is up at now.
func (b block) isDue(now Time) bool {
	due := b.due()
	return due > 0 && due <= now
}

// weigh sets cost.
func (r *record) weigh() {
	n := recordCost + len(r.Key)
	if len(r.User) > 0 {
		n += userCost + len(r.User)
	}
	for _, at := range r.attrs {
		n += attributeCost + len(at.Name) + len(at.Value)
	}
	for _, s := range r.stubs {
		n += stubCost + len(s.name)
	}
	r.cost = uint64(n)
}

// change is one attribute of a command: set, or removed.
type change struct {
	name, value []byte
	remove      bool
}

// gather returns a command's attributes by name. The result is valid until the next call.
func (s *scratch) gather(set []wire.Attribute, remove [][]byte) ([]change, *wire.Error) {
	list := s.changes[:0]
	for _, at := range set {
		list = append(list, change{name: at.Name, value: at.Value})
	}
	for _, name := range remove {
		list = append(list, change{name: name, remove: true})
	}
	slices.SortFunc(list, func(a, b change) int { return bytes.Compare(a.name, b.name) })
	s.changes = list
	for i := 1; i < len(list); i++ {
		if bytes.Equal(list[i-1].name, list[i].name) {
			return nil, badRequest("an attribute stands in the command twice")
		}
	}
	return list, nil
}

// judge leaves in list the changes that may be applied and returns the names of
// the others, copied.
func (r *record) judge(list []change, token wire.Token, seq uint64) (apply []change, dropped [][]byte) {
	apply = list[:0]
	for _, c := range list {
		if r.admits(c.name, token, seq) {
			apply = append(apply, c)
		} else {
			dropped = append(dropped, bytes.Clone(c.name))
		}
	}
	return apply, dropped
}

func (r *record) admits(name []byte, token wire.Token, seq uint64) bool {
	if i, found := slices.BinarySearchFunc(r.attrs, name, compareAttribute); found {
		return r.stamps[i].admits(token, seq)
	}
	if i, found := slices.BinarySearchFunc(r.stubs, name, compareStub); found {
		return r.stubs[i].admits(token, seq)
	}
	return r.floor.admits(token, seq)
}

func compareAttribute(at wire.Attribute, name []byte) int { return bytes.Compare(at.Name, name) }
func compareStub(s stub, name []byte) int                 { return bytes.Compare(s.name, name) }

// change merges list, which is by name, into r's attributes and stubs. What comes
// from list is shared with it.
func (r *record) change(list []change, by stamp) {
	if removed := r.merge(list, by); removed > 0 || len(r.stubs) > 0 {
		r.changeStubs(list, by)
	}
}

// merge is change without stubs. It returns how many of list are removals.
func (r *record) merge(list []change, by stamp) (removed int) {
	attrs, stamps := r.spareAttrs[:0], r.spareStamps[:0]
	i := 0
	for _, c := range list {
		from := i
		for i < len(r.attrs) && bytes.Compare(r.attrs[i].Name, c.name) < 0 {
			i++
		}
		attrs, stamps = append(attrs, r.attrs[from:i]...), append(stamps, r.stamps[from:i]...)
		if i < len(r.attrs) && bytes.Equal(r.attrs[i].Name, c.name) {
			i++
		}
		if c.remove {
			removed++
			continue
		}
		attrs = append(attrs, wire.Attribute{Name: c.name, Value: c.value})
		stamps = append(stamps, by)
	}
	attrs, stamps = append(attrs, r.attrs[i:]...), append(stamps, r.stamps[i:]...)
	r.spareAttrs, r.spareStamps = r.attrs, r.stamps
	r.attrs, r.stamps = attrs, stamps
	return removed
}

// changeStubs is merge for stubs: each removal leaves one, and the oldest of those
// that are too many are folded. Its work grows with the list, not with its square.
func (r *record) changeStubs(list []change, by stamp) {
	stubs := r.spareStubs[:0]
	i := 0
	for _, c := range list {
		from := i
		for i < len(r.stubs) && bytes.Compare(r.stubs[i].name, c.name) < 0 {
			i++
		}
		stubs = append(stubs, r.stubs[from:i]...)
		if i < len(r.stubs) && bytes.Equal(r.stubs[i].name, c.name) {
			i++
		}
		if c.remove {
			stubs = append(stubs, stub{c.name, by})
		}
	}
	stubs = append(stubs, r.stubs[i:]...)
	r.spareStubs, r.stubs = r.stubs, r.foldOldest(stubs, byVersion)
}

func byVersion(a, b stub) int { return cmp.Compare(a.version, b.version) }

// foldOldest folds what exceeds maxStubs and returns the rest, by name. Among equals
// the first by name goes first, as on every server. Which are the oldest is found by
// byAge alone, so that a test can count its calls.
func (r *record) foldOldest(stubs []stub, byAge func(a, b stub) int) []stub {
	excess := len(stubs) - maxStubs
	if excess <= 0 {
		return stubs
	}
	slices.SortStableFunc(stubs, byAge)
	for _, s := range stubs[:excess] {
		r.floor = r.floor.fold(s.stamp)
	}
	stubs = slices.Delete(stubs, 0, excess)
	slices.SortFunc(stubs, func(a, b stub) int { return bytes.Compare(a.name, b.name) })
	return stubs
}

// rest lets go of the memory of the operation that was applied, which would keep
// the whole batch.
func (s *scratch) rest() {
	clear(s.create.Set)
	clear(s.commit.Set)
	clear(s.commit.Remove)
	clear(s.changes)
	r := &s.record
	clear(r.attrs)
	clear(r.spareAttrs)
	clear(r.stubs)
	clear(r.spareStubs)
	r.Record = Record{attrs: r.attrs}
	if cap(r.attrs)+cap(r.stamps)+cap(r.stubs)+cap(r.spareStubs) > keptAttributes {
		s.record = record{}
	}
}

// keptAttributes is how many attributes there is memory for from one operation to the next.
const keptAttributes = 8192

// make makes r the record of a create. It shares the memory of c and list.
func (r *record) make(c *wire.Create, list []change, at Time, version uint64) {
	r.Record = Record{Key: c.Key, Version: version, Created: at, LastAccess: at, Idle: c.Idle, User: c.User, attrs: r.attrs[:0]}
	r.stamps, r.stubs, r.aliases, r.floor = r.stamps[:0], r.stubs[:0], r.aliases[:0], floor{}
	if c.Absolute > 0 {
		r.Deadline = at.after(c.Absolute)
	}
	r.change(list, stamp{version: version, by: grantOf(c.Token), seq: c.Seq})
	r.weigh()
}
