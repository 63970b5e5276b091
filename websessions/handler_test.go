package websessions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// On a store error scs prints the page after the error page.
func TestErrorPageInPlaceOfTheResponseNeverBoth(t *testing.T) {
	for _, op := range []string{"create", "commit"} {
		m := newTest(t)
		before := one(m, setNote)
		b := makeIll(m)
		b.set(only(errAway, op))
		cookies := func(*http.Request) {}
		if op == "commit" {
			cookies = with(before)
		}
		w := one(m, func(w http.ResponseWriter, r *http.Request) {
			must(noteAttr.Set(r.Context(), "new"))
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Content-Length", "14")
			w.Header().Set("Location", "/done")
			w.Header().Set("Etag", `"1"`)
			w.WriteHeader(http.StatusSeeOther)
			fmt.Fprint(w, "<p>All saved.</p>")
		}, cookies)
		h := w.Result().Header
		if w.Code != 503 || strings.Contains(w.Body.String(), "saved.<") || h.Get("Retry-After") == "" || h.Get("Location") != "" ||
			h.Get("Etag") != "" || h.Get("Set-Cookie") != "" || h.Get("Cache-Control") != "no-store" || h.Get("Content-Length") == "14" {
			t.Fatalf("%s: status %d, header %v, body %q", op, w.Code, h, w.Body)
		}
	}
}

func TestErrorPageOfOnesOwn(t *testing.T) {
	m := newTest(t, func(c *Config) {
		c.ErrorPage = func(w http.ResponseWriter, r *http.Request, err error) {
			w.WriteHeader(599)
			fmt.Fprint(w, errors.Is(err, ErrUnavailable))
		}
	})
	makeIll(m).set(only(errAway, "create"))
	if w := one(m, setNote); w.Code != 599 || w.Body.String() != "true" {
		t.Fatalf("status %d, body %q", w.Code, w.Body)
	}
}

func TestAValueThatIsTooBigIsNotAnOutage(t *testing.T) {
	m := newTest(t)
	makeIll(m).set(only(refuse("TOOBIG", "a value"), "create"))
	if w := one(m, setNote); w.Code != 500 || w.Header().Get("Retry-After") != "" {
		t.Fatalf("status %d", w.Code)
	}
}

func TestRedirectFollowedAtOnceSeesItsChangeOnTheOtherNode(t *testing.T) {
	m := newTest(t)
	other := server(t, newSessions(m.cfg, m.b, m.now), readNote)
	url := server(t, m, func(w http.ResponseWriter, r *http.Request) {
		must(noteAttr.Set(r.Context(), r.FormValue("v")))
		http.Redirect(w, r, other, http.StatusSeeOther)
	})
	b := newBrowser(t)
	b.c.CheckRedirect = nil
	for i := range 20 {
		if got := b.ok(fmt.Sprint(url, "?v=", i)); got != fmt.Sprint(i) {
			t.Fatalf("round %d shows %q", i, got)
		}
	}
}

func TestAPanicDropsChangesAndResponse(t *testing.T) {
	m := newTest(t)
	w := one(m, setNote)
	func() {
		defer func() {
			if p := recover(); p != "oops" {
				t.Errorf("panic %v", p)
			}
		}()
		one(m, func(w http.ResponseWriter, r *http.Request) {
			must(noteAttr.Set(r.Context(), "half"))
			fmt.Fprint(w, "half")
			panic("oops")
		}, with(w))
	}()
	if got := one(m, readNote, with(w)).Body.String(); got != "hello" {
		t.Fatalf("note is %q", got)
	}
	url := server(t, m, func(w http.ResponseWriter, r *http.Request) { setNote(w, r); panic(http.ErrAbortHandler) })
	if p := newBrowser(t).get(url); p.err == nil {
		t.Fatalf("status %d", p.code)
	}
	if err := m.Close(bg); err != nil {
		t.Fatalf("a panicked request still counts as running: %v", err)
	}
}

func TestTimeoutHandlerInside(t *testing.T) {
	m := newTest(t)
	late := make(chan error, 1)
	h := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := FromContext(r.Context())
		<-r.Context().Done()
		for { // the outer request ends at some time after the timeout
			if err := s.SetBytes("x", nil); err != nil {
				late <- err
				return
			}
		}
	}), time.Millisecond, "too slow")
	if p := newBrowser(t).get(server(t, m, h.ServeHTTP)); p.code != 503 || p.body != "too slow" {
		t.Fatalf("status %d, body %q", p.code, p.body)
	}
	if err := <-late; !errors.Is(err, ErrFinished) && !errors.Is(err, context.Canceled) {
		t.Fatalf("late use: %v", err)
	}
}

func TestWaitingIsBoundedAndAnswers503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTest(t)
		before := one(m, setNote)
		makeIll(m).set(only(errSilent, "load"))
		start := time.Now()
		// Handlers that look at the error decide themselves, others get the page.
		w := do(m, before, func(_ context.Context, s *Session) { s.ID(); s.User() })
		if w.Code != 503 || time.Since(start) != DefaultNonStopTimeout {
			t.Errorf("status %d after %v", w.Code, time.Since(start))
		}
		w = do(m, before, func(ctx context.Context, s *Session) {
			if _, err := noteAttr.Get(ctx); !errors.Is(err, ErrUnavailable) {
				t.Errorf("Get: %v", err)
			}
		})
		if w.Code != 200 {
			t.Errorf("status %d although the handler has seen the error", w.Code)
		}
	})
}

// The browser goes away while its purchase is being made.
func TestChangesAreMadeWhenTheBrowserHasGone(t *testing.T) {
	m := newTest(t)
	before := one(m, setNote)
	makeIll(m) // heeds contexts, which memory does not
	ctx, leave := context.WithCancel(bg)
	one(m, func(w http.ResponseWriter, r *http.Request) {
		must(noteAttr.Set(r.Context(), "bought"))
		leave()
	}, with(before), func(r *http.Request) { *r = *r.WithContext(ctx) })
	if got := one(m, readNote, with(before)).Body.String(); got != "bought" {
		t.Fatalf("note is %q", got)
	}
}

func TestCloseWaitsForRunningRequests(t *testing.T) {
	m := newTest(t)
	in, out, closed := make(chan struct{}), make(chan struct{}), make(chan error)
	done := make(chan *httptest.ResponseRecorder)
	go func() {
		done <- one(m, func(w http.ResponseWriter, r *http.Request) { close(in); <-out; setNote(w, r) })
	}()
	<-in
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if err := m.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Close: %v", err)
	}
	if w := one(m, setNote); w.Code != 503 {
		t.Fatalf("status %d while closing", w.Code)
	}
	go func() { closed <- m.Close(bg) }()
	close(out)
	if w := <-done; w.Code != 200 || len(w.Result().Cookies()) != 1 {
		t.Fatalf("the running request: status %d", w.Code)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}

func TestNestedHandlersAreOne(t *testing.T) {
	m := newTest(t)
	h := m.Handler(m.Handler(http.HandlerFunc(setNote)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if len(w.Result().Cookies()) != 1 {
		t.Fatalf("%d cookies", len(w.Result().Cookies()))
	}
}

func TestFromContextOutsidePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	FromContext(bg)
}

func TestNothingSecretIsLogged(t *testing.T) {
	var out bytes.Buffer
	m := newTest(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	const value = "the-value-of-an-attribute"
	w := do(m, nil, func(ctx context.Context, s *Session) { must(noteAttr.Set(ctx, value)) })
	token := cookieOf(t, w).Value
	b := makeIll(m)
	overlap := func(beside func(ctx context.Context, s *Session)) {
		do(m, w, func(ctx context.Context, s *Session) {
			must(noteAttr.Set(ctx, value+"1"))
			do(m, w, beside)
		})
	}
	overlap(func(ctx context.Context, s *Session) { must(noteAttr.Set(ctx, value+"2")) }) // a conflict
	b.set(only(errAway, "commit"))
	overlap(func(ctx context.Context, s *Session) {}) // the error page
	b.set(nil)
	one(m, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		_ = noteAttr.Set(r.Context(), value) // too late
	})
	overlap(func(ctx context.Context, s *Session) { must(s.Invalidate(ctx)) }) // changes after the end
	for _, want := range []string{"plain HTTP", "dropped", "error page", "has begun", "after the end"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log does not tell of %q:\n%s", want, &out)
		}
	}
	for what, secret := range map[string]string{"value": value, "token": token[4:20], "id": keyOf(token)[4:]} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log shows the %s:\n%s", what, &out)
		}
	}
}
