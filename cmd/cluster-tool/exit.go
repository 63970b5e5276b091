package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// code is one row of the table of exit codes: scripts decide by Number, people
// read Name.
type code struct {
	Name   string
	Number int
	Means  string
}

// The exit codes. codes lists them in the order of the help and of
// docs/cluster-tool.md.
var (
	codeSuccess        = code{"SUCCESS", 0, "done"}
	codePartial        = code{"PARTIAL_FAILURE", 1, "some of the targets failed"}
	codeFailure        = code{"FAILURE", 2, "all targets failed, or something unexpected happened"}
	codeEULA           = code{"EULA_NOT_ACCEPTED", 10, "in a container, ACCEPT_EULA is not Y"}
	codeConfigured     = code{"ALREADY_CONFIGURED", 28, "configure on a cluster that has another name or licence"}
	codeBadRequest     = code{"BAD_REQUEST", 40, "bad parameters, bad licence, invalid or mismatched configuration, cluster not configured"}
	codeNotFound       = code{"NOT_FOUND", 44, "the thing asked for does not exist"}
	codeSecurity       = code{"HANDSHAKE_OR_SECURITY_ERROR", 48, "TLS or authentication does not match"}
	codeConflict       = code{"CONFLICT", 49, "the cluster has another name, or a server refuses the change"}
	codeInternal       = code{"INTERNAL_ERROR", 50, "a fault of the server"}
	codeNotImplemented = code{"NOT_IMPLEMENTED", 51, "not in this version"}
	codeBadGateway     = code{"BAD_GATEWAY", 52, "no contact point answers"}

	codes = []code{codeSuccess, codePartial, codeFailure, codeEULA, codeConfigured, codeBadRequest, codeNotFound,
		codeSecurity, codeConflict, codeInternal, codeNotImplemented, codeBadGateway}
)

// wireCodes says which exit code a server's refusal becomes. Every word of
// wire.Words has a row: a test walks them.
var wireCodes = map[wire.Word]code{
	wire.ErrGeneric:        codeInternal,
	wire.ErrBadRequest:     codeBadRequest,
	wire.ErrNoAuth:         codeSecurity,
	wire.ErrWrongPass:      codeSecurity,
	wire.ErrUnconfigured:   codeBadRequest,
	wire.ErrConfigured:     codeConfigured,
	wire.ErrConflict:       codeConflict,
	wire.ErrLicense:        codeBadRequest,
	wire.ErrNotActive:      codeBadGateway,
	wire.ErrNoResource:     codeNotFound,
	wire.ErrNoDataset:      codeNotFound,
	wire.ErrOutOfOffheap:   codeConflict,
	wire.ErrTooBig:         codeBadRequest,
	wire.ErrSessionGone:    codeNotFound,
	wire.ErrSessionUnknown: codeNotFound,
	wire.ErrSessionExists:  codeConflict,
	wire.ErrSessionBusy:    codeConflict,
	wire.ErrNotJoined:      codeInternal,
	wire.ErrNodeGone:       codeInternal,
	wire.ErrStale:          codeInternal,
	wire.ErrBusy:           codeBadGateway,
	wire.ErrReadOnly:       codeInternal,
	wire.ErrStopping:       codeBadGateway,
	wire.ErrUnsure:         codeInternal,
	wire.ErrWrongType:      codeConflict,
}

// toolError is a failure as it is shown: a code to exit with, what is wrong and
// what to do about it.
type toolError struct {
	Code    code
	Message string
	Hint    string // or ""
	Cause   error  // or nil; for errors.Is, never shown
}

func (e *toolError) Error() string { return e.Message }
func (e *toolError) Unwrap() error { return e.Cause }

// fail makes a toolError with a message and no hint.
func fail(c code, format string, args ...any) *toolError {
	return &toolError{Code: c, Message: fmt.Sprintf(format, args...)}
}

// hint sets what to do and returns e.
func (e *toolError) hint(format string, args ...any) *toolError {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// asToolError gives every error a code: a toolError has one, a wire error gets
// that of its word, the end of the time or an interruption their own.
func asToolError(err error) *toolError {
	var te *toolError
	var we *wire.Error
	switch {
	case errors.As(err, &te):
		return te
	case errors.As(err, &we):
		return &toolError{Code: wireCodes[we.Word], Message: we.Text, Hint: wireHint(we.Word), Cause: err}
	case errors.Is(err, context.Canceled):
		return &toolError{Code: codeFailure, Message: "interrupted", Cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &toolError{Code: codeBadGateway, Message: "no answer in time",
			Hint: "give it more time with -t MILLISECONDS before the command", Cause: err}
	}
	return &toolError{Code: codeFailure, Message: err.Error(), Cause: err}
}

func wireHint(w wire.Word) string {
	switch w {
	case wire.ErrNoAuth, wire.ErrWrongPass:
		return "set TC_PASSWORD_FILE or TC_PASSWORD to the servers' shared secret"
	case wire.ErrConfigured:
		return "to change a configured cluster is for cluster-tool reconfigure" + comesLater
	case wire.ErrUnconfigured:
		return "configure the cluster first: cluster-tool configure -n NAME -l LICENSE -s HOST"
	case wire.ErrUnsure:
		return "look with cluster-tool status; configure may simply be repeated"
	case wire.ErrReadOnly:
		return "look at the server's log and at the disk behind its data root"
	}
	return ""
}

// report prints err as the last words of a failed command and returns the exit status.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return codeSuccess.Number
	}
	e := asToolError(err)
	// Several faults of the settings come as several lines.
	fmt.Fprintf(stderr, "Error (%s): %s\n", e.Code.Name, printableLines(e.Message))
	if e.Hint != "" {
		fmt.Fprintf(stderr, "Hint: %s\n", printableLines(e.Hint))
	}
	return e.Code.Number
}
