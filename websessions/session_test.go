package websessions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
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

func TestAttributesComeBackTyped(t *testing.T) { onBoth(t, attributesComeBackTyped) }

func attributesComeBackTyped(t *testing.T, open opener) {
	type item struct {
		Name string
		N    int
	}
	attr := NewAttribute[map[string]item]("items")
	m := open(t)
	w := do(m, nil, func(ctx context.Context, s *Session) {
		must(attr.Set(ctx, map[string]item{"a": {"book", 2}}))
		must(s.SetBytes("raw", []byte{0, 1, 2}))
	})
	do(m, w, func(ctx context.Context, s *Session) {
		v, err := attr.Get(ctx)
		must(err)
		raw, err := s.Bytes("raw")
		must(err)
		names, err := s.Attributes()
		must(err)
		if v["a"].N != 2 || string(raw) != "\x00\x01\x02" || !slices.Equal(names, []string{"items", "raw"}) || s.IsNew() {
			t.Errorf("got %v, %v, %v, new %v", v, raw, names, s.IsNew())
		}
		must(attr.Remove(ctx))
		if v, err := attr.Get(ctx); v != nil || err != nil {
			t.Errorf("after Remove: %v, %v", v, err)
		}
	})
	do(m, w, func(_ context.Context, s *Session) {
		if names, _ := s.Attributes(); !slices.Equal(names, []string{"raw"}) {
			t.Errorf("attributes %v", names)
		}
	})
}

func TestMutationOfAValueReadIsNoticed(t *testing.T) { onBoth(t, mutationOfAValueReadIsNoticed) }

func mutationOfAValueReadIsNoticed(t *testing.T, open opener) {
	attr := NewAttribute[map[string]int]("m")
	m := open(t)
	w := do(m, nil, func(ctx context.Context, _ *Session) { must(attr.Set(ctx, map[string]int{"a": 1})) })
	do(m, w, func(ctx context.Context, _ *Session) {
		v, _ := attr.Get(ctx)
		v["b"] = 2
		if again, _ := attr.Get(ctx); again["b"] != 2 {
			t.Error("the request does not see its own change")
		}
	})
	do(m, w, func(ctx context.Context, _ *Session) {
		if v, _ := attr.Get(ctx); v["b"] != 2 {
			t.Errorf("the change in place was lost: %v", v)
		}
		v, _ := attr.Get(ctx)
		v["c"] = 3
		must(attr.Set(ctx, map[string]int{"z": 9})) // wins over the change in place
		v["d"] = 4
	})
	do(m, w, func(ctx context.Context, _ *Session) {
		if v, _ := attr.Get(ctx); len(v) != 1 || v["z"] != 9 {
			t.Errorf("Set did not win: %v", v)
		}
	})
}

func TestValuesAreNeverSharedBetweenRequests(t *testing.T) {
	onBoth(t, valuesAreNeverSharedBetweenRequests)
}

func valuesAreNeverSharedBetweenRequests(t *testing.T, open opener) {
	attr := NewAttribute[map[string]int]("m")
	m := open(t)
	w := do(m, nil, func(ctx context.Context, _ *Session) { must(attr.Set(ctx, map[string]int{"a": 1})) })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			do(m, w, func(ctx context.Context, s *Session) {
				v, _ := attr.Get(ctx)
				for n := range 100 {
					v["a"] = i*1000 + n // the race detector and the runtime watch
				}
				b, _ := s.Bytes("m")
				b[0] = 'X'
			})
		})
	}
	wg.Wait()
}

// spacedJSON writes other bytes for equal values each time, like gob with maps.
type spacedJSON struct{ jsonCodec }

var spaces sync.Map

func (c spacedJSON) Marshal(v any) ([]byte, error) {
	b, err := c.jsonCodec.Marshal(v)
	n, _ := spaces.LoadOrStore("n", new(int))
	*n.(*int)++
	return append(b, strings.Repeat(" ", *n.(*int)%7+1)...), err
}

func TestReadingCommitsNothing(t *testing.T) {
	for name, codec := range map[string]Codec{"json": nil, "not deterministic": spacedJSON{}} {
		m := newTest(t, func(c *Config) { c.Codec = codec })
		w := do(m, nil, func(ctx context.Context, _ *Session) { must(cartAttr.Set(ctx, []string{"a"})) })
		b := makeIll(m)
		b.set(only(errAway, "commit"))
		p := do(m, w, func(ctx context.Context, _ *Session) { _, err := cartAttr.Get(ctx); must(err) })
		if p.Code != 200 || b.calls.Load() != 1 {
			t.Fatalf("%s: status %d after %d calls", name, p.Code, b.calls.Load())
		}
	}
}

// Values survive a deploy: an older program does not know the type, or not the field.
func TestUnknownAttributesStayUntouched(t *testing.T) { onBoth(t, unknownAttributesStayUntouched) }

func unknownAttributesStayUntouched(t *testing.T, open opener) {
	m := open(t)
	w := do(m, nil, func(ctx context.Context, s *Session) {
		must(s.SetBytes("from-another-program", []byte{0xff, 0xfe}))
		must(s.SetBytes("cart", []byte(`{"not":"a list"}`)))
	})
	do(m, w, func(ctx context.Context, _ *Session) {
		if _, err := cartAttr.Get(ctx); err == nil {
			t.Error("a value of another type was decoded")
		}
		must(noteAttr.Set(ctx, "x"))
	})
	do(m, w, func(_ context.Context, s *Session) {
		a, _ := s.Bytes("from-another-program")
		b, _ := s.Bytes("cart")
		if string(a) != "\xff\xfe" || string(b) != `{"not":"a list"}` {
			t.Errorf("got %q and %q", a, b)
		}
	})
}

func TestUpdateIsAtomicOverRequestsNodesAndGoroutines(t *testing.T) {
	onBoth(t, updateIsAtomicOverRequestsNodesAndGoroutines)
}

func updateIsAtomicOverRequestsNodesAndGoroutines(t *testing.T, open opener) {
	attr := NewAttribute[int]("n")
	m := open(t)
	other := open(t)
	w := do(m, nil, func(ctx context.Context, _ *Session) { must(attr.Set(ctx, 0)) })
	const requests, goroutines, rounds = 10, 2, 5
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			node := m
			if i%2 == 1 {
				node = other
			}
			do(node, w, func(ctx context.Context, s *Session) {
				_, _ = attr.Get(ctx) // an old copy must not harm
				var in sync.WaitGroup
				for range goroutines {
					in.Go(func() {
						for range rounds {
							must(attr.Update(ctx, func(n *int) error { *n++; _ = s.ID(); return nil }))
						}
					})
				}
				in.Wait()
			})
		})
	}
	wg.Wait()
	do(m, w, func(ctx context.Context, _ *Session) {
		if n, _ := attr.Get(ctx); n != requests*goroutines*rounds {
			t.Errorf("n is %d, not %d", n, requests*goroutines*rounds)
		}
	})
}

func TestUpdateSeesTheNewestValueEvenWhereItChangesNothing(t *testing.T) {
	onBoth(t, updateSeesTheNewestValueEvenWhereItChangesNothing)
}

func updateSeesTheNewestValueEvenWhereItChangesNothing(t *testing.T, open opener) {
	m := open(t)
	w := do(m, nil, func(ctx context.Context, _ *Session) { must(noteAttr.Set(ctx, "old")) })
	do(m, w, func(ctx context.Context, _ *Session) {
		_, _ = noteAttr.Get(ctx)
		do(m, w, func(ctx context.Context, _ *Session) { must(noteAttr.Set(ctx, "new")) })
		var saw string
		must(noteAttr.Update(ctx, func(v *string) error { saw = *v; return nil }))
		if got, _ := noteAttr.Get(ctx); saw != "new" || got != "new" {
			t.Errorf("Update saw %q, Get after it %q", saw, got)
		}
		stop := errors.New("stop")
		do(m, w, func(ctx context.Context, _ *Session) { must(noteAttr.Set(ctx, "newer")) })
		err := noteAttr.Update(ctx, func(v *string) error { saw = *v; *v = "mine"; return stop })
		if got, _ := noteAttr.Get(ctx); !errors.Is(err, stop) || saw != "newer" || got != "newer" {
			t.Errorf("error %v, saw %q, Get %q", err, saw, got)
		}
	})
}

func TestUpdateTakesWhatTheRequestHasSetBefore(t *testing.T) {
	onBoth(t, updateTakesWhatTheRequestHasSetBefore)
}

func updateTakesWhatTheRequestHasSetBefore(t *testing.T, open opener) {
	m := open(t)
	w := do(m, nil, func(ctx context.Context, _ *Session) { must(noteAttr.Set(ctx, "a")) })
	do(m, w, func(ctx context.Context, _ *Session) {
		must(noteAttr.Set(ctx, "b"))
		must(noteAttr.Update(ctx, func(v *string) error { *v += "c"; return nil }))
		v, _ := noteAttr.Get(ctx)
		must(noteAttr.Set(ctx, v+"d"))
	})
	do(m, w, func(ctx context.Context, _ *Session) {
		if v, _ := noteAttr.Get(ctx); v != "bcd" {
			t.Errorf("note is %q", v)
		}
	})
}

func TestALateChangeIsDroppedCountedLoggedOnceAndTold(t *testing.T) {
	onBoth(t, aLateChangeIsDroppedCountedLoggedOnceAndTold)
}

func aLateChangeIsDroppedCountedLoggedOnceAndTold(t *testing.T, open opener) {
	log := &logCount{want: "dropped"}
	var told []string
	m := open(t, func(c *Config) {
		c.Logger = log.logger()
		c.Hooks.Conflict = func(_ context.Context, _ string, names []string) { told = append(told, names...) }
	})
	w := do(m, nil, func(ctx context.Context, _ *Session) { must(noteAttr.Set(ctx, "0")) })
	for range 3 {
		p := do(m, w, func(ctx context.Context, s *Session) {
			_, _ = noteAttr.Get(ctx)
			do(m, w, func(ctx context.Context, _ *Session) {
				must(noteAttr.Update(ctx, func(v *string) error { *v += "1"; return nil }))
			})
			must(noteAttr.Set(ctx, "late"))
			must(cartAttr.Set(ctx, []string{fmt.Sprint(len(told))})) // different attributes never conflict
		})
		if p.Code != 200 {
			t.Fatalf("status %d", p.Code)
		}
	}
	do(m, w, func(ctx context.Context, _ *Session) {
		note, _ := noteAttr.Get(ctx)
		cart, _ := cartAttr.Get(ctx)
		if note != "0111" || text2(cart) != "2" {
			t.Errorf("note %q, cart %v", note, cart)
		}
	})
	if s := m.Stats(); s.Dropped != 3 || len(told) != 3 || log.n.Load() != 1 {
		t.Fatalf("dropped %d, told %v, logged %d times", s.Dropped, told, log.n.Load())
	}
}

// Update within Update's function, or in a goroutine beside it, has the same ticket.
func TestUpdatesOfOneRequestDoNotOverwriteEachOther(t *testing.T) {
	onBoth(t, updatesOfOneRequestDoNotOverwriteEachOther)
}

func updatesOfOneRequestDoNotOverwriteEachOther(t *testing.T, open opener) {
	m := open(t)
	w := do(m, nil, func(ctx context.Context, _ *Session) { must(noteAttr.Set(ctx, "a")) })
	do(m, w, func(ctx context.Context, s *Session) {
		_, _ = noteAttr.Get(ctx)
		runs := 0
		must(noteAttr.Update(ctx, func(v *string) error {
			if runs++; runs == 1 {
				must(noteAttr.Update(ctx, func(v *string) error { *v += "b"; return nil }))
			}
			*v += "c"
			return nil
		}))
		if v, _ := noteAttr.Get(ctx); v != "abc" || runs != 2 {
			t.Errorf("note %q after %d runs", v, runs)
		}
	})
}

// A value that encodes to what it encoded to before is unchanged, however it was stored.
func TestACacheWithinAValueIsNoChange(t *testing.T) {
	type price struct {
		Cents int
		text  string // what String has worked out
	}
	attr := NewAttribute[*price]("price")
	m := newTest(t)
	w := do(m, nil, func(_ context.Context, s *Session) { must(s.SetBytes("price", []byte(`{ "Cents": 5, "Old": true }`))) })
	b := makeIll(m)
	do(m, w, func(ctx context.Context, _ *Session) {
		p, err := attr.Get(ctx)
		must(err)
		p.text = "0.05"
	})
	if n := b.calls.Load(); n != 1 {
		t.Fatalf("%d calls, not one load", n)
	}
	do(m, w, func(ctx context.Context, _ *Session) { p, _ := attr.Get(ctx); p.Cents = 6 })
	do(m, w, func(ctx context.Context, _ *Session) {
		if p, _ := attr.Get(ctx); p.Cents != 6 {
			t.Errorf("the change was lost: %+v", p)
		}
	})
}

func TestSaveTellsOfAConflict(t *testing.T) { onBoth(t, saveTellsOfAConflict) }

func saveTellsOfAConflict(t *testing.T, open opener) {
	m := open(t)
	w := do(m, nil, func(ctx context.Context, _ *Session) { must(noteAttr.Set(ctx, "0")) })
	do(m, w, func(ctx context.Context, s *Session) {
		must(noteAttr.Set(ctx, "mine"))
		do(m, w, func(ctx context.Context, _ *Session) { must(noteAttr.Set(ctx, "first")) })
		if err := s.Save(ctx); !errors.Is(err, ErrConflict) {
			t.Errorf("error %v", err)
		}
	})
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
