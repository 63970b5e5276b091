package store

// Sessions grow and end, and leave spans behind in which few slots are used. Once more than an eighth
// of a segment's memory is lost to that, each change moves some blocks together.
const (
	compactShare = 8         // one of so many bytes may be lost
	compactSlack = 256 << 10 // and these, whatever is used
	compactMoves = 4         // blocks that one change moves at most
	compactSlots = 8         // slots that it looks at
	compactLooks = 64        // spans that one search for a victim looks at
)

// sparse reports whether it is worth moving blocks.
func (a *arena) sparse() bool { return a.taken > a.used+a.used/compactShare+compactSlack }

// choose looks for the span that is used least, and whose blocks fit into the free
// slots of others, and keeps new blocks away from it.
func (a *arena) choose() bool {
	best := uint32(0)
	least := 0.9
	for range min(compactLooks, len(a.spans)) {
		if a.cursor++; a.cursor >= len(a.spans) {
			a.cursor = 1
		}
		s := &a.spans[a.cursor]
		if s.used == 0 {
			continue
		}
		elsewhere := a.slots[s.class] - (s.slots() - int(s.used))
		if share := float64(s.used) / float64(s.slots()); share < least && elsewhere >= int(s.used) {
			best, least = uint32(a.cursor), share
		}
	}
	if best == 0 {
		return false
	}
	if a.spans[best].listed {
		a.unlist(best)
	}
	a.victim, a.moved = best, 0
	return true
}

// spareVictim lets the victim get new blocks again.
func (a *arena) spareVictim() {
	if id := a.victim; id != 0 {
		a.victim = 0
		if s := &a.spans[id]; !s.full() && !s.listed {
			a.list(id)
		}
	}
}

// compact moves a few blocks out of a span that few use. The caller holds the
// lock. What a snapshot may read stays where it is: it would only be copied.
func (g *segment) compact() {
	a := &g.arena
	if !a.sparse() {
		a.spareVictim()
		return
	}
	if a.victim == 0 && !a.choose() {
		return
	}
	id := a.victim
	for moves, slots := 0, 0; a.victim == id && moves < compactMoves && slots < compactSlots; slots++ {
		s := &a.spans[id]
		if a.moved == int(s.carved) {
			a.spareVictim()
			return
		}
		at := s.ref(a.moved)
		a.moved++
		if b := block(a.at(at)); b.size() > 0 && !b.isKept() && !g.held(b) {
			g.relocate(at) // the last one ends the span
			moves++
		}
	}
}

// relocate moves the block at r to another place.
func (g *segment) relocate(r ref) {
	b := g.block(r)
	to := g.write(b)
	g.index.replace(hash(b.key()), r, to, g.epochs.newest.Load())
	if pos := b.place(); pos >= 0 {
		g.queue(b).s[pos].r = to
	}
	g.arena.give(r, len(b))
}
