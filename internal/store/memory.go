package store

// Memory is what the store has outside of the garbage collector, in bytes.
type Memory struct {
	Mapped uint64 // taken from the operating system; pages never written are no real memory
	Used   uint64 // by sessions, old keys and tombstones
	Held   uint64 // part of Used that only snapshots read
	Blocks uint64 // how many sessions, old keys, tombstones and held ones there are

	Resident uint64 // part of Mapped that may be real memory: what is used, holes in it, and free pages that are kept
}

// What snapshots may hold of older forms: a share of the off-heap resources, and no
// less than a few of the largest sessions.
const (
	heldShare = 8 // one of so many parts
	heldLeast = 16 << 20
)

// HeldLimit is how many bytes snapshots may hold beside off-heap resources of size bytes.
func HeldLimit(size uint64) uint64 { return max(size/heldShare, heldLeast) }

// MostMemory returns what a store with off-heap resources of size bytes, all of them used, may
// take of the machine: sessions and their index as they are accounted, what snapshots hold, the holes
// that changing sizes leave, free pages that are kept, and those of the segment that a
// snapshot is writing, in which blocks that it still reads stay where they are. Beyond it a dataset may
// take 384 KiB for each of its segments; one of fewer segments than datasets have by themselves has larger ones.
func MostMemory(size uint64) uint64 {
	size = min(size, 1<<62)
	return mostMemory(size, HeldLimit(size), chosenSegments)
}

func mostMemory(size, held, segments uint64) uint64 {
	n := size + held
	return n + n/compactShare + n/looseShare + size/segments
}

func (st *state) mayHold() uint64 {
	if n := st.heldLimit.Load(); n > 0 {
		return n
	}
	return heldLeast
}

// MayHold returns what Memory.Held may be, and one session more.
func (s *Store) MayHold() uint64 { return s.st.Load().mayHold() }

// Crowded reports whether snapshots hold as much as they may. Who applies then waits
// until they got on, or gives up those that do not.
func (s *Store) Crowded() bool {
	st := s.st.Load()
	held := st.epochs.kept.Load()
	return held > 0 && held >= st.mayHold()
}

// Hurried reports whether snapshots hold half of what they may, so that writing
// them should not pause.
func (s *Store) Hurried() bool {
	st := s.st.Load()
	return st.epochs.kept.Load() >= st.mayHold()/2
}

// GiveUp gives up each snapshot of which fewer than least bytes were written since the last call,
// if it was held then, and returns how many: writing them fails with ErrGivenUp, and what only they held is
// given back before it returns. It is for the goroutine that calls Apply.
func (s *Store) GiveUp(least int64) (given int) {
	for _, n := range s.st.Load().epochs.snapshots() {
		done := n.done.Load()
		if n.looked && done-n.seen < least {
			n.giveUp()
			given++
		}
		n.looked, n.seen = true, done
	}
	return given
}

// Memory tells what the sessions really take. What is accounted against an
// off-heap resource follows the formula and is the same on all servers; this is not.
func (s *Store) Memory() (m Memory) {
	st := s.st.Load()
	m.Held = st.epochs.kept.Load()
	for _, d := range st.sortedDatasets() {
		for i := range d.segments {
			g := &d.segments[i]
			g.mu.RLock()
			m.Mapped += g.arena.mapped
			m.Used += g.arena.used
			m.Resident += g.arena.taken + g.arena.loose
			m.Blocks += g.arena.blocks
			g.mu.RUnlock()
		}
	}
	return m
}
