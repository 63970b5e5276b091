package websessions

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// ill is a backend that fails when it is told to, and counts.
type ill struct {
	backend
	fail  atomic.Pointer[func(op string) error]
	calls atomic.Int64
	loads atomic.Int64
}

func (b *ill) set(f func(op string) error) {
	if f == nil {
		b.fail.Store(nil)
		return
	}
	b.fail.Store(&f)
}

func (b *ill) check(ctx context.Context, op string) error {
	b.calls.Add(1)
	if err := ctx.Err(); err != nil {
		return err
	}
	if f := b.fail.Load(); f != nil {
		if err := (*f)(op); err != nil {
			if err == errSilent {
				<-ctx.Done()
				return ctx.Err()
			}
			return err
		}
	}
	return nil
}

// errSilent makes a call hang until its context ends.
var errSilent = context.DeadlineExceeded

func (b *ill) load(ctx context.Context, l *wire.Load) (wire.Session, error) {
	b.loads.Add(1)
	if err := b.check(ctx, "load"); err != nil {
		return wire.Session{}, err
	}
	return b.backend.load(ctx, l)
}

func (b *ill) create(ctx context.Context, w *wire.Create) (wire.Outcome, error) {
	if err := b.check(ctx, "create"); err != nil {
		return wire.Outcome{}, err
	}
	return b.backend.create(ctx, w)
}

func (b *ill) commit(ctx context.Context, w *wire.Commit) (wire.Outcome, error) {
	if err := b.check(ctx, "commit"); err != nil {
		return wire.Outcome{}, err
	}
	return b.backend.commit(ctx, w)
}

func (b *ill) invalidate(ctx context.Context, w *wire.Invalidate) (wire.Outcome, error) {
	if err := b.check(ctx, "invalidate"); err != nil {
		return wire.Outcome{}, err
	}
	return b.backend.invalidate(ctx, w)
}

func (b *ill) renew(ctx context.Context, w *wire.Renew) (wire.Outcome, error) {
	if err := b.check(ctx, "renew"); err != nil {
		return wire.Outcome{}, err
	}
	return b.backend.renew(ctx, w)
}

func (b *ill) userSessions(ctx context.Context, user string) ([]wire.UserSession, error) {
	if err := b.check(ctx, "users"); err != nil {
		return nil, err
	}
	return b.backend.userSessions(ctx, user)
}

// makeIll puts an ill backend under m.
func makeIll(m *Sessions) *ill {
	b := &ill{backend: m.b}
	m.b = b
	return b
}

// only fails the operations named.
func only(err error, ops ...string) func(string) error {
	return func(op string) error {
		if slices.Contains(ops, op) {
			return err
		}
		return nil
	}
}

var errAway = &wire.Error{Word: wire.ErrUnconfigured, Text: "run cluster-tool configure"}
