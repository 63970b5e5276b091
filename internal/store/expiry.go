package store

import (
	"bytes"
	"slices"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// lookAhead bounds how many sessions of a segment one call of Due puts back because they
// were accessed since: the segment is locked meanwhile.
const lookAhead = 1024

func (a *step) touch(dataset []byte, list []Touch) *wire.Error {
	d, err := a.dataset(dataset)
	if err != nil {
		return err
	}
	for _, t := range list {
		s, err := d.find(t.Key, a.at)
		when := min(t.When, a.at)
		if err != nil || when <= s.b.lastAccess() {
			continue
		}
		s.mu.Lock()
		s.touch(s.h, s.b, s.r, when)
		s.mu.Unlock()
	}
	return nil
}

func (a *step) expire(dataset []byte, keys [][]byte) (any bool, err *wire.Error) {
	if d := (*a.datasets.Load())[string(dataset)]; d != nil && d.ofRedis() {
		return a.redisExpire(d, keys), nil
	}
	d, err := a.dataset(dataset)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		h := hash(key)
		if b, _ := d.segmentOf(h).look(h, key); b != nil && b.kind() == kindRecord && b.isDue(a.at) {
			a.end(d, b, reasonExpired)
			any = true
		}
	}
	return any, nil
}

// prune goes through datasets by name and segments by number, so that every
// server drops the same ones.
func (a *step) prune(limit uint64) {
	for _, d := range a.sortedDatasets() {
		for i := range d.segments {
			g := &d.segments[i]
			for end, some := g.ends.first(); some && end <= a.at; end, some = g.ends.first() {
				if limit == 0 {
					return
				}
				limit--
				a.pruneTrace(d, g, g.block(g.ends.s[0].r))
			}
		}
	}
}

func (a *step) pruneTrace(d *dataset, g *segment, b block) {
	t := b.trace()
	h := hash(t.key)
	if t.target == nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		d.give(t.cost(), 0)
		g.drop(h, t.key)
		return
	}
	t = trace{key: bytes.Clone(t.key), target: bytes.Clone(t.target), until: t.until}
	defer d.lock(t.key, t.target)()
	target := hash(t.target)
	into := d.segmentOf(target)
	r := &a.scratch.record
	s, _ := into.look(target, t.target)
	s.read(r)
	r.aliases = slices.DeleteFunc(r.aliases, func(key []byte) bool { return bytes.Equal(key, t.key) })
	into.put(target, a.scratch.writer.record(r))
	// Its life counts from now, not from the end of the grace: then it is never
	// due at once, and one call never takes a trace twice.
	d.give(t.cost(), a.bury(d, t.key, reasonRenewed, a.at.after(lifeOf(a.cluster))))
}

// DueSessions names the sessions of one dataset whose time is up.
type DueSessions struct {
	Dataset []byte
	Keys    [][]byte
}

// Due returns up to limit keys per dataset whose time is up at now, for
// AppendExpire, and whether AppendPrune has work. It may leave some for the next
// call, so call it regularly. The same keys come again until they are expired or accessed.
func (s *Store) Due(now Time, limit int) (due []DueSessions, prune bool) {
	for _, d := range s.st.Load().sortedDatasets() {
		var keys [][]byte
		for i := range d.segments {
			g := &d.segments[i]
			g.mu.RLock()
			first, waits := g.due.first()
			ends, some := g.ends.first()
			waits = waits && first <= now
			prune = prune || some && ends <= now
			g.mu.RUnlock()
			if waits && len(keys) < limit {
				keys = g.collect(keys, now, limit)
			}
		}
		if len(keys) > 0 {
			due = append(due, DueSessions{Dataset: []byte(d.name), Keys: keys})
		}
	}
	return due, prune
}

// collect appends keys of sessions whose time is up until there are limit, and
// puts back those that were accessed since they were queued.
func (g *segment) collect(keys [][]byte, now Time, limit int) [][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	moved := 0
	for _, at := range g.due.until(now, limit-len(keys)+lookAhead, nil) {
		switch b := g.block(at); {
		case b.isDue(now):
			if keys = append(keys, bytes.Clone(b.key())); len(keys) == limit {
				return keys
			}
		case moved < lookAhead:
			g.due.move(&g.arena, b.place(), b.due())
			moved++
		}
	}
	return keys
}
