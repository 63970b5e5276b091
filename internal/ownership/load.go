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

// Load calls f with the answer, or returns the refusal. The answer is the record
// itself, valid inside f only, and f holds up changes of it: f encodes it and
// returns. Where Load returns an error although it has called f, what f made is
// not to be used: whether this server may answer is known only after the record
// was read. m may be nil with wire.LoadPeek. A session whose time is up is answered
// as gone even before the log says so.
func (o *Ownership) Load(ctx context.Context, m *Member, l *wire.Load, f func(*wire.Session)) error {
	access := l.Mode != wire.LoadPeek
	if access {
		if err := m.during(l.Node, func() {}); err != nil {
			return err
		}
	}
	reign, now, err := o.begun(ctx)
	if err != nil {
		return err
	}
	a := sessions.Get().(*wire.Session)
	var refusal *wire.Error
	gone := o.store.View(l.Dataset, l.Key, func(r *store.Record) {
		if refusal = o.read(a, l.Dataset, r, now, access); refusal != nil {
			return
		}
		if access {
			// With ownership, this is where the grant is decided, or the recall of the
			// owner is awaited. Now everybody gets a ticket.
			a.Token = o.token(a.Version)
		}
		f(a)
	})
	*a = wire.Session{}
	sessions.Put(a)
	// A refusal is an answer like any other: only the active may give it.
	if err := o.confirm(ctx, reign); err != nil {
		return err
	}
	switch {
	case gone != nil:
		return gone
	case refusal != nil:
		return refusal
	}
	return nil
}

// begun returns the reign in which a read begins, and its time.
func (o *Ownership) begun(ctx context.Context) (reign uint64, now store.Time, err error) {
	reign = o.reign()
	if now = o.stripe.Now(); now == 0 {
		if err := o.stripe.Confirm(ctx); err != nil {
			return 0, 0, err
		}
		reign, now = o.reign(), o.stripe.Now()
	}
	return reign, now, nil
}

// confirm returns nil once it is certain that what was read since reign began was
// the active's to say. A leadership that was lost and won again since the read
// proves nothing: meanwhile another server may have changed what was read.
func (o *Ownership) confirm(ctx context.Context, reign uint64) error {
	if err := o.stripe.Confirm(ctx); err != nil {
		return err
	}
	if o.reign() != reign {
		return errReign
	}
	return nil
}

// sessions holds *wire.Session: an answer that is handed to a function would
// cost memory each time.
var sessions = sync.Pool{New: func() any { return new(wire.Session) }}

// read fills a with the record, or returns that its time is up. It notes the access.
func (o *Ownership) read(a *wire.Session, dataset []byte, r *store.Record, now store.Time, access bool) *wire.Error {
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
	a.Key, a.User, a.Version, a.Attributes = r.Key, r.User, r.Version, r.Attributes()
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

// UserSessions lists the sessions of a user, oldest first, at most a thousand.
func (o *Ownership) UserSessions(ctx context.Context, dataset, user []byte) ([]wire.UserSession, error) {
	reign, now, err := o.begun(ctx)
	if err != nil {
		return nil, err
	}
	found, refusal := o.store.UserSessions(dataset, user, maxUserSessions)
	if err := o.confirm(ctx, reign); err != nil {
		return nil, err
	}
	if refusal != nil {
		return nil, refusal
	}
	list := make([]wire.UserSession, len(found))
	for i, u := range found {
		last := max(u.LastAccess, o.accesses.last(dataset, u.Key))
		list[i] = wire.UserSession{Key: u.Key, Age: since(now, u.Created), Idle: since(now, last)}
	}
	return list, nil
}
