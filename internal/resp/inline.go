package resp

import "bytes"

// inline parses one line of words. done is false while its end has not arrived.
// Words are unquoted where they lie: they only ever get shorter.
func (r *Reader) inline() (done bool, err error) {
	if r.end-r.start > 1 && r.buf[r.start] == 0x16 && r.buf[r.start+1] == 0x03 {
		// It would wait for an answer for ever; telling helps whoever configured it.
		return false, &ProtocolError{"a TLS handshake has come to a port that speaks plain RESP"}
	}
	rest := r.buf[r.start+r.scan : r.end]
	i := bytes.IndexByte(rest, '\n')
	if i < 0 {
		if r.scan += len(rest); r.scan > min(maxLine, r.limits.MaxCommand) {
			return false, tooBig("line of an inline command", min(maxLine, r.limits.MaxCommand))
		}
		return false, nil
	}
	r.pos = r.scan + i + 1
	if r.pos > min(maxLine, r.limits.MaxCommand) {
		return false, tooBig("line of an inline command", min(maxLine, r.limits.MaxCommand))
	}
	line := bytes.TrimSuffix(r.buf[r.start:r.start+r.scan+i], []byte{'\r'})
	for at := 0; ; {
		for at < len(line) && isSpace(line[at]) {
			at++
		}
		if at == len(line) {
			break
		}
		if len(r.spans) == r.limits.MaxArgs {
			return false, tooBig("number of arguments", r.limits.MaxArgs)
		}
		from, to, next := unquote(line, at)
		if next < 0 {
			return false, &ProtocolError{"unbalanced quotes in an inline command"}
		}
		if to-from > r.limits.MaxBulk {
			return false, tooBig("length of an argument", r.limits.MaxBulk)
		}
		r.spans = append(r.spans, span{uint32(from), uint32(to)})
		at = next
	}
	if len(r.spans) == 0 {
		r.next()
		return true, nil
	}
	r.want, r.ready = len(r.spans), true
	return true, nil
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r' || c == 0
}

// unquote reads the word that starts at line[at] and leaves its bytes in
// line[from:to]. next is where the search for the following word starts, -1 when
// a quote is not closed or is followed by anything but a space.
//
// The rules are those of redis-cli: "..." knows \n \r \t \b \a \xHH and \ before any
// other character; '...' knows only \'. A quote may open within a word.
func unquote(line []byte, at int) (from, to, next int) {
	from, to = at, at
	put := func(c byte) { line[to] = c; to++ }
	var quote byte
	for ; at < len(line); at++ {
		c := line[at]
		switch {
		case quote == 0 && isSpace(c):
			return from, to, at
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			if at+1 < len(line) && !isSpace(line[at+1]) {
				return 0, 0, -1
			}
			return from, to, at + 1
		case quote == '"' && c == '\\' && at+3 < len(line) && line[at+1] == 'x' && isHex(line[at+2]) && isHex(line[at+3]):
			put(hex(line[at+2])<<4 | hex(line[at+3]))
			at += 3
		case quote == '"' && c == '\\' && at+1 < len(line):
			at++
			put(escaped(line[at]))
		case quote == '\'' && c == '\\' && at+1 < len(line) && line[at+1] == '\'':
			at++
			put('\'')
		default:
			put(c)
		}
	}
	if quote != 0 {
		return 0, 0, -1
	}
	return from, to, at
}

func escaped(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}
