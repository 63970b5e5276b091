package websessions

import (
	"bytes"
	"context"
	"sort"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// memory is a backend within the process. It keeps the rules of the cluster's
// store on sessions (versions, tickets, tombstones, renewals, time-outs), none on size.
type memory struct {
	now func() time.Time

	mu      sync.Mutex               // guards what follows
	index   uint64                   // counts changes, as the store's index
	counter uint64                   // counts tickets
	seq     uint64                   // counts writes
	records map[string]*memoryRecord // session key -> session
	old     map[string]oldKey        // key before a renewal -> where it leads
	gone    map[string]tombstone     // session key -> how it ended
	swept   time.Time
}

type memoryRecord struct {
	key             string
	version         uint64
	created, access time.Time
	idle, absolute  time.Duration
	user            string
	attrs           map[string]*memoryAttr
}

// memoryAttr stays after a removal, so that a late change of it is noticed.
type memoryAttr struct {
	value   []byte // nil: removed
	version uint64
	token   wire.Token // of the last writer, with seq
	seq     uint64
}

type oldKey struct {
	record *memoryRecord
	until  time.Time
}

type tombstone struct {
	reason string
	until  time.Time
}

// tombstoneLife is longer than any request lives.
const tombstoneLife = 10 * time.Minute

func newMemory(now func() time.Time) *memory {
	return &memory{now: now, swept: now(), records: map[string]*memoryRecord{},
		old: map[string]oldKey{}, gone: map[string]tombstone{}}
}

func (b *memory) ready(context.Context) error { return nil }
func (b *memory) close() error                { return nil }

func refuse(w wire.Word, text string) error { return &wire.Error{Word: w, Text: text} }

// findLocked returns the living record that key leads to.
func (b *memory) findLocked(key string) (*memoryRecord, error) {
	now := b.now()
	r := b.records[key]
	if r == nil {
		if o, ok := b.old[key]; ok && now.Before(o.until) && b.records[o.record.key] == o.record {
			r = o.record
		}
	}
	if r == nil {
		if t, ok := b.gone[key]; ok && now.Before(t.until) {
			return nil, refuse(wire.ErrSessionGone, t.reason)
		}
		if _, ok := b.old[key]; ok {
			return nil, refuse(wire.ErrSessionGone, "renewed")
		}
		return nil, refuse(wire.ErrSessionUnknown, "no session has this key")
	}
	if r.expired(now) {
		b.endLocked(r, "expired")
		return nil, refuse(wire.ErrSessionGone, "expired")
	}
	return r, nil
}

func (r *memoryRecord) expired(now time.Time) bool {
	return r.idle > 0 && now.Sub(r.access) >= r.idle || r.absolute > 0 && now.Sub(r.created) >= r.absolute
}

// endLocked ends r and every old key that leads to it.
func (b *memory) endLocked(r *memoryRecord, reason string) {
	t := tombstone{reason: reason, until: b.now().Add(tombstoneLife)}
	delete(b.records, r.key)
	b.gone[r.key] = t
	for key, o := range b.old {
		if o.record == r {
			delete(b.old, key)
			b.gone[key] = t
		}
	}
}

// lock locks b for an operation.
func (b *memory) lock() {
	b.mu.Lock()
	b.sweepLocked()
}

// sweepLocked ends what has expired, once a minute.
func (b *memory) sweepLocked() {
	now := b.now()
	if now.Sub(b.swept) < time.Minute {
		return
	}
	b.swept = now
	for _, r := range b.records {
		if r.expired(now) {
			b.endLocked(r, "expired")
		}
	}
	for key, o := range b.old {
		if !now.Before(o.until) {
			delete(b.old, key)
			b.gone[key] = tombstone{reason: "renewed", until: now.Add(tombstoneLife)}
		}
	}
	for key, t := range b.gone {
		if !now.Before(t.until) {
			delete(b.gone, key)
		}
	}
}

func (b *memory) ticketLocked(index uint64) wire.Token {
	b.counter++
	return wire.Token{Term: 1, Counter: b.counter, Index: index}
}

func (b *memory) load(_ context.Context, l *wire.Load) (wire.Session, error) {
	b.lock()
	defer b.mu.Unlock()
	r, err := b.findLocked(string(l.Key))
	if err != nil {
		return wire.Session{}, err
	}
	now := b.now()
	s := wire.Session{Key: []byte(r.key), Version: r.version, Age: now.Sub(r.created), Idle: now.Sub(r.access),
		IdleMax: r.idle, Remaining: wire.KeepIdle, User: []byte(r.user)}
	if r.absolute > 0 {
		s.Remaining = r.absolute - s.Age
	}
	if l.Mode != wire.LoadPeek {
		s.Token = b.ticketLocked(r.version)
		r.access = now
	}
	for name, a := range r.attrs {
		if a.value != nil {
			s.Attributes = append(s.Attributes, wire.Attribute{Name: []byte(name), Value: a.value})
		}
	}
	return s, nil
}

func (b *memory) create(_ context.Context, w *wire.Create) (wire.Outcome, error) {
	b.lock()
	defer b.mu.Unlock()
	key := string(w.Key)
	if _, err := b.findLocked(key); !wire.Is(err, wire.ErrSessionUnknown) {
		return wire.Outcome{}, refuse(wire.ErrSessionExists, "a session with this key exists")
	}
	b.index++
	b.seq++
	token := b.ticketLocked(b.index)
	r := &memoryRecord{key: key, version: b.index, created: b.now(), access: b.now(), idle: w.Idle,
		absolute: w.Absolute, user: string(w.User), attrs: map[string]*memoryAttr{}}
	for _, a := range w.Set {
		r.attrs[string(a.Name)] = &memoryAttr{value: keep(a.Value), version: b.index, token: token, seq: b.seq}
	}
	b.records[key] = r
	return wire.Outcome{Version: b.index, Token: token}, nil
}

// keep copies a value; an empty one is not nil, which would mean removed.
func keep(v []byte) []byte { return append([]byte{}, v...) }

func (b *memory) commit(_ context.Context, w *wire.Commit) (wire.Outcome, error) {
	b.lock()
	defer b.mu.Unlock()
	r, err := b.findLocked(string(w.Key))
	if err != nil {
		return wire.Outcome{}, err
	}
	r.access = b.now()
	b.seq++
	next := b.index + 1
	var out wire.Outcome
	changed := false
	change := func(name, value []byte) {
		a := r.attrs[string(name)]
		if a == nil {
			a = &memoryAttr{}
			r.attrs[string(name)] = a
		}
		// As the store does: docs/protocol.md, "Changes are made once".
		if a.version > w.Token.Index && !(a.token.SameGrant(w.Token) && a.seq < b.seq) {
			out.Dropped = append(out.Dropped, bytes.Clone(name))
			return
		}
		*a = memoryAttr{value: value, version: next, token: w.Token, seq: b.seq}
		changed = true
	}
	for _, a := range w.Set {
		change(a.Name, keep(a.Value))
	}
	for _, name := range w.Remove {
		change(name, nil)
	}
	if w.Idle != wire.KeepIdle {
		r.idle, changed = w.Idle, true
	}
	if changed {
		b.index = next
		r.version = next
	}
	out.Version = r.version
	return out, nil
}

func (b *memory) invalidate(_ context.Context, w *wire.Invalidate) (wire.Outcome, error) {
	b.lock()
	defer b.mu.Unlock()
	b.index++
	r, err := b.findLocked(string(w.Key))
	if err != nil {
		return wire.Outcome{Version: b.index}, nil
	}
	b.endLocked(r, string(w.Reason))
	return wire.Outcome{Version: b.index, Existed: true}, nil
}

func (b *memory) renew(_ context.Context, w *wire.Renew) (wire.Outcome, error) {
	b.lock()
	defer b.mu.Unlock()
	r, err := b.findLocked(string(w.Key))
	if err != nil {
		return wire.Outcome{}, err
	}
	// A session that was renewed a moment ago is not renewed again by a request
	// that still holds the old key: of two new cookies the browser would keep
	// the one that comes last, and that may be the one that dies first.
	if r.key != string(w.Key) && w.Grace > 0 {
		return wire.Outcome{}, refuse(wire.ErrSessionGone, "renewed")
	}
	if _, err := b.findLocked(string(w.NewKey)); !wire.Is(err, wire.ErrSessionUnknown) {
		return wire.Outcome{}, refuse(wire.ErrSessionExists, "a session with this key exists")
	}
	b.index++
	now := b.now()
	delete(b.records, r.key)
	if w.Grace > 0 {
		b.old[r.key] = oldKey{record: r, until: now.Add(w.Grace)}
	} else {
		b.gone[r.key] = tombstone{reason: "renewed", until: now.Add(tombstoneLife)}
		for key, o := range b.old { // nor may an older one lead to it
			if o.record == r {
				delete(b.old, key)
				b.gone[key] = tombstone{reason: "renewed", until: now.Add(tombstoneLife)}
			}
		}
	}
	r.key = string(w.NewKey)
	b.records[r.key] = r
	r.version, r.access = b.index, now
	if w.SetUser {
		r.user = string(w.User)
	}
	return wire.Outcome{Version: b.index, Token: b.ticketLocked(b.index)}, nil
}

func (b *memory) userSessions(_ context.Context, user string) ([]wire.UserSession, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	var list []wire.UserSession
	for key, r := range b.records {
		if r.user == user && !r.expired(now) {
			list = append(list, wire.UserSession{Key: []byte(key), Age: now.Sub(r.created), Idle: now.Sub(r.access)})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Age > list[j].Age })
	return list, nil
}
