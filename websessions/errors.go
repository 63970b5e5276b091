package websessions

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// The errors that a program can decide by, with errors.Is.
var (
	// ErrUnavailable: the cluster could not be asked, or could not do it now.
	// Trying again later may help; a response with status 503 is right.
	ErrUnavailable = errors.New("session store unavailable")
	// ErrInvalidated: the session has ended meanwhile, by a logout in another
	// request, by expiry or by an operator. Changes to it are void.
	ErrInvalidated = errors.New("session was invalidated")
	// ErrHeadersSent: the response has begun, so that the browser can no longer
	// be given the cookie of a new or renewed session. Call Save, RenewID or
	// Login before the first Flush or the first 64 KiB.
	ErrHeadersSent = errors.New("response has begun: too late for a session cookie")
	// ErrFinished: the session was used after its request's handler had returned.
	ErrFinished = errors.New("session used after its request has ended")
	// ErrConflict: another request changed the same attribute after this one had
	// read it; the other one's change stands. Attribute.Update avoids it.
	ErrConflict = errors.New("another request changed the attribute first")
	// ErrClosed: Sessions.Close was called.
	ErrClosed = errors.New("sessions are closed")
)

// ended reports whether err says that the session is no more, in any of the
// words that the wire has for it.
func ended(err error) bool {
	return wire.Is(err, wire.ErrSessionGone) || wire.Is(err, wire.ErrSessionUnknown)
}

// explain adds to a backend's error what was tried and which of this package's
// errors it is.
func explain(op string, err error) error {
	if err == nil {
		return nil
	}
	var (
		refusal *wire.Error
		away    *client.UnavailableError
	)
	switch {
	case ended(err):
		return fmt.Errorf("%s: %w: %w", op, ErrInvalidated, err)
	case errors.As(err, &away): // whatever a server said meanwhile: none was there to do it
	case errors.As(err, &refusal) && !unavailable(refusal.Word), errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", op, err)
	}
	return fmt.Errorf("%s: %w: %w", op, ErrUnavailable, err)
}

// unavailable tells the refusals that may pass by waiting or by an operator's
// deed from those that this very change will always meet.
func unavailable(w wire.Word) bool {
	switch w {
	case wire.ErrTooBig, wire.ErrBadRequest, wire.ErrGeneric, wire.ErrSessionExists:
		return false
	}
	return true
}

// defaultErrorPage says what the visitor needs to know and nothing else.
func defaultErrorPage(w http.ResponseWriter, _ *http.Request, err error) {
	if errors.Is(err, ErrUnavailable) {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "The session store cannot be reached at the moment. Please try again in a few seconds.",
			http.StatusServiceUnavailable)
		return
	}
	http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
}
