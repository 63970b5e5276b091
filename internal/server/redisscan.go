package server

import (
	"strconv"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

const (
	maxScanCount = 10_000  // keys that one SCAN looks at
	maxPattern   = 1 << 10 // as long as a key
	scanSteps    = 1 << 22 // of matching in one SCAN, about ten milliseconds
	scanPage     = 100     // keys that are looked at between two looks at the steps
)

// redisScan answers SCAN. COUNT bounds how many keys are looked at, not how many are answered.
func (c *conn) redisScan(args [][]byte) {
	cursor, err := strconv.ParseUint(string(args[0]), 10, 64)
	if err != nil {
		c.refuse(wire.ErrGeneric, "invalid cursor")
		return
	}
	count, fault := 10, ""
	var pattern, kind []byte
	matching, typed := false, false
	for rest := args[1:]; len(rest) > 0; rest = rest[2:] {
		switch {
		case len(rest) < 2:
			fault = syntaxError
		case is(rest[0], "MATCH"):
			pattern, matching = rest[1], true
			if len(pattern) > maxPattern {
				fault = "a pattern has at most " + strconv.Itoa(maxPattern) + " bytes"
			}
		case is(rest[0], "TYPE"):
			kind, typed = rest[1], true
		case is(rest[0], "COUNT"):
			n, ok := parseInteger(rest[1])
			switch {
			case !ok:
				fault = notInteger
			case n < 1:
				fault = syntaxError
			}
			count = int(min(n, maxScanCount))
		default:
			fault = syntaxError
		}
		if fault != "" {
			c.refuse(wire.ErrGeneric, fault)
			return
		}
	}
	wanted := func(k *store.ScannedKey) bool {
		return !typed || is(kind, "HASH") && k.Hash || is(kind, "STRING") && !k.Hash
	}
	c.fromMemory(func(now store.Time) error {
		var found [][]byte
		for steps := scanSteps; count > 0 && steps > 0; count -= scanPage {
			keys, next, err := c.srv.store.RedisScan(now, cursor, min(count, scanPage))
			if err != nil {
				return err
			}
			for i := range keys {
				k := &keys[i]
				if wanted(k) && (!matching || matchGlob(pattern, k.Key, &steps)) {
					found = append(found, k.Key)
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
		c.inline = resp.AppendArrayHeader(c.inline, 2)
		c.inline = resp.AppendBulk(c.inline, strconv.AppendUint(nil, cursor, 10))
		c.inline = appendList(c.inline, found)
		return nil
	})
}

func (c *conn) redisSize([][]byte) {
	c.fromMemory(func(store.Time) error {
		n, err := c.srv.store.RedisSize()
		if err != nil {
			return err
		}
		c.inline = resp.AppendInt(c.inline, int64(n))
		return nil
	})
}

// matchGlob reports whether s matches pattern as Redis's MATCH does: * stands for any bytes, ? for
// one, [abc], [a-z] and [^a] for one of a class, and a backslash takes the next byte as it is.
// A mismatch goes back to the last * only, so that the steps are at most the product of
// the lengths. They are counted down in steps.
func matchGlob(pattern, s []byte, steps *int) bool {
	p, i := 0, 0
	star, from := -1, 0 // where to go on with when a byte does not match
	for i < len(s) || p < len(pattern) {
		*steps--
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, from = p, i
				p++
				continue
			}
			if i < len(s) {
				if ok, width := matchOne(pattern[p:], s[i]); ok {
					p += width
					i++
					continue
				}
			}
		}
		if star < 0 || from >= len(s) {
			return false
		}
		from++
		p, i = star+1, from
	}
	return true
}

// matchOne reports whether the first element of pattern, which is no *, matches b, and how long it is.
func matchOne(pattern []byte, b byte) (ok bool, width int) {
	switch pattern[0] {
	case '?':
		return true, 1
	case '\\':
		if len(pattern) > 1 {
			return pattern[1] == b, 2
		}
	case '[':
		return matchClass(pattern, b)
	}
	return pattern[0] == b, 1
}

// matchClass matches a class; one that does not end goes to the pattern's end.
func matchClass(pattern []byte, b byte) (ok bool, width int) {
	i := 1
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			ok = ok || pattern[i] == b
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := min(pattern[i], pattern[i+2]), max(pattern[i], pattern[i+2])
			ok = ok || low <= b && b <= high
			i += 2
		default:
			ok = ok || pattern[i] == b
		}
	}
	return ok != not, min(i+1, len(pattern))
}
