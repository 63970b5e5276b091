package store

import (
	"bytes"
	"slices"
)

// index finds blocks by key. It is a directory of small tables, chosen by the top
// bits of the key's hash. A table that is full is split in two, or made larger where
// that would make the directory larger than the number of keys is worth, so no insertion
// takes long. Tables hold no pointers. What a snapshot may still read is never
// changed but copied first, the directory as well.
type index struct {
	dir   []*table // by the top bits of the hash; neighbours may be the same
	depth uint8    // len(dir) == 1<<depth
	epoch uint32   // in which dir was made
	n     int
}

// table is open addressing with linear probing. A slot is 0 where it is free, else 16
// bits of the key's hash, which also tell where its search begins, and the ref.
type table struct {
	slots []uint64
	n     int
	depth uint8  // the hashes in it agree in so many top bits
	epoch uint32 // in which it was made
}

const (
	firstSlots = 8
	tableSlots = 1024 // a larger table is split rather than doubled
	keysPerDir = 32   // there are at least so many keys for each entry of the directory
)

func tag(h uint64) uint64           { return h >> 16 & 0xffff }
func slotOf(h uint64, r ref) uint64 { return tag(h)<<refBits | uint64(r) }
func slotRef(s uint64) ref          { return ref(s & (1<<refBits - 1)) }

// home is where the search for the key of slot s begins.
func (t *table) home(s uint64) int { return int(s>>refBits) & (len(t.slots) - 1) }

func (x *index) table(h uint64) *table {
	if len(x.dir) == 0 {
		return nil
	}
	return x.dir[h>>(64-x.depth)]
}

// find returns the place of key's block, 0 for none.
func (x *index) find(a *arena, h uint64, key []byte) ref {
	t := x.table(h)
	if t == nil {
		return 0
	}
	if i := t.search(a, h, key); i >= 0 {
		return slotRef(t.slots[i])
	}
	return 0
}

func (t *table) search(a *arena, h uint64, key []byte) int {
	mask := len(t.slots) - 1
	want := tag(h)
	for i := int(want) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		if s := t.slots[i]; s>>refBits == want && bytes.Equal(block(a.at(slotRef(s))).key(), key) {
			return i
		}
	}
	return -1
}

// each calls f with the blocks of all keys whose hash is h.
func (x *index) each(a *arena, h uint64, f func(block)) {
	t := x.table(h)
	if t == nil {
		return
	}
	mask := len(t.slots) - 1
	for i := int(tag(h)) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		if s := t.slots[i]; s>>refBits == tag(h) {
			if b := block(a.at(slotRef(s))); hash(b.key()) == h {
				f(b)
			}
		}
	}
}

// tables calls f with each table once, in the order of the hashes in them.
func (x *index) tables(f func(*table)) {
	for i := 0; i < len(x.dir); {
		t := x.dir[i]
		f(t)
		i += 1 << (x.depth - t.depth)
	}
}

// own returns the table of h as one that may be changed; held is the newest epoch
// that a snapshot holds.
func (x *index) own(h uint64, held uint32) *table {
	t := x.table(h)
	if t.epoch > held {
		return t
	}
	c := *t
	c.slots, c.epoch = slices.Clone(t.slots), held+1
	x.set(h, &c, held)
	return &c
}

// set puts t wherever the table stands that h leads to, or its half that h leads to.
func (x *index) set(h uint64, t *table, held uint32) {
	if x.epoch <= held {
		x.dir, x.epoch = slices.Clone(x.dir), held+1
	}
	width := 1 << (x.depth - t.depth)
	from := int(h>>(64-x.depth)) &^ (width - 1)
	for i := range width {
		x.dir[from+i] = t
	}
}

// insert notes that key, which has hash h and is not there, is at r.
func (x *index) insert(a *arena, h uint64, r ref, held uint32) {
	if len(x.dir) == 0 {
		x.dir, x.depth, x.epoch = []*table{{slots: make([]uint64, firstSlots), epoch: held + 1}}, 0, held+1
	}
	t := x.own(h, held)
	for (t.n+1)*8 > len(t.slots)*7 {
		t = x.grow(a, h, t, held)
	}
	t.place(slotOf(h, r))
	t.n++
	x.n++
}

func (t *table) place(s uint64) {
	mask := len(t.slots) - 1
	i := t.home(s)
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

// grow makes room in t and returns the table that h then leads to.
func (x *index) grow(a *arena, h uint64, t *table, held uint32) *table {
	if len(t.slots) < tableSlots || t.depth == x.depth && (len(x.dir)*2-1)*keysPerDir > x.n {
		t.resize(len(t.slots) * 2)
		return t
	}
	if t.depth == x.depth {
		dir := make([]*table, len(x.dir)*2)
		for i := range dir {
			dir[i] = x.dir[i/2]
		}
		x.dir, x.depth, x.epoch = dir, x.depth+1, held+1
	}
	var halves [2]*table
	bit := 63 - t.depth
	for i := range halves {
		halves[i] = &table{slots: make([]uint64, len(t.slots)), depth: t.depth + 1, epoch: held + 1}
	}
	for _, s := range t.slots {
		if s != 0 {
			half := halves[hash(block(a.at(slotRef(s))).key())>>bit&1]
			half.place(s)
			half.n++
		}
	}
	x.set(h&^(1<<bit), halves[0], held)
	x.set(h|1<<bit, halves[1], held)
	return halves[h>>bit&1]
}

func (t *table) resize(slots int) {
	old := t.slots
	t.slots = make([]uint64, slots)
	for _, s := range old {
		if s != 0 {
			t.place(s)
		}
	}
}

// replace notes that the block at old has moved to r.
func (x *index) replace(h uint64, old, r ref, held uint32) {
	t := x.own(h, held)
	t.slots[t.at(h, old)] = slotOf(h, r)
}

func (t *table) at(h uint64, r ref) int {
	mask := len(t.slots) - 1
	want := slotOf(h, r)
	i := t.home(want)
	for t.slots[i] != want {
		i = (i + 1) & mask
	}
	return i
}

// remove forgets the block at r.
func (x *index) remove(h uint64, r ref, held uint32) {
	t := x.own(h, held)
	mask := len(t.slots) - 1
	i := t.at(h, r)
	for j := (i + 1) & mask; t.slots[j] != 0; j = (j + 1) & mask {
		// Who stands behind the gap may move into it, unless its search begins behind the gap.
		if (j-t.home(t.slots[j]))&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = 0
	t.n--
	x.n--
	switch {
	case x.n == 0:
		*x = index{epoch: held + 1}
	case t.n*8 < len(t.slots) && len(t.slots) > firstSlots:
		t.resize(len(t.slots) / 2)
	}
}
