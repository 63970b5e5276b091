package raftlog

import (
	"bytes"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// The memory of a Memory. An entry larger than a slab gets one to itself.
const (
	slabBytes  = 1 << 20
	spareSlabs = 8 // what mostly lies between two snapshots
)

// Memory is the log of a server that keeps nothing on disk. It copies what it
// is given: the batches of proposals are used again, and so is its own memory,
// because writes that leave garbage behind make the collector run all the time.
type Memory struct {
	mu    sync.RWMutex
	first uint64     // index of list[0]; 0 = nothing was ever stored
	list  []logged   // without gaps
	free  []*logSlab // emptied, to be used again
	last  *logSlab   // where the next entry goes while there is room; nil at first
}

// logged is an entry whose Data lies in a slab.
type logged struct {
	raft.Log
	slab *logSlab
}

// logSlab is memory for the entries of one stretch of the log.
type logSlab struct {
	b    []byte
	live int // entries in b
}

var _ raft.LogStore = (*Memory)(nil)

// FirstIndex implements raft.LogStore.
func (m *Memory) FirstIndex() (uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.list) == 0 {
		return 0, nil
	}
	return m.first, nil
}

// LastIndex implements raft.LogStore.
func (m *Memory) LastIndex() (uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.list) == 0 {
		return 0, nil
	}
	return m.first + uint64(len(m.list)) - 1, nil
}

// GetLog implements raft.LogStore. The entry is a copy: its memory here is used
// again once the log is cut short.
func (m *Memory) GetLog(index uint64, l *raft.Log) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if index < m.first || index-m.first >= uint64(len(m.list)) {
		return raft.ErrLogNotFound
	}
	*l = m.list[index-m.first].Log
	l.Data = bytes.Clone(l.Data)
	return nil
}

// StoreLog implements raft.LogStore.
func (m *Memory) StoreLog(l *raft.Log) error { return m.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. Entries follow the last one; after a gap,
// which the restoring of a snapshot makes, the log begins anew.
func (m *Memory) StoreLogs(logs []*raft.Log) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range logs {
		switch next := m.first + uint64(len(m.list)); {
		case len(m.list) == 0:
			m.first = l.Index
		case l.Index > next, l.Index < m.first:
			m.dropLocked(0, len(m.list))
			m.first = l.Index
		case l.Index < next: // takes the place of what nobody agreed to
			m.dropLocked(int(l.Index-m.first), len(m.list))
		}
		e := logged{Log: *l}
		e.Data, e.slab = m.keepLocked(l.Data)
		e.Extensions = bytes.Clone(l.Extensions)
		m.list = append(m.list, e)
	}
	return nil
}

// keepLocked copies data into a slab.
func (m *Memory) keepLocked(data []byte) ([]byte, *logSlab) {
	s := m.last
	switch {
	case s != nil && len(data) <= cap(s.b)-len(s.b):
	case len(data) > slabBytes:
		s = &logSlab{b: make([]byte, 0, len(data))} // the current one goes on after it
	case len(m.free) > 0:
		n := len(m.free) - 1
		s, m.free = m.free[n], m.free[:n]
		m.last = s
	default:
		s = &logSlab{b: make([]byte, 0, slabBytes)}
		m.last = s
	}
	from := len(s.b)
	s.b = append(s.b, data...)
	s.live++
	return s.b[from:len(s.b):len(s.b)], s
}

// dropLocked forgets list[from:to], which is at one end of list.
func (m *Memory) dropLocked(from, to int) {
	for _, e := range m.list[from:to] {
		if e.slab.live--; e.slab.live > 0 {
			continue
		}
		e.slab.b = e.slab.b[:0]
		if e.slab != m.last && cap(e.slab.b) == slabBytes && len(m.free) < spareSlabs {
			m.free = append(m.free, e.slab)
		}
	}
	if from == 0 {
		m.first += uint64(to)
	}
	m.list = slices.Delete(m.list, from, to)
}

// DeleteRange implements raft.LogStore.
func (m *Memory) DeleteRange(low, high uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := m.first + uint64(len(m.list))
	low, high = max(low, m.first), min(high, end-1)
	if len(m.list) == 0 || low > high {
		return nil
	}
	if low > m.first && high < end-1 {
		high = end - 1 // raft cuts at the ends only; what follows a gap is worth nothing
	}
	m.dropLocked(int(low-m.first), int(high-m.first)+1)
	return nil
}
