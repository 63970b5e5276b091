package websessions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// law is what the store must look like: sessions by names of the test's own,
// with values and the times of their last changes.
type law struct {
	sessions map[string]*lawSession
	clock    int
	made     int
	cookie   *http.Cookie // what the browser holds
	holds    string       // the session that it led to when it was given
}

type lawSession struct{ values, changed map[string]int }

func (k *law) put(s *lawSession, name string, v *int) {
	k.clock++
	s.changed[name] = k.clock
	if v == nil {
		delete(s.values, name)
	} else {
		s.values[name] = *v
	}
}

// overlapping is a request that the test holds between its steps, so that any
// interleaving can be played.
type overlapping struct {
	steps chan func(ctx context.Context, s *Session)
	in    chan struct{}
	done  chan *httptest.ResponseRecorder

	came  string          // session that its cookie led to
	read  bool            // it has looked at its session
	at    int             // when
	alive string          // session that it found; "" = none
	base  map[string]int  // what that held then
	sets  map[string]*int // what it will commit; nil = remove
}

func (k *law) begin(m *Sessions) *overlapping {
	o := &overlapping{steps: make(chan func(context.Context, *Session)), in: make(chan struct{}),
		done: make(chan *httptest.ResponseRecorder, 1), sets: map[string]*int{}, came: k.holds}
	cookie := k.cookie
	go func() {
		o.done <- one(m, func(w http.ResponseWriter, r *http.Request) {
			for f := range o.steps {
				f(r.Context(), FromContext(r.Context()))
				o.in <- struct{}{}
			}
		}, k.sends(cookie))
	}()
	return o
}

func (k *law) sends(cookie *http.Cookie) func(*http.Request) {
	return func(r *http.Request) {
		if cookie != nil {
			r.AddCookie(cookie)
		}
	}
}

// step runs f in the request, which has read its session by then.
func (o *overlapping) step(k *law, f func(ctx context.Context, s *Session)) {
	if !o.read {
		o.read, o.at = true, k.clock
		if s := k.sessions[o.came]; s != nil {
			o.alive, o.base = o.came, maps.Clone(s.values)
		}
	}
	o.steps <- f
	<-o.in
}

// end ends the request and does in the law what it must have done.
func (o *overlapping) end(t *rapid.T, k *law) {
	close(o.steps)
	w := <-o.done
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	s := k.sessions[o.alive]
	something := slices.ContainsFunc(slices.Collect(maps.Values(o.sets)), func(v *int) bool { return v != nil })
	switch {
	case o.alive == "" && something: // a new one in place of none
		k.made++
		o.alive = fmt.Sprint("session ", k.made)
		s = &lawSession{values: map[string]int{}, changed: map[string]int{}}
		k.sessions[o.alive] = s
		for name, v := range o.sets {
			k.put(s, name, v)
		}
	case s != nil:
		for name, v := range o.sets {
			if s.changed[name] <= o.at {
				k.put(s, name, v)
			}
		}
	}
	for _, c := range (&http.Response{Header: w.Header()}).Cookies() {
		k.cookie, k.holds = c, o.alive
		if c.MaxAge < 0 { // the browser forgets whatever it has
			k.cookie, k.holds = nil, ""
		}
	}
}

// check looks through another request.
func (k *law) check(t *rapid.T, m *Sessions) {
	got := map[string]int{}
	w := one(m, func(w http.ResponseWriter, r *http.Request) {
		s := FromContext(r.Context())
		list, err := s.Attributes()
		must(err)
		for _, name := range list {
			b, _ := s.Bytes(name)
			var v int
			must(json.Unmarshal(b, &v))
			got[name] = v
		}
	}, k.sends(k.cookie))
	want := map[string]int{}
	if s := k.sessions[k.holds]; s != nil {
		want = s.values
	}
	if w.Code != 200 || !maps.Equal(got, want) {
		t.Fatalf("the session holds %v, the law says %v", got, want)
	}
}

// TestLawOfOverlappingRequests plays overlapping requests of one browser on two
// nodes against the law: a change is kept unless another request changed the
// same attribute after this one had read, and an ended session stays ended.
func TestLawOfOverlappingRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, err := NewMemory(Config{Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		nodes := []*Sessions{m, newSessions(m.cfg, m.b, m.now)}
		k := &law{sessions: map[string]*lawSession{}}
		var running []*overlapping
		node := func(t *rapid.T) *Sessions { return nodes[rapid.IntRange(0, 1).Draw(t, "node")] }
		name := func(t *rapid.T) string { return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name") }
		pick := func(t *rapid.T) *overlapping {
			if len(running) == 0 {
				t.Skip("no request is running")
			}
			return running[rapid.IntRange(0, len(running)-1).Draw(t, "request")]
		}
		end := func(t *rapid.T, o *overlapping) {
			running = slices.DeleteFunc(running, func(x *overlapping) bool { return x == o })
			o.end(t, k)
		}
		defer func() { // what a failed run leaves
			for _, o := range running {
				close(o.steps)
				<-o.done
			}
		}()
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				if len(running) == 3 {
					t.Skip("enough")
				}
				running = append(running, k.begin(node(t)))
			},
			"get": func(t *rapid.T) {
				n := name(t)
				pick(t).step(k, func(ctx context.Context, s *Session) { _, err := NewAttribute[int](n).Get(ctx); must(err) })
			},
			"set": func(t *rapid.T) {
				o, n := pick(t), name(t)
				v := rapid.IntRange(1, 1<<30).Draw(t, "value")<<8 + k.clock%256 // an equal value would be no change
				o.step(k, func(ctx context.Context, s *Session) { must(NewAttribute[int](n).Set(ctx, v)) })
				o.sets[n] = &v
			},
			"remove": func(t *rapid.T) {
				o, n := pick(t), name(t)
				o.step(k, func(ctx context.Context, s *Session) { must(s.Remove(n)) })
				if _, had := o.base[n]; had {
					o.sets[n] = nil
				} else { // it ends as the request has found it
					delete(o.sets, n)
				}
			},
			"logout": func(t *rapid.T) {
				o := pick(t)
				o.step(k, func(ctx context.Context, s *Session) { must(s.Invalidate(ctx)) })
				delete(k.sessions, o.alive)
				o.alive, o.base, o.sets = "", nil, map[string]*int{}
			},
			"rotate": func(t *rapid.T) {
				o := pick(t)
				var err error
				o.step(k, func(ctx context.Context, s *Session) { err = s.RenewID(ctx) })
				// One that came by an old key has nothing to renew and does not ask.
				if err != nil && (k.sessions[o.alive] != nil || !errors.Is(err, ErrInvalidated)) {
					t.Fatalf("rotation: %v", err)
				}
			},
			"end": func(t *rapid.T) { end(t, pick(t)) },
			"":    func(t *rapid.T) { k.check(t, node(t)) },
		})
		for len(running) > 0 {
			end(t, running[0])
		}
		k.check(t, m)
	})
}
