package store

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// block is the memory of a session or of a trace. All numbers are little endian.
// A block is:
//
//	 0 size of the block (4 bytes); 0 in a block that is free
//	 4 kind (1), 5 number of stubs (1), 6 length of the key (2)
//	 8 place in the segment's queue, counted from 1; 0 for none (4); of a block that
//	   only snapshots read its number among those, with the top bit set
//	12 epoch in which it was written, or behind that of the snapshot that has written it (4)
//
// A session goes on with
//
//	16 version (8), 24 created (8), 32 last access (8), 40 idle in ms (8), 48 deadline (8)
//	56 length of the user (2), 58 number of aliases (1), 59 whether it has a floor (1)
//	60 number of attributes (4), 64 number of grants (4)
//	68 key; user
//	   grants: incarnation, term, counter (24 each)
//	   attributes: version, seq (8 each), grant, length of the value (4 each), length of the name (2)
//	   stubs: version, seq (8 each), grant (4), length of the name (2)
//	   floor, if it has one: version, seq, others (8 each), grant (4)
//	   name and value of each attribute; name of each stub; for each alias length (2) and key
//
// and a trace with
//
//	16 until (8), 24 length of the target or reason (2), 26 whether it is an alias (1)
//	27 key; target or reason
//
// Place, epoch and, while no snapshot holds the block, the last access are changed
// in place; who reads a snapshot must not look at the first two.
type block []byte

const (
	kindRecord = 1
	kindTrace  = 2

	recordHead    = 68
	grantBytes    = 24
	attributeHead = 26
	stubHead      = 22
	floorBytes    = 28
	traceHead     = 27

	keptMark = 1 << 31
)

var le = binary.LittleEndian

func (b block) size() int            { return int(le.Uint32(b)) }
func (b block) kind() byte           { return b[4] }
func (b block) keyLen() int          { return int(le.Uint16(b[6:])) }
func (b block) place() int           { return int(le.Uint32(b[8:])) - 1 }
func (b block) setPlace(pos int)     { le.PutUint32(b[8:], uint32(pos+1)) }
func (b block) setKept(i int)        { le.PutUint32(b[8:], uint32(i)|keptMark) }
func (b block) born() uint32         { return le.Uint32(b[12:]) }
func (b block) setBorn(epoch uint32) { le.PutUint32(b[12:], epoch) }

// clone returns b without place and epoch, which others change while a segment is not locked.
func (b block) clone() block {
	c := make(block, len(b))
	copy(c, b[:8])
	copy(c[16:], b[16:])
	return c
}

// keptAt returns the number of a block that only snapshots read, or false.
func (b block) keptAt() (int, bool) {
	n := le.Uint32(b[8:])
	return int(n &^ keptMark), n&keptMark != 0
}

func (b block) isKept() bool { _, ok := b.keptAt(); return ok }

func (b block) nextFree() uint16 { return le.Uint16(b[4:]) }
func (b block) setFree(next uint16) {
	le.PutUint32(b, 0)
	le.PutUint16(b[4:], next)
}

// Of a session:

func (b block) created() Time        { return Time(le.Uint64(b[24:])) }
func (b block) lastAccess() Time     { return Time(le.Uint64(b[32:])) }
func (b block) setLastAccess(t Time) { le.PutUint64(b[32:], uint64(t)) }
func (b block) idle() time.Duration  { return time.Duration(le.Uint64(b[40:])) * time.Millisecond }
func (b block) deadline() Time       { return Time(le.Uint64(b[48:])) }
func (b block) userLen() int         { return int(le.Uint16(b[56:])) }
func (b block) attributes() int      { return int(le.Uint32(b[60:])) }
func (b block) grants() int          { return int(le.Uint32(b[64:])) }
func (b block) stubs() int           { return int(b[5]) }

// table returns where the grants begin.
func (b block) table() int { return recordHead + b.keyLen() + b.userLen() }

// heads returns where the attributes' fixed parts begin.
func (b block) heads() int { return b.table() + b.grants()*grantBytes }

// text returns where the first attribute's name begins.
func (b block) text() int {
	return b.heads() + b.attributes()*attributeHead + b.stubs()*stubHead + int(b[59])*floorBytes
}

func (b block) grant(at uint32) grant {
	p := b[b.table()+int(at)*grantBytes:]
	return grant{le.Uint64(p), le.Uint64(p[8:]), le.Uint64(p[16:])}
}

func (b block) key() []byte {
	at := recordHead
	if b.kind() == kindTrace {
		at = traceHead
	}
	return b.cut(&at, b.keyLen())
}

func (b block) user() []byte {
	at := recordHead + b.keyLen()
	return b.cut(&at, b.userLen())
}

// due is when the time of a session is up, 0 for never; of a trace, when it ends.
func (b block) due() Time {
	if b.kind() == kindTrace {
		return Time(le.Uint64(b[16:]))
	}
	r := Record{LastAccess: b.lastAccess(), Idle: b.idle(), Deadline: b.deadline()}
	return r.due()
}

// view reads what readers may see into r; it allocates only until r.attrs is large enough.
// What r points to is b's memory.
func (b block) view(r *Record) {
	*r = Record{
		Version: le.Uint64(b[16:]), Created: b.created(), LastAccess: b.lastAccess(),
		Idle: b.idle(), Deadline: b.deadline(), attrs: r.attrs[:0],
	}
	at := recordHead
	r.Key = b.cut(&at, b.keyLen())
	if n := b.userLen(); n > 0 {
		r.User = b.cut(&at, n)
	}
	head := at + b.grants()*grantBytes
	at = b.text()
	for range b.attributes() {
		name := b.cut(&at, int(le.Uint16(b[head+24:])))
		r.attrs = append(r.attrs, wire.Attribute{Name: name, Value: b.cut(&at, int(le.Uint32(b[head+20:])))})
		head += attributeHead
	}
}

// cut returns the n bytes from at and moves at behind them.
func (b block) cut(at *int, n int) []byte {
	from := *at
	*at += n
	return b[from:*at:*at]
}

// read reads all of a session into r, whose slices are used again.
func (b block) read(r *record) {
	b.view(&r.Record)
	r.stamps, r.stubs, r.aliases, r.floor = r.stamps[:0], r.stubs[:0], r.aliases[:0], floor{}
	head := b.heads()
	at := b.text()
	for i := range r.attrs {
		r.stamps = append(r.stamps, b.stamp(head))
		at += len(r.attrs[i].Name) + len(r.attrs[i].Value)
		head += attributeHead
	}
	for range b.stubs() {
		r.stubs = append(r.stubs, stub{b.cut(&at, int(le.Uint16(b[head+20:]))), b.stamp(head)})
		head += stubHead
	}
	if b[59] != 0 {
		r.floor = floor{
			stamp:  stamp{le.Uint64(b[head:]), b.grant(le.Uint32(b[head+24:])), le.Uint64(b[head+8:])},
			others: le.Uint64(b[head+16:]),
		}
	}
	for range b[58] {
		n := int(le.Uint16(b[at:]))
		at += 2
		r.aliases = append(r.aliases, b.cut(&at, n))
	}
	r.weigh()
}

// stamp reads the stamp of the attribute or stub whose fixed part is at head.
func (b block) stamp(head int) stamp {
	return stamp{le.Uint64(b[head:]), b.grant(le.Uint32(b[head+16:])), le.Uint64(b[head+8:])}
}

// trace reads a trace; what it points to is b's memory.
func (b block) trace() (t trace) {
	t.until = b.due()
	at := traceHead
	t.key = b.cut(&at, b.keyLen())
	if rest := b.cut(&at, int(le.Uint16(b[24:]))); b[26] != 0 {
		t.target = rest
	} else {
		t.reason = rest
	}
	return t
}

// writer makes blocks, in memory that one after the other uses.
type writer struct {
	b      []byte
	grants []grant
}

// trace returns the block of t, valid until the next call.
func (w *writer) trace(t *trace) block {
	rest, alias := t.reason, byte(0)
	if t.target != nil {
		rest, alias = t.target, 1
	}
	b := append(w.b[:0], 0, 0, 0, 0, kindTrace, 0)
	b = le.AppendUint16(b, uint16(len(t.key)))
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, uint64(t.until))
	b = le.AppendUint16(b, uint16(len(rest)))
	b = append(b, alias)
	b = append(append(b, t.key...), rest...)
	return w.done(b)
}

func (w *writer) done(b []byte) block {
	le.PutUint32(b, uint32(len(b)))
	w.b = b
	if cap(b) > keptBytes {
		w.b = nil
	}
	return b
}

// keptBytes is the largest buffer that is kept for the next session.
const keptBytes = 1 << 20

// grant returns the number of g in the block's table.
func (w *writer) grant(g grant) uint32 {
	for i := len(w.grants) - 1; i >= 0 && i >= len(w.grants)-searched; i-- {
		if w.grants[i] == g {
			return uint32(i)
		}
	}
	w.grants = append(w.grants, g)
	return uint32(len(w.grants) - 1)
}

// searched bounds the search for a grant: beyond it one may stand in the table twice.
const searched = 64

// record returns the block of r, valid until the next call. r may point into the
// block that it replaces.
func (w *writer) record(r *record) block {
	hasFloor := r.floor != floor{}
	w.grants = w.grants[:0]
	for i := range r.stamps {
		w.grant(r.stamps[i].by)
	}
	for i := range r.stubs {
		w.grant(r.stubs[i].by)
	}
	if hasFloor {
		w.grant(r.floor.by)
	}
	b := append(w.b[:0], 0, 0, 0, 0, kindRecord, byte(len(r.stubs)))
	b = slices.Grow(b, int(r.cost)+len(w.grants)*grantBytes)
	b = le.AppendUint16(b, uint16(len(r.Key)))
	b = le.AppendUint64(b, 0)
	for _, n := range [...]uint64{r.Version, uint64(r.Created), uint64(r.LastAccess), millis(r.Idle), uint64(r.Deadline)} {
		b = le.AppendUint64(b, n)
	}
	b = le.AppendUint16(b, uint16(len(r.User)))
	b = append(b, byte(len(r.aliases)), 0)
	if hasFloor {
		b[59] = 1
	}
	b = le.AppendUint32(b, uint32(len(r.attrs)))
	b = le.AppendUint32(b, uint32(len(w.grants)))
	b = append(append(b, r.Key...), r.User...)
	for _, g := range w.grants {
		b = le.AppendUint64(le.AppendUint64(le.AppendUint64(b, g.incarnation), g.term), g.counter)
	}
	return w.done(w.texts(w.heads(b, r, hasFloor), r))
}

func (w *writer) heads(b []byte, r *record, hasFloor bool) []byte {
	w.grants = w.grants[:0] // the same searches make the same table again
	for i, s := range r.stamps {
		b = le.AppendUint64(le.AppendUint64(b, s.version), s.seq)
		b = le.AppendUint32(b, w.grant(s.by))
		b = le.AppendUint32(b, uint32(len(r.attrs[i].Value)))
		b = le.AppendUint16(b, uint16(len(r.attrs[i].Name)))
	}
	for _, s := range r.stubs {
		b = le.AppendUint64(le.AppendUint64(b, s.version), s.seq)
		b = le.AppendUint32(b, w.grant(s.by))
		b = le.AppendUint16(b, uint16(len(s.name)))
	}
	if hasFloor {
		b = le.AppendUint64(le.AppendUint64(b, r.floor.version), r.floor.seq)
		b = le.AppendUint64(b, r.floor.others)
		b = le.AppendUint32(b, w.grant(r.floor.by))
	}
	return b
}

func (w *writer) texts(b []byte, r *record) []byte {
	for _, at := range r.attrs {
		b = append(append(b, at.Name...), at.Value...)
	}
	for _, s := range r.stubs {
		b = append(b, s.name...)
	}
	for _, key := range r.aliases {
		b = append(le.AppendUint16(b, uint16(len(key))), key...)
	}
	return b
}
