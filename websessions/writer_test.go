package websessions

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// server starts one handler behind m.
func server(t testing.TB, m *Sessions, h http.HandlerFunc) string {
	return serve(t, m, map[string]http.HandlerFunc{"/": h})
}

func TestCookieComesWithFlush(t *testing.T) {
	m := newTest(t)
	step := make(chan struct{})
	url := server(t, m, func(w http.ResponseWriter, r *http.Request) {
		setNote(w, r)
		fmt.Fprint(w, "begun")
		w.(http.Flusher).Flush()
		<-step
		must(noteAttr.Set(r.Context(), "after the flush")) // an existing session still takes changes
		fmt.Fprint(w, " and ended")
	})
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if len(resp.Cookies()) != 1 {
		t.Fatalf("cookies %q came with the flushed header", resp.Header["Set-Cookie"])
	}
	close(step)
	body, err := io.ReadAll(resp.Body)
	if string(body) != "begun and ended" || err != nil {
		t.Fatalf("body %q, error %v", body, err)
	}
	// The body has ended, so the change must be there.
	w := httptest.NewRecorder()
	w.Header()["Set-Cookie"] = resp.Header["Set-Cookie"]
	if got := one(m, readNote, with(w)).Body.String(); got != "after the flush" {
		t.Fatalf("note is %q", got)
	}
}

func TestCookieComesAfterEarlyHints(t *testing.T) {
	m := newTest(t)
	url := server(t, m, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		setNote(w, r) // not too late: the response has not begun
		w.WriteHeader(http.StatusCreated)
	})
	var hint textproto.MIMEHeader
	ctx := httptrace.WithClientTrace(bg, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hint = h
		return nil
	}})
	req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 201 || len(resp.Cookies()) != 1 || hint.Get("Link") == "" || hint.Get("Set-Cookie") != "" {
		t.Fatalf("status %d, cookies %v, hint %v", resp.StatusCode, resp.Cookies(), hint)
	}
}

func TestTooLateForACookieIsLoud(t *testing.T) {
	for name, begin := range map[string]func(w http.ResponseWriter){
		"flushed": func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"large":   func(w http.ResponseWriter) { fmt.Fprint(w, strings.Repeat("x", holdBack+1)) },
	} {
		log := &logCount{want: "response has begun"}
		m := newTest(t, func(c *Config) { c.Logger = log.logger() })
		b := makeIll(m)
		one(m, func(w http.ResponseWriter, r *http.Request) {
			begin(w)
			s := FromContext(r.Context())
			for deed, err := range map[string]error{
				"Set": noteAttr.Set(r.Context(), "x"), "Save": s.Save(r.Context()), "Login": s.Login(r.Context(), "ann"),
				"Update": cartAttr.Update(r.Context(), func(c *[]string) error { *c = []string{"x"}; return nil }),
			} {
				if !errors.Is(err, ErrHeadersSent) {
					t.Errorf("%s, %s: %v", name, deed, err)
				}
			}
		})
		if log.n.Load() == 0 || b.calls.Load() != 0 {
			t.Errorf("%s: %d log lines, %d calls", name, log.n.Load(), b.calls.Load())
		}
		w := one(m, setNote)
		do(m, w, func(ctx context.Context, s *Session) {})
		one(m, func(w http.ResponseWriter, r *http.Request) {
			begin(w)
			if err := FromContext(r.Context()).RenewID(r.Context()); !errors.Is(err, ErrHeadersSent) {
				t.Errorf("%s, RenewID: %v", name, err)
			}
		}, with(w))
	}
}

func TestABodyJustBelowTheBoundIsHeld(t *testing.T) {
	w := one(newTest(t), func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", holdBack))
		setNote(w, r)
	})
	if len(w.Result().Cookies()) != 1 || w.Body.Len() != holdBack {
		t.Fatalf("%d cookies, %d bytes", len(w.Result().Cookies()), w.Body.Len())
	}
}

func TestFlushDoesNotSendAHeaderWithoutItsSession(t *testing.T) {
	m := newTest(t)
	makeIll(m).set(only(errAway, "create"))
	w := one(m, func(w http.ResponseWriter, r *http.Request) {
		setNote(w, r)
		fmt.Fprint(w, "begun")
		if err := http.NewResponseController(w).Flush(); err == nil {
			t.Error("Flush succeeded")
		}
		if _, err := fmt.Fprint(w, "more"); err == nil {
			t.Error("Write succeeded after the error page")
		}
	})
	if w.Code != 503 || strings.Contains(w.Body.String(), "begun") || strings.Contains(w.Body.String(), "more") {
		t.Fatalf("status %d, body %q", w.Code, w.Body)
	}
}

// A browser must not take a streamed response for whole when its session was not saved.
func TestAStreamedResponseIsCutOffWhenItsSessionCannotBeSaved(t *testing.T) {
	for name, begin := range map[string]func(w http.ResponseWriter){
		"chunked": func(w http.ResponseWriter) { fmt.Fprint(w, "part"); w.(http.Flusher).Flush() },
		"of declared length": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "4")
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "full")
			w.(http.Flusher).Flush()
		},
		"of declared length, large": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", fmt.Sprint(3*holdBack))
			_, _ = io.Copy(w, strings.NewReader(strings.Repeat("x", 3*holdBack)))
		},
	} {
		m := newTest(t)
		b := makeIll(m)
		url := server(t, m, func(w http.ResponseWriter, r *http.Request) {
			setNote(w, r)
			begin(w)
			b.set(only(errAway, "commit"))
			must(noteAttr.Set(r.Context(), "never"))
		})
		if p := newBrowser(t).get(url); p.err == nil {
			t.Errorf("%s: the browser has taken %d bytes of status %d for a whole response", name, len(p.body), p.code)
		}
		if m.Stats().Failures != 1 {
			t.Errorf("%s: %d failures counted", name, m.Stats().Failures)
		}
	}
}

func TestHijack(t *testing.T) {
	m := newTest(t)
	before := one(m, setNote)
	hijacked := make(chan error, 1)
	url := server(t, m, func(w http.ResponseWriter, r *http.Request) {
		must(noteAttr.Set(r.Context(), "changed before"))
		c, rw, err := w.(http.Hijacker).Hijack()
		hijacked <- err
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntaken")
		rw.Flush()
		if _, err := w.Write(nil); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("Write after Hijack: %v", err)
		}
	})
	req, _ := http.NewRequest("GET", url, nil)
	with(before)(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || <-hijacked != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if got := one(m, readNote, with(before)).Body.String(); string(body) != "taken" || got != "changed before" {
		t.Fatalf("body %q, note %q", body, got)
	}
	// A new session would lose its cookie.
	p := newBrowser(t).get(url)
	if err := <-hijacked; !errors.Is(err, ErrHeadersSent) || p.code != 500 {
		t.Fatalf("hijack with a new session: %v, status %d", err, p.code)
	}
}

func TestSwitchingProtocolsCarriesTheCookie(t *testing.T) {
	m := newTest(t)
	url := server(t, m, func(w http.ResponseWriter, r *http.Request) {
		setNote(w, r)
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, _, err := http.NewResponseController(w).Hijack()
		must(err)
		c.Close()
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 101 || len(resp.Cookies()) != 1 {
		t.Fatalf("response %+v, error %v", resp, err)
	}
}

func TestFilesAreServedWhole(t *testing.T) {
	m := newTest(t)
	for _, size := range []int{0, 1, holdBack - 1, holdBack, holdBack + 1, 5*holdBack + 3} {
		want := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		name := filepath.Join(t.TempDir(), "file.bin")
		if err := os.WriteFile(name, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		file := server(t, m, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
		copied := server(t, m, func(w http.ResponseWriter, r *http.Request) {
			f, err := os.Open(name)
			must(err)
			defer f.Close()
			n, err := io.Copy(w, f)
			must(err)
			if int(n) != size {
				t.Errorf("copied %d of %d bytes", n, size)
			}
		})
		for _, url := range []string{file, copied} {
			if got := newBrowser(t).ok(url); got != want {
				t.Fatalf("%d bytes came, not %d", len(got), size)
			}
		}
		if size > 10 {
			req, _ := http.NewRequest("GET", file, nil)
			req.Header.Set("Range", fmt.Sprintf("bytes=3-%d", size-2))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != want[3:size-1] || err != nil || resp.StatusCode != 206 {
				t.Fatalf("range: %d bytes, status %d, error %v", len(body), resp.StatusCode, err)
			}
		}
		head, err := http.Head(file)
		if err != nil || head.ContentLength != int64(size) {
			t.Fatalf("HEAD: length %d, error %v", head.ContentLength, err)
		}
	}
}

func TestStatusesWithoutBody(t *testing.T) {
	for _, code := range []int{204, 304} {
		m := newTest(t)
		url := server(t, m, func(w http.ResponseWriter, r *http.Request) {
			setNote(w, r)
			w.WriteHeader(code)
			if _, err := fmt.Fprint(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Errorf("%d: Write: %v", code, err)
			}
		})
		if p := newBrowser(t).get(url); p.code != code || p.header.Get("Set-Cookie") == "" {
			t.Errorf("status %d, error %v", p.code, p.err)
		}
	}
}

func TestTrailersArrive(t *testing.T) {
	m := newTest(t)
	url := server(t, m, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		fmt.Fprint(w, strings.Repeat("x", 2*holdBack))
		w.Header().Set("Sum", "42")
	})
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.Trailer.Get("Sum") != "42" {
		t.Fatalf("trailer %v", resp.Trailer)
	}
}

type plainWriter struct{ w http.ResponseWriter }

func (p plainWriter) Header() http.Header         { return p.w.Header() }
func (p plainWriter) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p plainWriter) WriteHeader(code int)        { p.w.WriteHeader(code) }

type wrapped struct{ plainWriter }

func (p wrapped) Unwrap() http.ResponseWriter { return p.w }

func TestTheWriterPromisesOnlyWhatIsThere(t *testing.T) {
	m := newTest(t)
	ask := func(dress func(http.ResponseWriter) http.ResponseWriter, ask func(w http.ResponseWriter)) {
		h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { ask(w) }))
		h.ServeHTTP(dress(httptest.NewRecorder()), httptest.NewRequest("GET", "/", nil))
	}
	ask(func(w http.ResponseWriter) http.ResponseWriter { return plainWriter{w} }, func(w http.ResponseWriter) {
		if _, ok := w.(http.Flusher); ok {
			t.Error("promises Flush where nothing can flush")
		}
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Flush: %v", err)
		}
	})
	ask(func(w http.ResponseWriter) http.ResponseWriter { return w }, func(w http.ResponseWriter) {
		if _, ok := w.(http.Hijacker); ok {
			t.Error("promises Hijack on a recorder")
		}
	})
	// What is found by Unwrap must not go round the held response and its cookie.
	rec := httptest.NewRecorder()
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setNote(w, r)
		fmt.Fprint(w, "x")
		must(http.NewResponseController(w).Flush())
	}))
	h.ServeHTTP(wrapped{plainWriter{rec}}, httptest.NewRequest("GET", "/", nil))
	if !rec.Flushed || len(rec.Result().Cookies()) != 1 || rec.Body.String() != "x" {
		t.Errorf("flushed %v, cookies %v, body %q", rec.Flushed, rec.Result().Cookies(), rec.Body)
	}
}

func TestDeadlinesReachTheConnection(t *testing.T) {
	url := server(t, newTest(t), func(w http.ResponseWriter, r *http.Request) {
		must(http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)))
	})
	newBrowser(t).ok(url)
}

func TestCachesAreToldOfCookies(t *testing.T) {
	m := newTest(t)
	w := one(m, func(w http.ResponseWriter, r *http.Request) {
		setNote(w, r)
		w.Header().Set("Cache-Control", "max-age=60")
	})
	if cc := strings.Join(w.Result().Header["Cache-Control"], ", "); !strings.Contains(cc, `no-cache="Set-Cookie"`) {
		t.Errorf("Cache-Control %q", cc)
	}
	if w := one(m, readNote, with(w)); w.Result().Header.Get("Vary") != "Cookie" {
		t.Error("no Vary")
	}
	if w := one(m, func(w http.ResponseWriter, r *http.Request) {}); w.Result().Header.Get("Vary") != "" {
		t.Error("Vary without use")
	}
}

func TestHTTP2(t *testing.T) {
	m := newTest(t)
	srv := httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setNote(w, r)
		_, pushes := w.(http.Pusher)
		_, hijacks := w.(http.Hijacker)
		fmt.Fprint(w, r.Proto, pushes, hijacks)
		w.(http.Flusher).Flush()
	})))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if string(body) != "HTTP/2.0true false" {
		t.Fatalf("body %q", body)
	}
	if c := resp.Cookies(); len(c) != 1 || c[0].Name != "__Host-TCSESSION" {
		t.Fatalf("cookies %v", c)
	}
}
