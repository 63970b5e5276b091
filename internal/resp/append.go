package resp

import "strconv"

// The Append functions append one value in wire form and return the longer
// slice, as the built-in append does. Those whose form depends on the protocol
// take proto, 2 or 3, as HELLO has set it.

// AppendArrayHeader starts an array; n values follow.
func AppendArrayHeader(dst []byte, n int) []byte { return appendHeader(dst, '*', n) }

// AppendMapHeader starts a map; n keys and n values follow in turn. RESP2 knows
// no maps and gets an array of 2n.
func AppendMapHeader(dst []byte, proto, n int) []byte {
	if proto < 3 {
		return appendHeader(dst, '*', 2*n)
	}
	return appendHeader(dst, '%', n)
}

// AppendSetHeader starts a set; n values follow. RESP2 gets an array.
func AppendSetHeader(dst []byte, proto, n int) []byte {
	if proto < 3 {
		return appendHeader(dst, '*', n)
	}
	return appendHeader(dst, '~', n)
}

// AppendPushHeader starts a message that answers no command; n values follow.
// RESP2 gets an array, which its clients expect only after SUBSCRIBE.
func AppendPushHeader(dst []byte, proto, n int) []byte {
	if proto < 3 {
		return appendHeader(dst, '*', n)
	}
	return appendHeader(dst, '>', n)
}

func appendHeader(dst []byte, kind byte, n int) []byte {
	switch { // most are short
	case uint(n) < 10:
		return append(dst, kind, '0'+byte(n), '\r', '\n')
	case uint(n) < 100:
		return append(dst, kind, '0'+byte(n/10), '0'+byte(n%10), '\r', '\n')
	}
	dst = append(dst, kind)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

// AppendBulk appends b as a bulk string. A nil b is an empty string, not null.
func AppendBulk(dst, b []byte) []byte {
	dst = appendHeader(dst, '$', len(b))
	dst = append(dst, b...)
	return append(dst, '\r', '\n')
}

// AppendBulkString is AppendBulk of a string.
func AppendBulkString(dst []byte, s string) []byte {
	dst = appendHeader(dst, '$', len(s))
	dst = append(dst, s...)
	return append(dst, '\r', '\n')
}

// AppendSimple appends s as a simple string. CR and LF in it become spaces.
func AppendSimple(dst []byte, s string) []byte { return appendLine(dst, '+', s) }

// AppendError appends an error; text starts with its word. CR and LF in it
// become spaces, so that no text can forge a second reply.
func AppendError(dst []byte, text string) []byte { return appendLine(dst, '-', text) }

func appendLine(dst []byte, kind byte, s string) []byte {
	dst = append(dst, kind)
	for i := range len(s) {
		c := s[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		dst = append(dst, c)
	}
	return append(dst, '\r', '\n')
}

// AppendInt appends an integer.
func AppendInt(dst []byte, n int64) []byte {
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, '\r', '\n')
}

// AppendNull appends null; RESP2 gets the null bulk string.
func AppendNull(dst []byte, proto int) []byte {
	if proto < 3 {
		return append(dst, "$-1\r\n"...)
	}
	return append(dst, "_\r\n"...)
}

// AppendVerbatim appends text for people, such as the answer to INFO; RESP2
// gets a bulk string. The format "txt" is the one that redis-cli prints raw.
func AppendVerbatim(dst []byte, proto int, text string) []byte {
	if proto < 3 {
		return AppendBulkString(dst, text)
	}
	dst = appendHeader(dst, '=', len(text)+4)
	dst = append(append(dst, "txt:"...), text...)
	return append(dst, '\r', '\n')
}

// AppendCommand appends a command: an array of bulk strings.
func AppendCommand(dst []byte, args ...[]byte) []byte {
	dst = appendHeader(dst, '*', len(args))
	for _, a := range args {
		dst = AppendBulk(dst, a)
	}
	return dst
}

// AppendReply appends what ReadReply read, in the form of RESP3: the other half
// of the law that a codec keeps.
func AppendReply(dst []byte, r Reply) []byte {
	switch r.Type {
	case '+', '-', ',', '(':
		dst = append(append(dst, r.Type), r.Bytes...)
		return append(dst, '\r', '\n')
	case '$', '!', '=':
		dst = appendHeader(dst, r.Type, len(r.Bytes))
		dst = append(dst, r.Bytes...)
		return append(dst, '\r', '\n')
	case ':':
		return AppendInt(dst, r.Int)
	case '#':
		if r.Int == 0 {
			return append(dst, "#f\r\n"...)
		}
		return append(dst, "#t\r\n"...)
	case '*', '~', '>', '%':
		n := len(r.Elems)
		if r.Type == '%' {
			n /= 2
		}
		dst = appendHeader(dst, r.Type, n)
		for _, e := range r.Elems {
			dst = AppendReply(dst, e)
		}
		return dst
	}
	return AppendNull(dst, 3)
}
