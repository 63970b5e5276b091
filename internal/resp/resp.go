// Package resp is the RESP2/RESP3 codec that both ends of port 9410 use. It
// frames bytes and knows no command.
//
// The one idea: memory is taken for bytes that have arrived, never for bytes
// that were announced, and every number a peer sends meets a limit first. So a
// header of ten bytes cannot cost eight megabytes.
//
// It does not speak the streamed types of RESP3 ($?, *?), which no server sends
// unasked.
//
//	r := resp.NewReader(conn, resp.Limits{})
//	args, err := r.ReadCommand()
//	out = resp.AppendBulk(out, args[1])
//	if !r.Buffered() { conn.Write(out) }
//
// Source: https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md
package resp

import (
	"bytes"
	"io"
	"strconv"
)

// The defaults of Limits.
const (
	DefaultMaxArgs    = 1 << 20
	DefaultMaxBulk    = 8 << 20
	DefaultMaxCommand = 16 << 20
)

// Limits bound what a peer may make us hold. Zero fields mean the defaults. For
// replies they bound one whole reply: its elements, its longest string, its bytes.
type Limits struct {
	MaxArgs    int // arguments of one command, default 1<<20
	MaxBulk    int // bytes of one argument, default 8 MiB
	MaxCommand int // bytes of one whole command, default 16 MiB, at most 1 GiB
}

func (l Limits) withDefaults() Limits {
	if l.MaxArgs <= 0 {
		l.MaxArgs = DefaultMaxArgs
	}
	if l.MaxBulk <= 0 {
		l.MaxBulk = DefaultMaxBulk
	}
	if l.MaxCommand <= 0 {
		l.MaxCommand = DefaultMaxCommand
	}
	l.MaxCommand = min(l.MaxCommand, 1<<30) // spans are 32 bits wide
	return l
}

// ProtocolError tells of input that is not RESP or above a limit.
type ProtocolError struct{ Text string }

func (e *ProtocolError) Error() string { return "protocol error: " + e.Text }

const (
	firstBuffer = 4 << 10  // of a connection that has said nothing yet
	usualBuffer = 64 << 10 // of a busy one; only a larger command makes it grow further
	maxLine     = 64 << 10 // an inline command, a simple string
	maxHeader   = 32       // "*1048576\r\n" and the like
	keepSpans   = 1 << 10  // arguments for which memory is kept between commands
	calmAfter   = 32       // commands of usual size after which a large buffer is given back
)

// span is one argument, counted from the start of its command, so that it
// survives a move of the buffer.
type span struct{ from, to uint32 }

// Reader reads commands (server) or replies (client) from one connection. It is
// for one goroutine.
type Reader struct {
	src    io.Reader
	limits Limits

	buf        []byte
	start, end int  // what has arrived and is not consumed: buf[start:end]
	filled     bool // the last read filled the buffer: more would have come
	budget     *Budget
	calm       int // commands of usual size since the buffer was last needed whole

	// The command being parsed. All offsets count from start.
	pos   int    // parsed so far
	scan  int    // searched for a line end so far
	want  int    // arguments announced, 0 = before the header
	bulk  int    // length of the argument that comes next, -1 = before its header
	ready bool   // parsed whole
	spans []span // arguments parsed

	args [][]byte // handed out by the last ReadCommand

	short []byte // what is left of the piece that short answers share, see ReadStrings
}

// NewReader returns a Reader.
func NewReader(r io.Reader, limits Limits) *Reader {
	return &Reader{src: r, limits: limits.withDefaults(), bulk: -1}
}

// SetLimits replaces the limits from the next command on, for example after AUTH.
func (r *Reader) SetLimits(l Limits) { r.limits = l.withDefaults() }

// ReadCommand reads one command: an array of bulk strings, or an inline command
// (a line of words as typed in telnet, quoted as in redis-cli). The arguments
// alias the Reader's buffer and are valid until the next ReadCommand. Empty
// lines and empty arrays are skipped.
//
// A *ProtocolError means the stream is beyond repair: answer it and close. At
// the end of the stream the error is io.EOF between commands and
// io.ErrUnexpectedEOF within one. After an error of the connection that may pass,
// such as a timeout, ReadCommand may be called again and loses nothing.
func (r *Reader) ReadCommand() ([][]byte, error) {
	for {
		done, err := r.parse()
		if err != nil {
			return nil, err
		}
		if done {
			return r.take(), nil
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && (r.end > r.start || r.want > 0) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// Buffered reports whether ReadCommand would return without waiting for the
// connection, so that a server can answer many commands with one write. Half a
// command does not count: whoever sent it may be waiting for answers first.
func (r *Reader) Buffered() bool {
	done, err := r.parse()
	return done || err != nil
}

// Pending returns how many bytes have been read and are not consumed.
func (r *Reader) Pending() int { return r.end - r.start }

// take hands out the parsed command and gets ready for the next.
func (r *Reader) take() [][]byte {
	cmd := r.buf[r.start : r.start+r.pos : r.start+r.pos]
	if cap(r.args) > keepSpans && len(r.spans) <= keepSpans {
		r.args = nil
	}
	r.args = r.args[:0]
	for _, s := range r.spans {
		r.args = append(r.args, cmd[s.from:s.to:s.to])
	}
	if cap(r.spans) > keepSpans {
		r.spans = nil
	}
	if r.pos <= usualBuffer {
		r.calm++
	} else {
		r.calm = 0
	}
	r.next()
	return r.args
}

// next moves on behind what was parsed.
func (r *Reader) next() {
	r.start += r.pos
	r.pos, r.scan, r.want, r.bulk, r.ready = 0, 0, 0, -1, false
	r.spans = r.spans[:0]
}

// parse goes on parsing with what has arrived, and reports whether the command
// is whole. It never looks twice at a byte and never moves the buffer.
func (r *Reader) parse() (bool, error) {
	for !r.ready {
		if r.want == 0 {
			if r.start+r.pos == r.end {
				return false, nil
			}
			if r.buf[r.start] != '*' {
				if done, err := r.inline(); !done || err != nil {
					return false, err
				}
				continue
			}
			n, ok, err := r.header('*', r.limits.MaxArgs, "number of arguments")
			if !ok || err != nil {
				return false, err
			}
			if n <= 0 { // an empty array, or the null one: nothing to answer
				r.next()
				continue
			}
			r.want = n
		}
		if done, err := r.bulks(); !done || err != nil {
			return false, err
		}
		r.ready = true
	}
	return true, nil
}

// bulks parses the arguments of an array.
func (r *Reader) bulks() (bool, error) {
	for len(r.spans) < r.want {
		if r.bulk < 0 {
			n, ok, err := r.header('$', r.limits.MaxBulk, "length of an argument")
			if !ok || err != nil {
				return false, err
			}
			if n < 0 {
				return false, &ProtocolError{"an argument is null"}
			}
			if r.pos+n+2 > r.limits.MaxCommand {
				return false, tooBig("length of the command", r.limits.MaxCommand)
			}
			r.bulk = n
		}
		from := r.start + r.pos
		to := from + r.bulk
		if r.end < to+2 {
			return false, nil
		}
		if r.buf[to] != '\r' || r.buf[to+1] != '\n' {
			return false, &ProtocolError{"an argument is longer than announced"}
		}
		r.spans = append(r.spans, span{uint32(r.pos), uint32(r.pos + r.bulk)})
		r.pos += r.bulk + 2
		r.scan = r.pos
		r.bulk = -1
	}
	return true, nil
}

// header parses "*3\r\n" or "$5\r\n"; ok is false while it has not arrived whole.
func (r *Reader) header(kind byte, most int, what string) (n int, ok bool, err error) {
	if n, size := number(r.buf[r.start+r.pos:r.end], kind); size > 0 && n <= most {
		r.pos += size
		r.scan = r.pos
		return n, true, nil
	}
	line, ok, err := r.line(maxHeader, what)
	if !ok || err != nil {
		return 0, false, err
	}
	if len(line) < 2 || line[0] != kind {
		return 0, false, &ProtocolError{"expected " + strconv.Quote(string(kind)) + ", got " + strconv.Quote(clip(line))}
	}
	n, err = length(line[1:], most, what)
	return n, err == nil, err
}

// number parses a header that is usual: kind, few digits, CR LF, all there. It
// returns the header's size, 0 where it is another one.
func number(b []byte, kind byte) (n, size int) {
	if len(b) < 4 || b[0] != kind {
		return 0, 0
	}
	i := 1
	for ; i < min(len(b), 8) && b[i]-'0' <= 9; i++ {
		n = n*10 + int(b[i]-'0')
	}
	if i == 1 || i+1 >= len(b) || b[i] != '\r' || b[i+1] != '\n' {
		return 0, 0
	}
	return n, i + 2
}

// line returns the next line without its end and moves behind it; ok is false
// while its end has not arrived.
func (r *Reader) line(most int, what string) (line []byte, ok bool, err error) {
	rest := r.buf[r.start+r.scan : r.end]
	i := bytes.IndexByte(rest, '\n')
	arrived := i
	if i < 0 {
		arrived = len(rest)
	}
	if r.scan-r.pos+arrived > most {
		return nil, false, tooBig("line with the "+what, most)
	}
	if i < 0 {
		r.scan += arrived
		return nil, false, nil
	}
	line = r.buf[r.start+r.pos : r.start+r.scan+i]
	r.pos = r.scan + i + 1
	r.scan = r.pos
	if len(line) == 0 || line[len(line)-1] != '\r' {
		return nil, false, &ProtocolError{"line with the " + what + " does not end with CR LF"}
	}
	return line[:len(line)-1], true, nil
}

// length parses a decimal number, -1 for null, and holds it against its limit.
func length(b []byte, most int, what string) (int, error) {
	if string(b) == "-1" {
		return -1, nil
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, &ProtocolError{what + " is " + strconv.Quote(clip(b)) + ", not a number"}
		}
		if n = n*10 + int(c-'0'); n > most {
			return 0, tooBig(what, most)
		}
	}
	if len(b) == 0 {
		return 0, &ProtocolError{what + " is empty"}
	}
	return n, nil
}

func tooBig(what string, most int) *ProtocolError {
	return &ProtocolError{what + " is above the limit of " + strconv.Itoa(most)}
}

// clip shortens what a peer sent before it goes into an error text.
func clip(b []byte) string { return string(b[:min(len(b), 32)]) }

// fill reads once more from the connection. It may move the buffer, so
// arguments handed out before are no longer valid.
func (r *Reader) fill() error {
	if err := r.makeRoom(); err != nil {
		return err
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.end:])
		r.filled = n == len(r.buf)-r.end
		r.end += n
		if n > 0 {
			return nil // an error will come again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// makeRoom makes space behind end: by moving to the front what is not
// consumed, and by growing when one command, or one burst of small ones, needs more.
func (r *Reader) makeRoom() error {
	size := len(r.buf)
	held := r.end - r.start
	if held == 0 {
		r.start, r.end = 0, 0
	}
	switch {
	case size == 0:
		size = firstBuffer
	case held == 0 && size > firstBuffer && r.budget.crowded():
		size = firstBuffer
	case held == 0 && size > usualBuffer && (r.calm >= calmAfter || r.budget.scarce()):
		size = usualBuffer
	case r.filled && size < usualBuffer && !r.budget.crowded(), size-held < r.least(size):
		size = r.larger(size, held)
	case size-r.end >= r.least(size):
		return nil
	}
	if size != len(r.buf) {
		if !r.budget.resize(len(r.buf), size) {
			return ErrBudget
		}
		next := make([]byte, size)
		copy(next, r.buf[r.start:r.end])
		r.buf = next
	} else if r.start > 0 {
		copy(r.buf, r.buf[r.start:r.end])
	}
	r.start, r.end = 0, held
	return nil
}

// least is the room below which a buffer of size bytes is moved or grows.
func (r *Reader) least(size int) int {
	if size <= usualBuffer && r.budget.crowded() {
		return size / 16
	}
	return size / 4
}

// larger returns the size that follows: the double, but no more than the largest
// command and a usual buffer take.
func (r *Reader) larger(size, held int) int {
	most := r.limits.MaxCommand + usualBuffer
	if 2*size > most && most-held >= usualBuffer/4 {
		return max(size, most)
	}
	return 2 * size
}
