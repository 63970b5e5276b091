// Package resp is the RESP2/RESP3 codec that both ends of port 9410 use. It
// frames bytes and knows no command.
//
// Source: https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md
package resp

import "io"

// Limits bound what a peer may make us hold. Zero fields mean the defaults.
type Limits struct {
	MaxArgs    int // arguments of one command, default 1<<20
	MaxBulk    int // bytes of one argument, default 8 MiB
	MaxCommand int // bytes of one whole command, default 16 MiB
}

// Reader reads commands (server) or replies (client) from one connection. It is
// for one goroutine.
type Reader struct{}

// NewReader returns a Reader.
func NewReader(r io.Reader, limits Limits) *Reader { panic("not built") }

// SetLimits replaces the limits from the next command on, for example after AUTH.
func (r *Reader) SetLimits(l Limits) { panic("not built") }

// ReadCommand reads one command: an array of bulk strings, or an inline command
// (a line of words as typed in telnet). The arguments alias the Reader's buffer
// and are valid until the next ReadCommand. An empty line is skipped.
// A *ProtocolError means the stream is beyond repair: answer it and close.
func (r *Reader) ReadCommand() ([][]byte, error) { panic("not built") }

// Buffered reports whether bytes of a next command have arrived already, so
// that a server can answer many commands with one write.
func (r *Reader) Buffered() bool { panic("not built") }

// ReadReply reads one reply in memory of its own.
func (r *Reader) ReadReply() (Reply, error) { panic("not built") }

// Reply is one RESP value. Type is its first byte on the wire: + - : $ * _ # , ( ! = % ~ >
// with null always '_', also where RESP2 spells it $-1 or *-1.
type Reply struct {
	Type  byte
	Bytes []byte  // + - $ ! = , (
	Int   int64   // : and # (0 or 1)
	Elems []Reply // * ~ > and % (keys and values in turn)
}

// ProtocolError tells of input that is not RESP or above a limit.
type ProtocolError struct{ Text string }

func (e *ProtocolError) Error() string { return "protocol error: " + e.Text }
