package websessions

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// holdBack is how much of a response is kept until its session is settled.
const holdBack = 64 << 10

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// writer holds a response back until its session is settled, so that the
// header can carry the cookie, an error page can still replace it, and a browser
// that follows a redirect at once meets its own change on any node. A response
// that is flushed or larger than holdBack streams, but its end is kept: the
// chunk that ends it is net/http's after the handler, and of a declared length
// the last byte waits here.
//
// Header changes count until then, a little longer than net/http has it. Like
// every http.ResponseWriter it is for one goroutine at a time.
type writer struct {
	w http.ResponseWriter
	s *Session

	code      int           // what the handler has said, 0 = nothing yet
	buf       *bytes.Buffer // what is held, nil = nothing yet
	streaming bool          // the header has left
	hijacked  bool
	failed    error  // an error page has replaced the response
	remain    int64  // of a declared length while streaming; -1 = not declared
	tail      []byte // the held last byte

	vary [1]string // memory for the header's line
	full fullDress // what dressed returns with net/http below
}

func (w *writer) Header() http.Header { return w.w.Header() }

// Unwrap is for http.ResponseController, which finds deadlines and full duplex
// there. Flush and Hijack it finds here, see dressed.
func (w *writer) Unwrap() http.ResponseWriter { return w.w }

func (w *writer) WriteHeader(code int) {
	switch {
	case w.hijacked || w.failed != nil:
	case code >= 100 && code < 200 && code != http.StatusSwitchingProtocols:
		if !w.streaming { // informational: the response is still to come, and so is its cookie
			w.w.WriteHeader(code)
		}
	case w.code != 0: // only the first one counts, as in net/http
	case code < 100 || code > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %v", code))
	default:
		w.code = code
		if code == http.StatusSwitchingProtocols {
			_ = w.stream()
		}
	}
}

func (w *writer) Write(p []byte) (int, error) {
	return write(w, p, (*bytes.Buffer).Write, w.forward)
}

func (w *writer) WriteString(p string) (int, error) {
	return write(w, p, (*bytes.Buffer).WriteString, func(p string) (int, error) { return w.forward([]byte(p)) })
}

func write[B []byte | string](w *writer, p B, hold func(*bytes.Buffer, B) (int, error), forward func(B) (int, error)) (int, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	if !w.streaming {
		if w.held()+len(p) <= holdBack {
			return hold(w.buffer(), p)
		}
		if err := w.stream(); err != nil {
			return 0, err
		}
	}
	return forward(p)
}

// ready reports why nothing may be written, and makes the status 200 if there is none.
func (w *writer) ready() error {
	switch {
	case w.hijacked:
		return http.ErrHijacked
	case w.failed != nil:
		return w.failed
	case w.code == 0:
		w.code = http.StatusOK
	}
	if !bodyAllowed(w.code) {
		return http.ErrBodyNotAllowed
	}
	return nil
}

func bodyAllowed(code int) bool {
	return code >= 200 && code != http.StatusNoContent && code != http.StatusNotModified
}

func (w *writer) held() int {
	if w.buf == nil {
		return 0
	}
	return w.buf.Len()
}

func (w *writer) buffer() *bytes.Buffer {
	if w.buf == nil {
		w.buf = buffers.Get().(*bytes.Buffer)
	}
	return w.buf
}

// release gives the buffer back at the very end.
func (w *writer) release() {
	if w.buf != nil && w.buf.Cap() <= 2*holdBack {
		w.buf.Reset()
		buffers.Put(w.buf)
	}
	w.buf = nil
}

// stream sends the header and what is held, and from then on holds only the end.
func (w *writer) stream() error {
	if err := w.begin(); err != nil {
		return err
	}
	if w.buf == nil {
		return nil
	}
	_, err := w.forward(w.buf.Bytes())
	w.buf.Reset()
	return err
}

// begin agrees on a new session and sends the header. Where there is no
// agreement the error page takes the response's place.
func (w *writer) begin() error {
	if err := w.header(); err != nil {
		w.page(err)
		return err
	}
	if w.code == 0 {
		w.code = http.StatusOK
	}
	if bodyAllowed(w.code) && w.s.r.Method != http.MethodHead {
		if n, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64); err == nil && n >= 0 {
			w.remain = n
		}
	}
	w.streaming = true
	w.w.WriteHeader(w.code)
	return nil
}

// header puts into the header what the session wants there.
func (w *writer) header() error {
	cookie, used, err := w.s.beforeHeader()
	h := w.Header()
	if used {
		if len(h["Vary"]) > 0 {
			h.Add("Vary", "Cookie")
		} else {
			w.vary[0] = "Cookie"
			h["Vary"] = w.vary[:]
		}
	}
	if cookie != "" {
		h.Add("Set-Cookie", cookie)
		h.Add("Cache-Control", `no-cache="Set-Cookie"`) // nobody else may be served this cookie
	}
	return err
}

// forward writes to the browser, except the byte that would complete a declared length.
func (w *writer) forward(p []byte) (int, error) {
	if w.remain <= 0 || int64(len(p)) < w.remain {
		n, err := w.w.Write(p)
		if w.remain > 0 {
			w.remain -= int64(n)
		}
		return n, err
	}
	n := 0
	if cut := int(w.remain) - 1; cut > 0 {
		var err error
		if n, err = w.w.Write(p[:cut]); err != nil {
			w.remain -= int64(n)
			return n, err
		}
	}
	w.remain = 0
	w.tail = append(w.tail, p[n]) // what follows is too much, and net/http says so when the tail is written
	if len(p) > n+1 {
		return n + 1, http.ErrContentLength
	}
	return n + 1, nil
}

// ReadFrom keeps the way open on which net/http sends files without copying them.
func (w *writer) ReadFrom(src io.Reader) (n int64, err error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	if !w.streaming {
		if w.declared() <= holdBack {
			limited := &io.LimitedReader{R: src, N: int64(holdBack - w.held())}
			n, err = w.buffer().ReadFrom(limited)
			if err != nil || limited.N > 0 {
				return n, err
			}
		}
		if err := w.stream(); err != nil {
			return n, err
		}
	}
	if w.remain < 0 {
		more, err := io.Copy(w.w, src)
		return n + more, err
	}
	if w.remain > 1 {
		// io.Copy must see one LimitedReader around the file, not two.
		part := &io.LimitedReader{R: src, N: w.remain - 1}
		inner, ok := src.(*io.LimitedReader)
		if ok {
			part.R, part.N = inner.R, min(part.N, inner.N)
		}
		more, err := io.Copy(w.w, part)
		if ok {
			inner.N -= more
		}
		n, w.remain = n+more, w.remain-more
		if err != nil || w.remain > 1 {
			return n, err
		}
	}
	more, err := io.Copy(writeOnly{w}, src)
	return n + more, err
}

// writeOnly hides ReadFrom from io.Copy.
type writeOnly struct{ io.Writer }

// declared returns the declared length of the response, 0 = none.
func (w *writer) declared() int64 {
	n, _ := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	return n
}

// finish ends the response after the handler. It reports false where an error
// came too late for an error page.
func (w *writer) finish(err error) bool {
	switch {
	case w.hijacked:
		if err != nil {
			w.s.m.log.Error("the session of a hijacked connection could not be saved", "path", w.s.r.URL.Path, "error", err)
		}
		return true
	case w.failed != nil:
		return true
	case w.streaming:
		if err != nil {
			return false
		}
		if len(w.tail) > 0 {
			_, _ = w.w.Write(w.tail)
		}
		return true
	}
	if e := w.header(); err == nil {
		err = e
	}
	if err != nil {
		w.page(err)
		return true
	}
	if w.code != 0 {
		w.w.WriteHeader(w.code)
	}
	if w.held() > 0 {
		_, _ = w.w.Write(w.buf.Bytes()) // an error here is the browser's: it has gone
	}
	return true
}

// page answers with the error page in place of all that is held: once failed is
// set, nothing of it leaves.
func (w *writer) page(err error) {
	w.failed = fmt.Errorf("the error page was sent: %w", err)
	h := w.Header()
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding", "Content-Range", "Content-Disposition",
		"Accept-Ranges", "Etag", "Last-Modified", "Location", "Cache-Control", "Expires", "Refresh", "Trailer"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	w.s.m.stats.failures.Add(1)
	w.s.m.log.Warn("a request was answered with the error page", "path", w.s.r.URL.Path, "error", err)
	w.s.m.cfg.ErrorPage(w.w, w.s.r, err)
}
