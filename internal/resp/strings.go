package resp

import "io"

// ReadStrings reads a reply that is an array of strings and appends them to dst.
// They share one piece of memory, so that an answer of many parts costs one
// allocation, and whoever keeps one of them keeps all. Short answers, such as those
// to changes, share a piece of 1 KiB with their neighbours.
//
// ok is false, and nothing has been consumed, where the next reply is something
// else, or so large that its memory must grow with what arrives: ReadReply reads
// it. With wait false, ok is false also where the reply has not arrived whole.
func (r *Reader) ReadStrings(dst [][]byte, wait bool) (list [][]byte, ok bool, err error) {
	for {
		whole, other := r.strings()
		switch {
		case other:
			r.again()
			return dst, false, nil
		case whole:
			return r.cut(dst), true, nil
		case !wait:
			return dst, false, nil
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && r.end > r.start {
				err = io.ErrUnexpectedEOF
			}
			return dst, false, err // what has arrived stays where it is
		}
	}
}

// StringsIn is ReadStrings for bytes that somebody else has read: it returns how many
// of them the reply takes, 0 where it is not whole or something else. A Reader that is
// used so is used for nothing else.
func (r *Reader) StringsIn(b []byte, dst [][]byte) (list [][]byte, n int) {
	r.buf, r.start, r.end = b, 0, len(b)
	if whole, _ := r.strings(); whole {
		dst = r.cut(dst)
		n = r.start
	} else {
		r.again()
	}
	r.buf, r.start, r.end = nil, 0, 0
	return dst, n
}

// strings parses an array of strings, which has the form of a command, as far
// as it has arrived. It reports whether it is whole, or whether something else comes.
func (r *Reader) strings() (whole, other bool) {
	if r.want == 0 {
		switch have := r.buf[r.start:r.end]; {
		case len(have) == 0:
			return false, false
		case have[0] != '*':
			return false, true
		case len(have) == 1:
			return false, false
		case have[1] < '1' || have[1] > '9': // empty, or null
			return false, true
		}
	}
	whole, err := r.parse()
	if err != nil { // an element that is no string, or a real fault: ReadReply will say
		return false, true
	}
	return whole, !whole && r.pos+max(r.bulk, 0) > usualBuffer/2
}

// again forgets what was parsed of the next value, and consumes nothing.
func (r *Reader) again() {
	r.pos = 0
	r.next()
}

// cut appends copies of the strings that were parsed, and moves on.
func (r *Reader) cut(dst [][]byte) [][]byte {
	first, last := r.spans[0].from, r.spans[len(r.spans)-1].to
	own := r.clone(r.buf[r.start+int(first) : r.start+int(last)])
	for _, s := range r.spans {
		dst = append(dst, own[s.from-first:s.to-first:s.to-first])
	}
	r.next()
	return dst
}

// An answer of up to shortAnswer bytes is copied into a piece of shortPiece bytes
// that it shares with others.
const (
	shortAnswer = 64
	shortPiece  = 1 << 10
)

// clone returns a copy of b that nobody changes.
func (r *Reader) clone(b []byte) []byte {
	if len(b) == 0 || len(b) > shortAnswer {
		own := make([]byte, len(b)) // not cleared first, as bytes.Clone's is not, and no larger
		copy(own, b)
		return own
	}
	if len(r.short) < len(b) {
		r.short = make([]byte, shortPiece)
	}
	own := r.short[:len(b)]
	r.short = r.short[len(b):]
	copy(own, b)
	return own
}
