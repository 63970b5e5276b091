package websessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

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
