package store

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// A cursor of RedisScan is a place in an order of all keys that could be: by segment, and
// within it by the first 48 bits of the key's hash. It needs no memory
// here, and stays right however the index grows, on every server and after a restart.
// It has 53 bits at most, so that no client rounds it.
const (
	cursorBits    = 48
	cursorSegment = uint64(1) << cursorBits
)

// ScannedKey is one key that RedisScan has found.
type ScannedKey struct {
	Key  []byte
	Hash bool // or a string
}

// RedisScan returns about count keys from the place cursor on, and the cursor to go on
// with; 0 begins, and is returned after the last one. Every key that is there all
// the time comes exactly once, others perhaps. More than count come only where many hashes begin with the
// same 48 bits. A cursor that nobody was given is as good as any.
func (s *Store) RedisScan(now Time, cursor uint64, count int) (keys []ScannedKey, next uint64, err *wire.Error) {
	for {
		d, err := s.st.Load().redisDataset()
		if d == nil {
			return nil, 0, err
		}
		keys, next, closed := d.redisScan(now, cursor, count)
		if !closed {
			return keys, next, nil
		}
		// The state was replaced meanwhile.
	}
}

func (d *dataset) redisScan(now Time, cursor uint64, count int) (keys []ScannedKey, next uint64, closed bool) {
	for cursor>>cursorBits < uint64(len(d.segments)) {
		g := &d.segments[cursor>>cursorBits]
		n := 0
		if keys, n, cursor, closed = g.scan(keys, now, cursor, count); closed {
			return nil, 0, true
		}
		if count -= n; count <= 0 {
			break
		}
	}
	if cursor>>cursorBits >= uint64(len(d.segments)) {
		cursor = 0
	}
	return keys, cursor, false
}

// scan looks at up to limit keys of the table that cursor leads to: the segment is
// locked for one table at a time. It returns how many it has seen.
func (g *segment) scan(keys []ScannedKey, now Time, cursor uint64, limit int) (_ []ScannedKey, seen int, next uint64, closed bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	base := cursor &^ (cursorSegment - 1)
	from := cursor - base
	t := g.index.table(from << (64 - cursorBits))
	if g.closed || t == nil {
		return keys, 0, base + cursorSegment, g.closed
	}
	type found struct {
		place uint64
		ref   ref
	}
	list := make([]found, 0, t.n)
	for _, s := range t.slots {
		if s == 0 {
			continue
		}
		if place := hash(g.block(slotRef(s)).key()) >> (64 - cursorBits); place >= from {
			list = append(list, found{place, slotRef(s)})
		}
	}
	slices.SortFunc(list, func(a, b found) int { return cmp.Compare(a.place, b.place) })
	for i, f := range list {
		if i >= limit && f.place != list[i-1].place {
			return keys, i, base + f.place, false
		}
		if b := g.block(f.ref); !b.isDue(now) {
			keys = append(keys, ScannedKey{bytes.Clone(b.key()), b.isHash()})
		}
	}
	width := cursorSegment >> t.depth
	return keys, len(list), base + (from&^(width-1) + width), false
}

// RedisSize returns how many keys there are. Those whose time is up count until they are expired.
func (s *Store) RedisSize() (uint64, *wire.Error) {
	d, err := s.st.Load().redisDataset()
	if d == nil {
		return 0, err
	}
	return d.sessions.Load(), nil
}
