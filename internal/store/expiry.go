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
		old, err := d.find(t.Key, a.at)
		when := min(t.When, a.at)
		if err != nil || when <= old.LastAccess {
			continue
		}
		r := old.clone()
		r.LastAccess = when
		g := d.segment(r.Key)
		g.mu.Lock()
		g.put(r)
		g.mu.Unlock()
	}
	return nil
}

func (a *step) expire(dataset []byte, keys [][]byte) (any bool, err *wire.Error) {
	d, err := a.dataset(dataset)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		if r := d.segment(key).records[string(key)]; r != nil && r.isDue(a.at) {
			a.end(d, r, reasonExpired)
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
			for s := g.ends.first(); s != nil && s.at <= a.at; s = g.ends.first() {
				if limit == 0 {
					return
				}
				limit--
				a.pruneTrace(d, g.traces[string(s.key)])
			}
		}
	}
}

func (a *step) pruneTrace(d *dataset, t *trace) {
	if t.target == nil {
		defer d.lock(t.key)()
		d.give(t.cost(), 0)
		d.segment(t.key).forget(t)
		return
	}
	defer d.lock(t.key, t.target)()
	g := d.segment(t.target)
	r := g.records[string(t.target)].clone()
	r.aliases = slices.DeleteFunc(slices.Clone(r.aliases), func(key []byte) bool { return bytes.Equal(key, t.key) })
	if len(r.aliases) == 0 {
		r.aliases = nil
	}
	g.put(r)
	// Its life counts from now, not from the end of the grace: then it is never
	// due at once, and one call never takes a trace twice.
	d.give(t.cost(), d.bury(t.key, reasonRenewed, a.at.after(lifeOf(a.cluster))))
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
			first, ends := g.due.first(), g.ends.first()
			waits := first != nil && first.at <= now
			prune = prune || ends != nil && ends.at <= now
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
	var taken []*slot
	for moved := 0; moved < lookAhead && len(keys) < limit; {
		s := g.due.first()
		if s == nil || s.at > now {
			break
		}
		if r := g.records[string(s.key)]; !r.isDue(now) {
			g.due.move(s, r.due())
			moved++
			continue
		}
		keys = append(keys, bytes.Clone(s.key))
		taken = append(taken, s)
		g.due.remove(s)
	}
	for _, s := range taken {
		g.due.put(s)
	}
	return keys
}
