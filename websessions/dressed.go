package websessions

import (
	"bufio"
	"net"
	"net/http"
)

func (w *writer) flush() error {
	switch {
	case w.hijacked:
		return http.ErrHijacked
	case w.failed != nil:
		return w.failed
	case !w.streaming:
		if w.code == 0 {
			w.code = http.StatusOK
		}
		if err := w.stream(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.w).Flush()
}

// hijack hands the connection over, see beforeHijack.
func (w *writer) hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.failed != nil {
		return nil, nil, w.failed
	}
	cookie, err := w.s.beforeHijack()
	if err != nil {
		return nil, nil, err
	}
	c, rw, err := http.NewResponseController(w.w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.hijacked = true
	w.s.headerSent()
	if cookie != "" {
		w.Header().Add("Set-Cookie", cookie)
	}
	return c, rw, nil
}

// supports reports whether the writer, or one that it wraps, is an I.
func supports[I any](w http.ResponseWriter) (I, bool) {
	for {
		if i, ok := w.(I); ok {
			return i, true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			var none I
			return none, false
		}
		w = u.Unwrap()
	}
}

type flushing struct{ w *writer }

func (f flushing) Flush()            { _ = f.w.flush() }
func (f flushing) FlushError() error { return f.w.flush() }

type hijacking struct{ w *writer }

func (h hijacking) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.w.hijack() }

// fullDress is what net/http's own writer allows over HTTP/1.
type fullDress struct {
	*writer
	flushing
	hijacking
}

// dressed returns the writer with those of Flusher, Hijacker and Pusher that
// hold for what is below: handlers ask for them by type assertion.
func (w *writer) dressed() http.ResponseWriter {
	_, flush := supports[http.Flusher](w.w)
	if !flush {
		_, flush = supports[interface{ FlushError() error }](w.w)
	}
	_, hijack := supports[http.Hijacker](w.w)
	push, pushes := supports[http.Pusher](w.w)
	f, h := flushing{w}, hijacking{w}
	switch {
	case flush && hijack && pushes:
		return struct {
			*writer
			flushing
			hijacking
			http.Pusher
		}{w, f, h, push}
	case flush && hijack:
		w.full = fullDress{w, f, h}
		return &w.full
	case flush && pushes:
		return struct {
			*writer
			flushing
			http.Pusher
		}{w, f, push}
	case hijack && pushes:
		return struct {
			*writer
			hijacking
			http.Pusher
		}{w, h, push}
	case flush:
		return struct {
			*writer
			flushing
		}{w, f}
	case hijack:
		return struct {
			*writer
			hijacking
		}{w, h}
	case pushes:
		return struct {
			*writer
			http.Pusher
		}{w, push}
	}
	return w
}
