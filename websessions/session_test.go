package websessions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// do runs f as a request's handler with the cookies of before (nil = none).
func do(m *Sessions, before *httptest.ResponseRecorder, f func(ctx context.Context, s *Session)) *httptest.ResponseRecorder {
	h := func(w http.ResponseWriter, r *http.Request) { f(r.Context(), FromContext(r.Context())) }
	if before == nil {
		return one(m, h)
	}
	return one(m, h, with(before))
}

func TestInvalidateThenSetBeginsANewSession(t *testing.T) {
	onBoth(t, invalidateThenSetBeginsANewSession)
}

func invalidateThenSetBeginsANewSession(t *testing.T, open opener) {
	m := open(t)
	w := do(m, nil, func(ctx context.Context, s *Session) { must(s.Login(ctx, "ann")) })
	var before, after string
	p := do(m, w, func(ctx context.Context, s *Session) {
		before = s.ID()
		must(s.Invalidate(ctx))
		if s.ID() != "" || s.User() != "" || !s.IsNew() {
			t.Errorf("after Invalidate: id %q, user %q, new %v", s.ID(), s.User(), s.IsNew())
		}
		must(noteAttr.Set(ctx, "bye"))
		after = s.ID()
	})
	if before == after || after == "" {
		t.Fatalf("ids %q and %q", before, after)
	}
	if got := one(m, readNote, with(p)).Body.String(); got != "bye" {
		t.Fatalf("note is %q", got)
	}
	do(m, w, func(_ context.Context, s *Session) {
		if !s.IsNew() {
			t.Error("the old cookie still leads somewhere")
		}
	})
}

func TestInvalidateTakesTheCookieAway(t *testing.T) { onBoth(t, invalidateTakesTheCookieAway) }

func invalidateTakesTheCookieAway(t *testing.T, open opener) {
	m := open(t)
	w := one(m, setNote)
	p := do(m, w, func(ctx context.Context, s *Session) { must(s.Invalidate(ctx)) })
	if c := cookieOf(t, p); c.MaxAge >= 0 || c.Value != "" {
		t.Fatalf("cookie is %+v", c)
	}
}

func TestSessionsOfAUser(t *testing.T) { onBoth(t, sessionsOfAUser) }

func sessionsOfAUser(t *testing.T, open opener) {
	m := open(t)
	var cookies []*httptest.ResponseRecorder
	for range 3 {
		cookies = append(cookies, do(m, nil, func(ctx context.Context, s *Session) { must(s.Login(ctx, "ann")) }))
	}
	other := do(m, nil, func(ctx context.Context, s *Session) { must(s.Login(ctx, "bob")) })
	if list, err := m.UserSessions(bg, "ann"); err != nil || len(list) != 3 || list[0].ID == "" || list[0].Created.IsZero() {
		t.Fatalf("sessions %v, error %v", list, err)
	}
	if n, err := m.InvalidateUser(bg, "ann"); n != 3 || err != nil {
		t.Fatalf("%d ended, error %v", n, err)
	}
	for _, c := range cookies {
		do(m, c, func(_ context.Context, s *Session) {
			if s.User() != "" {
				t.Error("still logged in")
			}
		})
	}
	do(m, other, func(_ context.Context, s *Session) {
		if s.User() != "bob" {
			t.Error("another user was logged out")
		}
	})
}

func TestUseAfterTheRequestFails(t *testing.T) {
	m := newTest(t)
	var kept *Session
	var ctx context.Context
	w := do(m, nil, func(c context.Context, s *Session) { ctx, kept = c, s; must(noteAttr.Set(c, "x")) })
	_, err := noteAttr.Get(ctx)
	for name, err := range map[string]error{
		"Get": err, "Set": noteAttr.Set(ctx, "y"), "Remove": noteAttr.Remove(ctx), "Save": kept.Save(ctx),
		"Update": noteAttr.Update(ctx, func(*string) error { return nil }), "Invalidate": kept.Invalidate(ctx),
		"RenewID": kept.RenewID(ctx), "Login": kept.Login(ctx, "x"), "SetIdleTimeout": kept.SetIdleTimeout(0),
	} {
		if !errors.Is(err, ErrFinished) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if kept.ID() == "" {
		t.Error("what was known is forgotten")
	}
	if got := one(m, readNote, with(w)).Body.String(); got != "x" {
		t.Errorf("note is %q", got)
	}
}

func TestHooksMayUseTheSession(t *testing.T) { onBoth(t, hooksMayUseTheSession) }

func hooksMayUseTheSession(t *testing.T, open opener) {
	var log []string
	m := open(t, func(c *Config) {
		c.Hooks = Hooks{
			Created: func(ctx context.Context, id string) {
				log = append(log, fmt.Sprint("created ", id == FromContext(ctx).ID()))
			},
			Renewed: func(_ context.Context, before, after string) {
				log = append(log, fmt.Sprint("renewed ", before != after))
			},
			Ended:   func(_ context.Context, _, reason string) { log = append(log, "ended "+reason) },
			Changed: func(_ context.Context, _ string, names []string) { log = append(log, "changed "+text2(names)) },
		}
	})
	w := one(m, setNote)
	w2 := do(m, w, func(ctx context.Context, s *Session) { must(s.RenewID(ctx)); must(noteAttr.Remove(ctx)) })
	do(m, w2, func(ctx context.Context, s *Session) { must(s.Invalidate(ctx)) })
	want := []string{"created true", "changed note", "renewed true", "changed note", "ended logout"}
	if !slices.Equal(log, want) {
		t.Fatalf("hooks: %q", log)
	}
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTest(t)
		w := one(m, setNote)
		one(m, setNote)
		time.Sleep(time.Minute)
		do(m, w, func(ctx context.Context, s *Session) { must(s.Invalidate(ctx)) })
		do(m, w, func(_ context.Context, s *Session) { s.ID() })
		s := m.Stats()
		if s.SessionsCreated != 2 || s.SessionsCreationRate != 2 || s.SessionsEnded != 1 || s.Loads != 2 || s.Misses != 1 ||
			s.AverageSessionLifetime != time.Minute || s.MaximumSessionLifetime != time.Minute || s.ContextPath != "/" {
			t.Fatalf("stats %+v", s)
		}
	})
}

func TestExplainKeepsTheCause(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error
	}{
		{&wire.Error{Word: wire.ErrSessionGone, Text: "logout"}, ErrInvalidated},
		{&wire.Error{Word: wire.ErrUnconfigured}, ErrUnavailable},
		{&wire.Error{Word: wire.ErrOutOfOffheap}, ErrUnavailable},
		{context.DeadlineExceeded, ErrUnavailable},
	} {
		if err := explain("do it", c.err); !errors.Is(err, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%v became %v", c.err, err)
		}
	}
	if err := explain("do it", &wire.Error{Word: wire.ErrTooBig}); errors.Is(err, ErrUnavailable) {
		t.Error("trying a value that is too big again does not help")
	}
}
