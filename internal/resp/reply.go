package resp

import (
	"bytes"
	"io"
	"strconv"
)

// maxDepth bounds how deep a reply may nest. Redis' own deepest answers nest five.
const maxDepth = 32

// Reply is one RESP value. Type is its first byte on the wire: + - : $ * _ # , ( ! = % ~ >
// with null always '_', also where RESP2 spells it $-1 or *-1.
type Reply struct {
	Type  byte
	Bytes []byte  // + - $ ! , ( and = with its "txt:" in front
	Int   int64   // : and # (0 or 1)
	Elems []Reply // * ~ > and % (keys and values in turn)
}

// ReadReply reads one reply in memory of its own (small strings within it share
// pieces of 256 bytes). Attributes (|) are skipped.
// Errors are those of ReadCommand, but after any error the Reader is of no
// further use: what was read of the reply is lost.
func (r *Reader) ReadReply() (Reply, error) {
	b := allowance{elems: r.limits.MaxArgs, bytes: r.limits.MaxCommand}
	reply, err := r.reply(&b, 0)
	if err == io.EOF && b.begun {
		err = io.ErrUnexpectedEOF
	}
	return reply, err
}

// allowance is what one reply may still take.
type allowance struct {
	elems, bytes int
	begun        bool   // a byte of the reply has been read
	small        []byte // memory that small strings of one reply share
}

// Small strings within a reply come from one piece of memory: an answer of a
// dozen numbers then costs one allocation, and whoever keeps one of them holds on to
// sharedBytes at most.
const (
	smallBytes  = 48
	sharedBytes = 256
)

// memory returns room for n bytes of a value at depth.
func (b *allowance) memory(n, depth int) []byte {
	if depth == 0 || n > smallBytes {
		return make([]byte, n)
	}
	if len(b.small) < n || b.small == nil { // an empty string is not null
		b.small = make([]byte, sharedBytes)
	}
	s := b.small[:n:n]
	b.small = b.small[n:]
	return s
}

func (b *allowance) take(elems, bytes int) error {
	b.begun = true
	if b.elems -= elems; b.elems < 0 {
		return &ProtocolError{"a reply has more elements than the limit allows"}
	}
	if b.bytes -= bytes; b.bytes < 0 {
		return &ProtocolError{"a reply has more bytes than the limit allows"}
	}
	return nil
}

func (r *Reader) reply(b *allowance, depth int) (Reply, error) {
	for {
		line, err := r.replyLine(b)
		if err != nil {
			return Reply{}, err
		}
		kind, text := line[0], line[1:]
		switch kind {
		case '+', '-', ',', '(':
			return Reply{Type: kind, Bytes: bytes.Clone(text)}, nil
		case ':':
			n, err := strconv.ParseInt(string(text), 10, 64)
			if err != nil {
				return Reply{}, &ProtocolError{"integer is " + strconv.Quote(clip(text))}
			}
			return Reply{Type: ':', Int: n}, nil
		case '#':
			if len(text) != 1 || text[0] != 't' && text[0] != 'f' {
				return Reply{}, &ProtocolError{"boolean is " + strconv.Quote(clip(text))}
			}
			if text[0] == 't' {
				return Reply{Type: '#', Int: 1}, nil
			}
			return Reply{Type: '#'}, nil
		case '_':
			if len(text) != 0 {
				return Reply{}, &ProtocolError{"null is " + strconv.Quote(clip(text))}
			}
			return Reply{Type: '_'}, nil
		case '$', '!', '=':
			return r.replyBulk(b, depth, kind, text)
		case '*', '~', '>', '%':
			return r.replyElems(b, depth, kind, text)
		case '|':
			if _, err := r.replyElems(b, depth, '%', text); err != nil {
				return Reply{}, err
			}
		default:
			return Reply{}, &ProtocolError{"reply starts with " + strconv.Quote(clip(line))}
		}
	}
}

// replyLine consumes one line of at least one byte. It aliases the buffer until the next fill.
func (r *Reader) replyLine(b *allowance) ([]byte, error) {
	for {
		line, ok, err := r.line(maxLine, "reply")
		switch {
		case err != nil:
			return nil, err
		case !ok:
			b.begun = b.begun || r.end > r.start
			if err := r.fill(); err != nil {
				return nil, err
			}
			continue
		case len(line) == 0:
			return nil, &ProtocolError{"reply is an empty line"}
		}
		r.next()
		return line, b.take(1, len(line))
	}
}

func (r *Reader) replyBulk(b *allowance, depth int, kind byte, text []byte) (Reply, error) {
	n, err := length(text, r.limits.MaxBulk, "length of a string")
	if err != nil {
		return Reply{}, err
	}
	if n < 0 {
		return Reply{Type: '_'}, nil
	}
	if err := b.take(0, n); err != nil {
		return Reply{}, err
	}
	s, err := r.body(b, depth, n)
	if err != nil {
		return Reply{}, err
	}
	for r.end-r.start < 2 {
		if err := r.fill(); err != nil {
			return Reply{}, err
		}
	}
	if r.buf[r.start] != '\r' || r.buf[r.start+1] != '\n' {
		return Reply{}, &ProtocolError{"a string is longer than announced"}
	}
	r.start += 2
	return Reply{Type: kind, Bytes: s}, nil
}

// body reads n bytes into memory of their own, which grows with what arrives.
func (r *Reader) body(b *allowance, depth, n int) ([]byte, error) {
	for n < usualBuffer/2 && r.end-r.start < n { // the same read brings what follows
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
	have := min(n, r.end-r.start)
	var s []byte
	if have == n {
		s = b.memory(n, depth)
	} else {
		s = make([]byte, have, min(n, max(have, usualBuffer)))
	}
	copy(s, r.buf[r.start:])
	r.start += have
	for len(s) < n {
		if len(s) == cap(s) {
			more := make([]byte, len(s), min(n, 2*cap(s)))
			copy(more, s)
			s = more
		}
		got, err := io.ReadFull(r.src, s[len(s):cap(s)])
		if s = s[:len(s)+got]; err != nil && got == 0 {
			return nil, err
		}
	}
	return s[:n:n], nil
}

func (r *Reader) replyElems(b *allowance, depth int, kind byte, text []byte) (Reply, error) {
	n, err := length(text, r.limits.MaxArgs, "number of elements")
	if err != nil {
		return Reply{}, err
	}
	if n < 0 {
		return Reply{Type: '_'}, nil
	}
	if depth == maxDepth {
		return Reply{}, &ProtocolError{"reply nests too deep"}
	}
	if kind == '%' {
		n *= 2
	}
	if n > b.elems {
		return Reply{}, b.take(n, 0)
	}
	reply := Reply{Type: kind, Elems: make([]Reply, 0, min(n, 64))}
	for range n {
		e, err := r.reply(b, depth+1)
		if err != nil {
			return Reply{}, err
		}
		reply.Elems = append(reply.Elems, e)
	}
	return reply, nil
}
