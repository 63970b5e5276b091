package client

import (
	"context"
	"errors"
	"strings"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// ErrUnsure is wrapped by an error after which nobody can say whether the
// change was made. It is also a *wire.Error with the word UNSURE.
var ErrUnsure error = &wire.Error{Word: wire.ErrUnsure, Text: "it is not known whether the change was made"}

// ErrClosed is what calls get once Close has been called.
var ErrClosed = errors.New("client is closed")

// errNoAnswer stands where a server took a command and had not answered it yet.
var errNoAnswer = errors.New("no answer yet")

// errHungUp is io.EOF in words for people.
var errHungUp = errors.New("the server closed the connection")

// errConnecting stands where a server has not been reached yet.
var errConnecting = errors.New("no connection yet")

// errNewNode ends a change whose number went with the node id that it belonged to.
var errNewNode = errors.New("the cluster gave this node up before it answered")

// errRetired ends the reading of a connection that has given its last answer.
var errRetired = errors.New("connection is no longer of use")

// Attempt tells how a server was tried and why that was not enough.
type Attempt struct {
	Server string // host:port
	Err    error
}

// UnavailableError tells why a call was given up. It wraps the last reason of
// each server tried, Cause, and ErrUnsure where Unsure is set.
type UnavailableError struct {
	Command string    // such as TC.LOAD
	Servers []Attempt // what was tried last, empty where the command was not sent at all
	Cause   error     // the context's error, or nil where no server will ever do, as with a wrong password
	Unsure  bool      // the command was sent; it may or may not have been carried out
}

// Error names each server tried and why it failed.
func (e *UnavailableError) Error() string {
	var b strings.Builder
	b.WriteString(e.Command)
	for i, a := range e.Servers {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		b.WriteString(a.Server + ": " + a.Err.Error())
	}
	if len(e.Servers) == 0 {
		b.WriteString(": not sent")
	}
	switch {
	case errors.Is(e.Cause, context.DeadlineExceeded): // in words for people
		b.WriteString(" (gave up waiting)")
	case e.Cause != nil:
		b.WriteString(" (" + e.Cause.Error() + ")")
	}
	if e.Unsure {
		b.WriteString("; " + ErrUnsure.(*wire.Error).Text)
	}
	if h := e.hint(); h != "" {
		b.WriteString("; hint: " + h)
	}
	return b.String()
}

const notOurs = "is that the port of a Terracotta server? Its default is 9410"

// hint says what a person can do, where the servers' own texts do not.
func (e *UnavailableError) hint() string {
	for _, a := range e.Servers {
		var p *resp.ProtocolError
		if errors.As(a.Err, &p) {
			return notOurs
		}
		var w *wire.Error
		if !errors.As(a.Err, &w) {
			continue
		}
		switch w.Word {
		case wire.ErrUnconfigured:
			if !strings.Contains(w.Text, "cluster-tool configure") {
				return "run cluster-tool configure once for this cluster"
			}
		case wire.ErrNoAuth, wire.ErrWrongPass:
			return "give this program the password that the servers have in TC_PASSWORD_FILE"
		case wire.ErrGeneric:
			return notOurs
		}
	}
	return ""
}

// Unwrap returns all that the error stands for.
func (e *UnavailableError) Unwrap() []error {
	var list []error
	if e.Cause != nil {
		list = append(list, e.Cause)
	}
	if e.Unsure {
		list = append(list, ErrUnsure)
	}
	for i := len(e.Servers) - 1; i >= 0; i-- {
		list = append(list, e.Servers[i].Err)
	}
	return list
}
