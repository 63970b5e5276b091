package wire

import (
	"errors"
	"strings"
)

// Word is the first word of an error reply: what a program decides by. The
// rest of the line is for people.
type Word string

// The error words. Words lists them all with what a caller may do.
const (
	ErrGeneric        Word = "ERR"            // not one of the others
	ErrBadRequest     Word = "BADREQUEST"     // the command's arguments are wrong
	ErrNoAuth         Word = "NOAUTH"         // AUTH first
	ErrWrongPass      Word = "WRONGPASS"      // AUTH with another password
	ErrUnconfigured   Word = "UNCONFIGURED"   // run cluster-tool configure
	ErrConfigured     Word = "CONFIGURED"     // already configured with another name or licence
	ErrConflict       Word = "CONFLICT"       // contradicts what the cluster already has
	ErrLicense        Word = "LICENSE"        // the licence does not verify, or does not allow it
	ErrNotActive      Word = "NOTACTIVE"      // ask the server that the text names
	ErrNoResource     Word = "NORESOURCE"     // no such off-heap resource or data directory
	ErrNoDataset      Word = "NODATASET"      // open the dataset first
	ErrOutOfOffheap   Word = "OUTOFOFFHEAP"   // does not fit; nothing was changed
	ErrTooBig         Word = "TOOBIG"         // a value above the limit
	ErrSessionGone    Word = "SESSIONGONE"    // ended; the second word says how
	ErrSessionUnknown Word = "SESSIONUNKNOWN" // no such session and no trace of one
	ErrSessionExists  Word = "SESSIONEXISTS"  // create of a key that is taken
	ErrSessionBusy    Word = "SESSIONBUSY"    // locked by another request for too long
	ErrNotJoined      Word = "NOTJOINED"      // TC.JOIN first
	ErrNodeGone       Word = "NODEGONE"       // this node was removed: start a new one
	ErrStale          Word = "STALE"          // a connection or number that a newer one replaced
	ErrBusy           Word = "BUSY"           // too much at once: try again
	ErrReadOnly       Word = "READONLYDISK"   // the data root cannot be written
	ErrStopping       Word = "STOPPING"       // this server is going down
	ErrUnsure         Word = "UNSURE"         // cannot tell whether the change was made
	ErrWrongType      Word = "WRONGTYPE"      // a Redis command for a string met a hash, or the other way round
)

// Words tells of each error word what it means, for docs/protocol.md and for
// the test that walks the table there and back. Retry says whether the same
// command may be sent again, unchanged, with hope.
var Words = []struct {
	Word  Word
	Retry bool
	Means string
}{
	{ErrGeneric, false, "unknown command or anything without a word of its own"},
	{ErrBadRequest, false, "the arguments of the command are wrong; the text says which"},
	{ErrNoAuth, false, "the server wants a password: AUTH or HELLO 3 AUTH first"},
	{ErrWrongPass, false, "the password is not this cluster's"},
	{ErrUnconfigured, true, "the cluster is not configured yet: run cluster-tool configure"},
	{ErrConfigured, false, "the cluster is configured already, with another name or licence"},
	{ErrConflict, false, "contradicts what the cluster already has; the text says what"},
	{ErrLicense, false, "the licence does not verify or does not allow this"},
	{ErrNotActive, true, "this server is not the active one; the text names it where known"},
	{ErrNoResource, false, "no off-heap resource or data directory of that name"},
	{ErrNoDataset, false, "no such dataset: TC.OPEN it first"},
	{ErrOutOfOffheap, false, "the off-heap resource is full; nothing was changed"},
	{ErrTooBig, false, "a value or command is above the limit; nothing was changed"},
	{ErrSessionGone, false, "the session has ended; the second word says how: logout, expired, renewed or another reason"},
	{ErrSessionUnknown, false, "no session has this key"},
	{ErrSessionExists, false, "a session with this key exists"},
	{ErrSessionBusy, true, "another request holds the session's lock for too long"},
	{ErrNotJoined, false, "session commands need TC.JOIN on this connection"},
	{ErrNodeGone, false, "the cluster has given this node up; it must come back under a new id"},
	{ErrStale, false, "a newer connection of this node, or a newer number, has replaced this one"},
	{ErrBusy, true, "too many requests at once"},
	{ErrReadOnly, true, "the server cannot write its data root"},
	{ErrStopping, true, "the server is shutting down"},
	{ErrUnsure, true, "it is not known whether the change was made; a repeat with the same number is safe"},
	{ErrWrongType, false, "a Redis command for a string met a hash, or the other way round"},
}

// Error is a refusal as it stands on the wire: "WORD text".
type Error struct {
	Word Word
	Text string
}

// Error returns the wire form without the leading minus.
func (e *Error) Error() string {
	if e.Text == "" {
		return string(e.Word)
	}
	return string(e.Word) + " " + e.Text
}

// ParseError splits an error reply into word and text. A line whose first word
// is not in Words becomes ErrGeneric with the whole line as its text.
func ParseError(line string) *Error {
	word, text, _ := strings.Cut(line, " ")
	for _, w := range Words {
		if string(w.Word) == word {
			return &Error{Word: w.Word, Text: text}
		}
	}
	return &Error{Word: ErrGeneric, Text: line}
}

// Is reports whether err is, or wraps, a wire error with this word.
func Is(err error, w Word) bool {
	var e *Error
	return errors.As(err, &e) && e.Word == w
}

// Retryable reports whether the same command may be sent again with hope.
func (w Word) Retryable() bool {
	for _, row := range Words {
		if row.Word == w {
			return row.Retry
		}
	}
	return false
}
