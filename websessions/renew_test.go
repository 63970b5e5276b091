package websessions

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Attack: session fixation. The attacker's cookie is in the victim's browser
// when the victim logs in.
func TestAttackFixation(t *testing.T) { onBoth(t, attackFixation) }

func attackFixation(t *testing.T, open opener) {
	m := open(t)
	attacker := one(m, setNote)
	var before, after string
	defer func() {
		if before[:tagLen] != after[:tagLen] || before == after {
			t.Errorf("id %q became %q: the tag that keeps it in its stripe must stay", before, after)
		}
	}()
	m.cfg.Hooks.Renewed = func(_ context.Context, b, a string) { before, after = b, a }
	victim := do(m, attacker, func(ctx context.Context, s *Session) { must(s.Login(ctx, "ann")) })
	do(m, attacker, func(_ context.Context, s *Session) {
		if s.User() != "" || !s.IsNew() {
			t.Errorf("the planted cookie is logged in as %q", s.User())
		}
	})
	do(m, victim, func(ctx context.Context, s *Session) {
		note, _ := noteAttr.Get(ctx)
		if s.User() != "ann" || note != "hello" {
			t.Errorf("the victim is %q with note %q", s.User(), note)
		}
	})
}

// Attack: the same with a cookie from before a rotation, within its grace.
func TestAttackFixationByAKeyInItsGrace(t *testing.T) { onBoth(t, attackFixationByAKeyInItsGrace) }

func attackFixationByAKeyInItsGrace(t *testing.T, open opener) {
	for i, name := range []string{"by the old key", "by the new key"} {
		m := open(t)
		attacker := one(m, setNote)
		rotated := do(m, attacker, func(ctx context.Context, s *Session) { must(s.RenewID(ctx)) })
		via := []*httptest.ResponseRecorder{attacker, rotated}[i]
		victim := do(m, via, func(ctx context.Context, s *Session) { must(s.Login(ctx, "ann")) })
		for _, old := range []*httptest.ResponseRecorder{attacker, rotated} {
			do(m, old, func(_ context.Context, s *Session) {
				if !s.IsNew() || s.User() != "" {
					t.Errorf("login %s: an old cookie is still good", name)
				}
			})
		}
		do(m, victim, func(_ context.Context, s *Session) {
			if s.User() != "ann" {
				t.Errorf("login %s: user is %q", name, s.User())
			}
		})
	}
}

func TestParallelRotationKeepsEverybody(t *testing.T) { onBoth(t, parallelRotationKeepsEverybody) }

func parallelRotationKeepsEverybody(t *testing.T, open opener) {
	m := open(t)
	nodes := []*Sessions{m, open(t)}
	w := one(m, setNote)
	const requests = 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	var cookies []*httptest.ResponseRecorder
	read := newBarrier(requests)
	for i := range requests {
		wg.Go(func() {
			p := do(nodes[i%2], w, func(ctx context.Context, s *Session) {
				if v, err := noteAttr.Get(ctx); v != "hello" || err != nil {
					t.Errorf("note %q, error %v", v, err)
				}
				read.wait() // all have the old cookie and have read
				must(s.RenewID(ctx))
				must(NewAttribute[int](fmt.Sprint("a", i)).Set(ctx, i))
			})
			if len(p.Result().Cookies()) > 0 {
				mu.Lock()
				cookies = append(cookies, p)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(cookies) != 1 {
		t.Fatalf("%d new cookies: the browser would keep the last, and all but one die soon", len(cookies))
	}
	for name, c := range map[string]*httptest.ResponseRecorder{"old": w, "new": cookies[0]} {
		do(m, c, func(_ context.Context, s *Session) {
			if names, _ := s.Attributes(); len(names) != requests+1 {
				t.Errorf("%s cookie: %d attributes, not %d", name, len(names), requests+1)
			}
		})
	}
}

type barrier struct {
	left chan struct{}
	n    int
	mu   sync.Mutex
}

func newBarrier(n int) *barrier { return &barrier{left: make(chan struct{}), n: n} }

func (b *barrier) wait() {
	b.mu.Lock()
	if b.n--; b.n == 0 {
		close(b.left)
	}
	b.mu.Unlock()
	<-b.left
}

func TestOldIDEndsAfterItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTest(t)
		old := one(m, setNote)
		renewed := do(m, old, func(ctx context.Context, s *Session) { must(s.RenewID(ctx)) })
		time.Sleep(renewGrace - time.Millisecond)
		do(m, old, func(ctx context.Context, s *Session) {
			if s.IsNew() {
				t.Error("the old id ended too soon")
			}
			b := makeIll(m)
			must(s.RenewID(ctx))
			if m.b = b.backend; b.calls.Load() != 0 {
				t.Error("a request that came by the old id renews it again")
			}
		})
		time.Sleep(time.Millisecond)
		do(m, old, func(_ context.Context, s *Session) {
			if !s.IsNew() {
				t.Error("the old id lives on")
			}
		})
		if got := one(m, readNote, with(renewed)).Body.String(); got != "hello" {
			t.Errorf("the new id leads to %q", got)
		}
	})
}

func TestIdleAbsoluteAndOwnTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTest(t, func(c *Config) { c.IdleTimeout = 10 * time.Minute; c.AbsoluteTimeout = time.Hour })
		var expired int
		m.cfg.Hooks.Ended = func(_ context.Context, _, reason string) {
			if reason == "expired" {
				expired++
			}
		}
		start := time.Now()
		w := one(m, setNote)
		for range 6 {
			time.Sleep(9 * time.Minute)
			do(m, w, func(_ context.Context, s *Session) {
				if s.IsNew() || !s.Created().Equal(start) || !s.LastAccess().Equal(time.Now().Add(-9*time.Minute)) {
					t.Errorf("new %v, created %v, last access %v", s.IsNew(), s.Created(), s.LastAccess())
				}
				if left := min(10*time.Minute, time.Hour-time.Since(start)); s.ExpiresIn() != left {
					t.Errorf("expires in %v, not %v", s.ExpiresIn(), left)
				}
			})
		}
		time.Sleep(6 * time.Minute) // an hour since creation, and busy all the time
		do(m, w, func(_ context.Context, s *Session) {
			if !s.IsNew() || s.ExpiresIn() != 0 {
				t.Error("the absolute timeout did not end it")
			}
		})
		own := do(m, nil, func(ctx context.Context, s *Session) {
			must(s.SetIdleTimeout(time.Minute))
			must(noteAttr.Set(ctx, "x"))
		})
		idle := do(m, nil, func(ctx context.Context, s *Session) { must(noteAttr.Set(ctx, "x")) })
		do(m, idle, func(_ context.Context, s *Session) { must(s.SetIdleTimeout(20 * time.Minute)) })
		time.Sleep(time.Minute)
		do(m, own, func(_ context.Context, s *Session) {
			if !s.IsNew() {
				t.Error("the session's own timeout did not hold")
			}
		})
		time.Sleep(18 * time.Minute)
		do(m, idle, func(_ context.Context, s *Session) {
			if s.IsNew() || s.IdleTimeout() != 20*time.Minute {
				t.Error("the longer timeout did not hold")
			}
		})
		if expired == 0 {
			t.Error("nobody was told of the expiry")
		}
	})
}

func TestLoginSurvivesALogoutBesideIt(t *testing.T) { onBoth(t, loginSurvivesALogoutBesideIt) }

func loginSurvivesALogoutBesideIt(t *testing.T, open opener) {
	m := open(t)
	w := one(m, setNote)
	p := do(m, w, func(ctx context.Context, s *Session) {
		_, _ = noteAttr.Get(ctx)
		do(m, w, func(ctx context.Context, s *Session) { must(s.Invalidate(ctx)) })
		must(s.Login(ctx, "ann"))
		if v, _ := noteAttr.Get(ctx); v != "" {
			t.Errorf("the ended session's note %q came along", v)
		}
		if err := s.RenewID(ctx); err != nil {
			t.Error(err)
		}
	})
	do(m, p, func(_ context.Context, s *Session) {
		if s.User() != "ann" {
			t.Errorf("user is %q", s.User())
		}
	})
}

func TestRenewAfterLogoutElsewhereIsErrInvalidated(t *testing.T) {
	onBoth(t, renewAfterLogoutElsewhereIsErrInvalidated)
}

func renewAfterLogoutElsewhereIsErrInvalidated(t *testing.T, open opener) {
	m := open(t)
	w := one(m, setNote)
	do(m, w, func(ctx context.Context, s *Session) {
		_, _ = noteAttr.Get(ctx)
		do(m, w, func(ctx context.Context, s *Session) { must(s.Invalidate(ctx)) })
		if err := s.RenewID(ctx); !errors.Is(err, ErrInvalidated) {
			t.Errorf("RenewID: %v", err)
		}
		if err := noteAttr.Update(ctx, func(v *string) error { *v = "back"; return nil }); !errors.Is(err, ErrInvalidated) {
			t.Errorf("Update: %v", err)
		}
	})
	if m.Stats().Late != 0 {
		t.Error("told twice")
	}
}
