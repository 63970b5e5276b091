package websessions

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// took runs f in a test with a time of its own and returns how long it took.
func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// However many operations a request makes, its visitor waits once.
func TestARequestWaitsOnceInAll(t *testing.T) {
	reads := func(ctx context.Context, s *Session) { s.ID() }
	for name, f := range map[string]struct {
		fail   []string // operations that hang
		begun  bool     // the browser has a session
		handle func(ctx context.Context, s *Session)
		code   int
	}{
		"nothing hangs":       {nil, true, reads, 200},
		"read":                {[]string{"load"}, true, reads, 503},
		"create, twice tried": {[]string{"create"}, false, func(ctx context.Context, s *Session) { must(noteAttr.Set(ctx, "x")); _ = s.Save(ctx) }, 503},
		"commit, twice tried": {[]string{"commit"}, true, func(ctx context.Context, s *Session) { must(noteAttr.Set(ctx, "x")); _ = s.Save(ctx) }, 503},
		"renew, then commit":  {[]string{"renew", "commit"}, true, func(ctx context.Context, s *Session) { must(noteAttr.Set(ctx, "x")); _ = s.RenewID(ctx) }, 503},
		"logout, then commit": {[]string{"invalidate", "commit"}, true, func(ctx context.Context, s *Session) { must(noteAttr.Set(ctx, "x")); _ = s.Invalidate(ctx) }, 503},
		"others' sessions, then": {[]string{"users", "commit"}, true, func(ctx context.Context, s *Session) {
			must(noteAttr.Set(ctx, "x"))
			_, _ = s.m.InvalidateUser(ctx, "ann")
		}, 503},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newTest(t)
				before := one(m, setNote)
				if !f.begun {
					before = nil
				}
				makeIll(m).set(only(errSilent, f.fail...))
				want := DefaultNonStopTimeout
				if f.fail == nil {
					want = 0
				}
				d := took(func() {
					if w := do(m, before, f.handle); w.Code != f.code {
						t.Errorf("status %d, not %d", w.Code, f.code)
					}
				})
				if d != want {
					t.Errorf("the request took %v, not %v", d, want)
				}
			})
		})
	}
}

// A handler that was told that its Update failed may answer what it likes: the
// request's end doesn't try it again.
func TestAFailedFirstUpdateIsNotMadeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTest(t)
		b := makeIll(m)
		b.set(only(errSilent, "create"))
		w := do(m, nil, func(ctx context.Context, s *Session) {
			if err := noteAttr.Update(ctx, func(v *string) error { *v = "x"; return nil }); !errors.Is(err, ErrUnavailable) {
				t.Errorf("Update: %v", err)
			}
			b.set(nil)
		})
		if w.Code != 200 || len(w.Result().Cookies()) > 0 {
			t.Errorf("status %d, cookies %v", w.Code, w.Result().Cookies())
		}
	})
}

// A response that streams for hours has its patience for each trouble anew.
func TestPatienceComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTest(t, func(c *Config) { c.IdleTimeout = -1 })
		before := one(m, setNote)
		b := makeIll(m)
		do(m, before, func(ctx context.Context, s *Session) {
			save := func(value string) time.Duration {
				return took(func() {
					must(noteAttr.Set(ctx, value))
					if err := s.Save(ctx); (err == nil) != (b.fail.Load() == nil) || err != nil && !errors.Is(err, ErrUnavailable) {
						t.Errorf("Save: %v", err)
					}
				})
			}
			b.set(only(errSilent, "commit"))
			for _, step := range []struct{ pause, want time.Duration }{
				{time.Hour, DefaultNonStopTimeout}, // more than the whole it never is
				{0, 0},                             // told at once
				{heal / 2, 0},
				{heal / 2, heal}, // and then as long as has passed since
				{5 * time.Second, 5 * time.Second},
			} {
				time.Sleep(step.pause)
				if d := save("new"); d != step.want {
					t.Errorf("after %v it waited %v, not %v", step.pause, d, step.want)
				}
			}
			b.set(nil)
			time.Sleep(heal)
			save("newer")
			b.set(only(errSilent, "commit"))
			if d := save("newest"); d != heal {
				t.Errorf("after a success it waited %v, not %v", d, heal)
			}
			b.set(nil)
			time.Sleep(heal)
		})
	})
}

// The caller's own context ends an operation, early and late, and what was
// waited counts.
func TestTheCallersContextCounts(t *testing.T) {
	const own = 3 * time.Second
	for name, limited := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, own)
		},
		"cancel": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(own, cancel)
			return ctx, cancel
		},
		"ended before": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.Sleep(own)
			cancel()
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newTest(t)
				before := one(m, setNote)
				b := makeIll(m)
				do(m, before, func(ctx context.Context, s *Session) {
					must(noteAttr.Set(ctx, "x"))
					b.set(only(errSilent, "commit"))
					if d := took(func() {
						ctx, cancel := limited(ctx)
						defer cancel()
						if s.Save(ctx) == nil {
							t.Error("saved")
						}
					}); d != own {
						t.Errorf("the caller waited %v", d)
					}
					rest := DefaultNonStopTimeout - own
					if name == "ended before" {
						rest = DefaultNonStopTimeout
					}
					if d := took(func() { _ = s.Save(ctx) }); d != rest {
						t.Errorf("then %v, not %v", d, rest)
					}
				})
			})
		})
	}
}

// -1 waits until the request ends.
func TestWithoutTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTest(t, func(c *Config) { c.NonStopTimeout = -1 })
		before := one(m, setNote)
		makeIll(m).set(only(errSilent, "load"))
		ctx, cancel := context.WithTimeout(bg, time.Hour)
		defer cancel()
		if d := took(func() {
			one(m, func(_ http.ResponseWriter, r *http.Request) { FromContext(r.Context()).ID() }, with(before),
				func(r *http.Request) { *r = *r.WithContext(ctx) })
		}); d != time.Hour {
			t.Errorf("it took %v", d)
		}
	})
}

// An operation leaves no listener behind, a slow one no timer, and a quick one
// only one that rings soon and does no more.
func TestWaitingEndsClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(bg)
		defer cancel()
		var w waiting
		for range 3 {
			for range 3 {
				w.begin(parent, time.Now().Add(time.Minute))
				w.Done()
				time.Sleep(linger / 4)
				w.end()
			}
			w.begin(parent, time.Now().Add(linger/10)) // the timer that still runs would be late
			if d := took(func() { <-w.Done() }); d != linger/10 {
				t.Fatalf("it ended after %v", d)
			}
			w.end()
			time.Sleep(linger)
			synctest.Wait()
			w.mu.Lock()
			if w.unlisten != nil || !w.rings.IsZero() || w.timer.Stop() {
				t.Fatal("the timer of a quick operation goes on")
			}
			w.mu.Unlock()
		}
		for range 3 {
			w.begin(parent, time.Now().Add(time.Minute))
			first := w.Done()
			time.Sleep(2 * linger) // now it listens
			if w.Err() != nil || w.Done() != first {
				t.Fatal("ended early, or has two ends")
			}
			w.end()
			if w.unlisten != nil || w.timer.Stop() {
				t.Fatal("still waiting")
			}
		}
		w.begin(parent, time.Now().Add(time.Minute))
		cancel()
		<-w.Done()
		if !errors.Is(w.Err(), context.Canceled) {
			t.Fatalf("ended by %v", w.Err())
		}
	})
}
