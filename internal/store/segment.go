package store

import (
	"slices"
	"sync"
)

// segment is one part of a dataset's keys, in memory of its own. Only the goroutine
// that applies changes index and arena's blocks, so that it may read them without
// the lock; but others give back memory, and move blocks in the queues.
type segment struct {
	mu     sync.RWMutex // guards everything below
	arena  arena
	index  index   // sessions and traces
	due    queue   // sessions that have a time-out
	ends   queue   // traces
	kept   []kept  // blocks that only snapshots read; each knows its place here
	epochs *epochs // of the state
	closed bool    // the memory was given back
}

// trace is what a key without a session may have: an alias (target is set) or a
// tombstone. It is the working form of its block, as a record is.
type trace struct {
	key    []byte
	target []byte // alias: key of the session that it leads to, which exists
	reason []byte // tombstone: how the session ended
	until  Time   // when an alias becomes a tombstone, and a tombstone may be dropped
}

// reasonRenewed is the reason of keys that a renewal left behind.
var reasonRenewed = []byte("renewed")

// reasonExpired is the reason of sessions whose time was up.
var reasonExpired = []byte("expired")

func (t *trace) cost() uint64 {
	if t.target != nil {
		return uint64(aliasCost + len(t.key) + len(t.target))
	}
	return uint64(tombstoneCost + len(t.key) + len(t.reason))
}

// leads reports whether t is an alias within its grace. One past it is as good as
// a tombstone, whether AppendPrune has come by or not.
func (t *trace) leads(now Time) bool { return t.target != nil && now < t.until }

// ending returns the reason that a key which doesn't lead anywhere has.
func (t *trace) ending() []byte {
	if t.target != nil {
		return reasonRenewed
	}
	return t.reason
}

// look returns the block of key and its place; nil and 0 where there is none.
func (g *segment) look(h uint64, key []byte) (block, ref) {
	r := g.index.find(&g.arena, h, key)
	if r == 0 {
		return nil, 0
	}
	return g.block(r), r
}

func (g *segment) block(r ref) block {
	b := block(g.arena.at(r))
	n := b.size()
	return b[:n:n]
}

// held reports whether a snapshot may read b.
func (g *segment) held(b block) bool { return b.born() <= g.epochs.newest.Load() }

// put copies b to where what its key has so far is, or to a new place. b has the
// kind of what the key has. The caller holds the lock.
func (g *segment) put(h uint64, b block) {
	held := g.epochs.newest.Load()
	b.setBorn(held + 1)
	old, at := g.look(h, b.key())
	switch {
	case old == nil:
		b.setPlace(-1)
		at = g.write(b)
		g.index.insert(&g.arena, h, at, held)
	case old.born() > held && blockBytes(len(old)) == blockBytes(len(b)):
		b.setPlace(old.place())
		copy(g.arena.at(at), b)
	default:
		b.setPlace(old.place())
		to := g.write(b)
		g.index.replace(h, at, to, held)
		if pos := b.place(); pos >= 0 {
			g.queue(b).s[pos].r = to
		}
		g.discard(old, at)
		at = to
	}
	g.schedule(g.block(at), at)
	g.compact()
}

func (g *segment) write(b block) ref {
	r := g.arena.take(len(b))
	copy(g.arena.at(r), b)
	return r
}

func (g *segment) queue(b block) *queue {
	if b.kind() == kindTrace {
		return &g.ends
	}
	return &g.due
}

// schedule puts b where it belongs in its queue. A session's later time is left where
// it stands: an access costs no reordering. The queue finds out when the old time comes.
func (g *segment) schedule(b block, at ref) {
	q, due, pos := g.queue(b), b.due(), b.place()
	switch {
	case due == 0 && b.kind() == kindRecord:
		if pos >= 0 {
			q.remove(&g.arena, pos)
		}
	case pos < 0:
		q.add(&g.arena, due, at)
	case due < q.s[pos].at || q.ties && due != q.s[pos].at:
		q.move(&g.arena, pos, due)
	}
}

// discard gives back b, unless a snapshot may read it.
func (g *segment) discard(b block, at ref) {
	if g.held(b) {
		g.epochs.kept.Add(uint64(blockBytes(len(b))))
		b.setKept(len(g.kept))
		g.kept = append(g.kept, kept{at, b.born(), g.epochs.next + 1})
		return
	}
	g.arena.give(at, len(b))
}

// drop ends what key has. The caller holds the lock.
func (g *segment) drop(h uint64, key []byte) {
	b, at := g.look(h, key)
	if pos := b.place(); pos >= 0 {
		g.queue(b).remove(&g.arena, pos)
	}
	g.index.remove(h, at, g.epochs.newest.Load())
	g.discard(b, at)
	g.compact()
}

// touch sets the last access of the session b. The caller holds the lock.
func (g *segment) touch(h uint64, b block, at ref, when Time) {
	if !g.held(b) {
		b.setLastAccess(when)
		return
	}
	b = b.clone() // put writes into it
	b.setLastAccess(when)
	g.put(h, b)
}

// sweepAtOnce bounds for how many blocks a segment is locked to sweep it.
const sweepAtOnce = 1024

// sweep gives back what no snapshot reads any more. Every snapshot that
// was let go of is followed by a sweep, so what one leaves another finds.
func (g *segment) sweep() {
	for from, more := 0, true; more; {
		from, more = g.sweepSome(from)
	}
}

func (g *segment) sweepSome(from int) (next int, more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := g.epochs.list()
	for n := 0; n < sweepAtOnce && from < len(g.kept); n++ {
		k := g.kept[from]
		if k.needed(held) {
			from++
			continue
		}
		g.unkeep(from)
	}
	if len(g.kept) == 0 {
		g.kept = nil
	}
	return from, from < len(g.kept)
}

// unkeep gives back kept[i], whose place the last one takes.
func (g *segment) unkeep(i int) {
	r, last := g.kept[i].r, len(g.kept)-1
	if i < last {
		g.kept[i] = g.kept[last]
		g.block(g.kept[i].r).setKept(i)
	}
	g.kept = g.kept[:last]
	size := g.block(r).size()
	g.epochs.kept.Add(-uint64(blockBytes(size)))
	g.arena.give(r, size)
}

// wrote is told that the snapshot of epoch has written the blocks at list and reads them no
// more. Those that only it read are given back; the others count as written behind it,
// so that changes need not keep them. An older snapshot still reads what it reads.
func (g *segment) wrote(epoch uint32, list []ref) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := g.epochs.list()
	for _, r := range list {
		b := g.block(r)
		if born := b.born(); slices.ContainsFunc(held, func(e uint32) bool { return born <= e && e < epoch }) {
			continue
		}
		b.setBorn(epoch + 1)
		if i, ok := b.keptAt(); ok {
			if g.kept[i].born = epoch + 1; !g.kept[i].needed(held) {
				g.unkeep(i)
			}
		}
	}
}

func (g *segment) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.arena.close()
	g.index, g.due, g.ends, g.kept = index{}, queue{}, queue{}, nil
}

// hash is FNV-1a with a final mix, fixed because a key's segment decides the
// order in which snapshots are written. It must never change without a new format version.
func hash(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}
