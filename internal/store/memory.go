package store

// Memory is what the store has outside of the garbage collector, in bytes.
type Memory struct {
	Mapped uint64 // taken from the operating system; pages never written are no real memory
	Used   uint64 // by sessions, old keys and tombstones
	Held   uint64 // part of Used that only snapshots read; never more than was used when they were taken
	Blocks uint64 // how many sessions, old keys, tombstones and held ones there are
}

// Memory tells what the sessions really take. What is accounted against an
// off-heap resource follows the formula and is the same on all servers; this is not.
func (s *Store) Memory() (m Memory) {
	for _, d := range s.st.Load().sortedDatasets() {
		for i := range d.segments {
			g := &d.segments[i]
			g.mu.RLock()
			m.Mapped += g.arena.mapped
			m.Used += g.arena.used
			m.Held += g.keptBytes
			m.Blocks += g.arena.blocks
			g.mu.RUnlock()
		}
	}
	return m
}
