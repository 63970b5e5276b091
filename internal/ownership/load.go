package ownership

import (
	"context"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// maxUserSessions bounds the list of a user's sessions.
const maxUserSessions = 1000

var errExpired = &wire.Error{Word: wire.ErrSessionGone, Text: "expired"}

// Load calls f with the answer, valid inside f only, or returns the refusal.
// m may be nil with wire.LoadPeek. A session whose time is up is answered as
// gone even before the log says so.
func (o *Ownership) Load(ctx context.Context, m *Member, l *wire.Load, f func(*wire.Session)) error {
	access := l.Mode != wire.LoadPeek
	if access {
		if err := m.during(l.Node, func() {}); err != nil {
			return err
		}
	}
	now := o.stripe.Now()
	if now == 0 {
		if err := o.stripe.Confirm(ctx); err != nil {
			return err
		}
		now = o.stripe.Now()
	}
	a := answers.Get().(*answer)
	defer a.free()
	var refusal *wire.Error
	gone := o.store.View(l.Dataset, l.Key, func(r *store.Record) {
		refusal = o.read(a, l.Dataset, r, now, access)
	})
	// A refusal is an answer like any other: only the active may give it.
	if err := o.stripe.Confirm(ctx); err != nil {
		return err
	}
	switch {
	case gone != nil:
		return gone
	case refusal != nil:
		return refusal
	}
	if access {
		// With ownership, this is where the grant is decided, or the recall of the
		// owner is awaited. Now everybody gets a ticket.
		a.Token = o.token(a.Version)
	}
	f(&a.Session)
	return nil
}

// read copies the record into a, or returns that its time is up. It notes the access.
func (o *Ownership) read(a *answer, dataset []byte, r *store.Record, now store.Time, access bool) *wire.Error {
	last := r.LastAccess
	stale := now-last > touchAfter(r.Idle)
	if stale {
		last = max(last, o.accesses.last(dataset, r.Key))
	}
	if timeIsUp(r, last, now) {
		return errExpired
	}
	if access && stale && now-last > touchAfter(r.Idle) {
		o.accesses.note(dataset, r.Key, now)
	}
	a.fill(r)
	a.Age, a.Idle = since(now, r.Created), since(now, last)
	a.IdleMax, a.Remaining = r.Idle, wire.KeepIdle
	if r.Deadline > 0 {
		a.Remaining = since(r.Deadline, now)
	}
	return nil
}

// timeIsUp decides as the store does when an expiry entry is applied, but with
// the last access that this active knows of.
func timeIsUp(r *store.Record, last, now store.Time) bool {
	return r.Idle > 0 && since(now, last) >= r.Idle || r.Deadline > 0 && now >= r.Deadline
}

func since(now, then store.Time) time.Duration {
	return time.Duration(max(0, now-then)) * time.Millisecond
}

// answer is a Session with the memory that it points into.
type answer struct {
	wire.Session
	attrs []wire.Attribute
	bytes []byte
}

// answers holds *answer.
var answers = sync.Pool{New: func() any { return new(answer) }}

func (a *answer) free() {
	if cap(a.bytes) > maxKeptBuffer {
		return
	}
	clear(a.attrs)
	a.Session = wire.Session{}
	answers.Put(a)
}

// fill copies what the record points to, because the record is valid only under
// its lock, and the answer may have to wait for a leadership check.
func (a *answer) fill(r *store.Record) {
	attrs := r.Attributes()
	size := len(r.Key) + len(r.User)
	for i := range attrs {
		size += len(attrs[i].Name) + len(attrs[i].Value)
	}
	if cap(a.bytes) < size {
		a.bytes = make([]byte, 0, size)
	}
	a.bytes, a.attrs = a.bytes[:0], a.attrs[:0]
	a.Key, a.User, a.Version = a.keep(r.Key), a.keep(r.User), r.Version
	for i := range attrs {
		a.attrs = append(a.attrs, wire.Attribute{Name: a.keep(attrs[i].Name), Value: a.keep(attrs[i].Value)})
	}
	a.Attributes = a.attrs
}

// keep copies b into memory that fill has made large enough.
func (a *answer) keep(b []byte) []byte {
	start := len(a.bytes)
	a.bytes = append(a.bytes, b...)
	return a.bytes[start:len(a.bytes):len(a.bytes)]
}

// UserSessions lists the sessions of a user, oldest first, at most a thousand.
func (o *Ownership) UserSessions(ctx context.Context, dataset, user []byte) ([]wire.UserSession, error) {
	found, refusal := o.store.UserSessions(dataset, user, maxUserSessions)
	if err := o.stripe.Confirm(ctx); err != nil {
		return nil, err
	}
	if refusal != nil {
		return nil, refusal
	}
	now := o.stripe.Now()
	list := make([]wire.UserSession, len(found))
	for i, u := range found {
		last := max(u.LastAccess, o.accesses.last(dataset, u.Key))
		list[i] = wire.UserSession{Key: u.Key, Age: since(now, u.Created), Idle: since(now, last)}
	}
	return list, nil
}
