package server

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// This file parses the Redis commands that change keys. Its errors are
// Redis's own, word for word, where clients look at them.

const (
	syntaxError = "syntax error"
	notInteger  = "value is not an integer or out of range"
)

func invalidExpire(name string) string { return "invalid expire time in '" + name + "' command" }

// is reports whether arg is the word, which is upper case.
func is(arg []byte, word string) bool {
	return len(arg) == len(word) && bytes.EqualFold(arg, []byte(word))
}

// maxField leaves room for the mark that a field's name has in the store.
const maxField = wire.MaxAttributeName - 1

// namesFit refuses keys and fields that cannot be stored.
func (c *conn) namesFit(keys [][]byte, fields ...[]byte) bool {
	for _, key := range keys {
		if len(key) == 0 || len(key) > wire.MaxKey {
			c.refuse(wire.ErrBadRequest, fmt.Sprintf("a key has %d bytes; 1 to %d are allowed", len(key), wire.MaxKey))
			return false
		}
	}
	for _, name := range fields {
		if len(name) > maxField {
			c.refuse(wire.ErrBadRequest, fmt.Sprintf("the name of a field has %d bytes; at most %d are allowed", len(name), maxField))
			return false
		}
	}
	return true
}

// parseInteger parses a number written in the one way in which Redis takes it.
func parseInteger(arg []byte) (n int64, ok bool) {
	n, err := strconv.ParseInt(string(arg), 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == string(arg)
}

// lifetime says when a key ends.
type lifetime struct {
	option string // that was given; "" for none
	ttl    time.Duration
}

// maxLife bounds a time to live, as the store does: a longer one is as good as this.
const maxLife = 100 * 366 * 24 * time.Hour

// parseLife parses a number that stands for a time to live in units of so many milliseconds, or for the
// time of day when it is over. A time that is over is zero. positive refuses numbers below 1.
func parseLife(name string, arg []byte, unit int64, absolute, positive bool) (time.Duration, string) {
	n, ok := parseInteger(arg)
	if !ok {
		return 0, notInteger
	}
	if positive && n <= 0 || n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return 0, invalidExpire(name)
	}
	n *= unit
	if absolute {
		// Durations cross machines, instants never do: this server's clock alone reads this one.
		if now := time.Now().UnixMilli(); n > now {
			n -= now
		} else {
			n = 0
		}
	} else if n > math.MaxInt64-time.Now().UnixMilli() {
		return 0, invalidExpire(name)
	}
	return time.Duration(min(max(n, 0), maxLife.Milliseconds())) * time.Millisecond, ""
}

// lifeOption parses the option at the head of args that says when a key ends, if
// there is one. It returns what is left, and a text where it is wrong.
func (l *lifetime) lifeOption(name string, args [][]byte, word string) (rest [][]byte, fault string, known bool) {
	for _, o := range [...]struct {
		word     string
		unit     int64
		absolute bool
	}{{"EX", 1000, false}, {"PX", 1, false}, {"EXAT", 1000, true}, {"PXAT", 1, true}} {
		if !is(args[0], o.word) {
			continue
		}
		if !l.choose(o.word) || len(args) < 2 {
			return nil, syntaxError, true
		}
		l.ttl, fault = parseLife(name, args[1], o.unit, o.absolute, true)
		return args[2:], fault, true
	}
	if !is(args[0], word) {
		return args, "", false
	}
	if !l.choose(word) {
		return nil, syntaxError, true
	}
	return args[1:], "", true
}

// choose notes the option; the same may stand there again, and the last one counts.
func (l *lifetime) choose(option string) bool {
	if l.option != "" && l.option != option {
		return false
	}
	l.option = option
	return true
}

func (c *conn) redisSet(args [][]byte) {
	s := store.RedisSet{Key: args[0], Value: args[1]}
	var life lifetime
	late := "" // Redis looks at the numbers after the words
	for rest := args[2:]; len(rest) > 0; {
		left, fault, known := life.lifeOption("set", rest, "KEEPTTL")
		switch {
		case fault == syntaxError:
			c.refuse(wire.ErrGeneric, fault)
			return
		case known:
			late, rest = fault, left
			continue
		case is(rest[0], "NX") && !s.XX:
			s.NX = true
		case is(rest[0], "XX") && !s.NX:
			s.XX = true
		case is(rest[0], "GET"):
			s.Get = true
		default:
			c.refuse(wire.ErrGeneric, syntaxError)
			return
		}
		rest = rest[1:]
	}
	if late != "" {
		c.refuse(wire.ErrGeneric, late)
		return
	}
	s.KeepTTL = life.option == "KEEPTTL"
	s.Expires, s.TTL = life.option != "" && !s.KeepTTL, life.ttl
	form := appendDone
	if s.Get {
		form = appendValue
	}
	c.setRedis(&s, form)
}

func (c *conn) setRedis(s *store.RedisSet, form answerForm) {
	if c.namesFit([][]byte{s.Key}) {
		c.changeRedis(store.AppendRedisSet(c.redis.op[:0], s), form)
	}
}

func (c *conn) redisSetEX(args [][]byte)  { c.setWithLife("setex", args, 1000) }
func (c *conn) redisPSetEX(args [][]byte) { c.setWithLife("psetex", args, 1) }

func (c *conn) setWithLife(name string, args [][]byte, unit int64) {
	ttl, fault := parseLife(name, args[1], unit, false, true)
	if fault != "" {
		c.refuse(wire.ErrGeneric, fault)
		return
	}
	c.setRedis(&store.RedisSet{Key: args[0], Value: args[2], Expires: true, TTL: ttl}, appendDone)
}

func (c *conn) redisSetNX(args [][]byte) {
	c.setRedis(&store.RedisSet{Key: args[0], Value: args[1], NX: true}, appendCount)
}

func (c *conn) redisGetSet(args [][]byte) {
	c.setRedis(&store.RedisSet{Key: args[0], Value: args[1], Get: true}, appendValue)
}

func (c *conn) redisDel(args [][]byte) {
	if c.namesFit(args) {
		c.changeRedis(store.AppendRedisDelete(c.redis.op[:0], args, false), appendCount)
	}
}

func (c *conn) redisGetDel(args [][]byte) {
	if c.namesFit(args) {
		c.changeRedis(store.AppendRedisDelete(c.redis.op[:0], args, true), appendValue)
	}
}

func (c *conn) redisPersist(args [][]byte) {
	c.expireRedis(&store.RedisExpire{Key: args[0], Persist: true}, appendCount)
}

func (c *conn) expireRedis(e *store.RedisExpire, form answerForm) {
	if c.namesFit([][]byte{e.Key}) {
		c.changeRedis(store.AppendRedisExpire(c.redis.op[:0], e), form)
	}
}

// expiring returns EXPIRE or one of its sisters.
func expiring(name string, unit int64, absolute bool) func(*conn, [][]byte) {
	return func(c *conn, args [][]byte) {
		e := store.RedisExpire{Key: args[0]}
		for _, word := range args[2:] {
			switch {
			case is(word, "NX"):
				e.NX = true
			case is(word, "XX"):
				e.XX = true
			case is(word, "GT"):
				e.GT = true
			case is(word, "LT"):
				e.LT = true
			default:
				c.refuse(wire.ErrGeneric, "Unsupported option "+printable(string(word[:min(len(word), 32)])))
				return
			}
		}
		if e.NX && (e.XX || e.GT || e.LT) {
			c.refuse(wire.ErrGeneric, "NX and XX, GT or LT options at the same time are not compatible")
			return
		}
		if e.GT && e.LT {
			c.refuse(wire.ErrGeneric, "GT and LT options at the same time are not compatible")
			return
		}
		var fault string
		if e.TTL, fault = parseLife(name, args[1], unit, absolute, false); fault != "" {
			c.refuse(wire.ErrGeneric, fault)
			return
		}
		c.expireRedis(&e, appendCount)
	}
}

var getString = reading(store.RedisGet, appendValue)

func (c *conn) redisGetEX(args [][]byte) {
	if len(args) == 1 {
		getString(c, args)
		return
	}
	var life lifetime
	late := ""
	for rest := args[1:]; len(rest) > 0; {
		left, fault, known := life.lifeOption("getex", rest, "PERSIST")
		if !known || fault == syntaxError {
			c.refuse(wire.ErrGeneric, syntaxError)
			return
		}
		rest, late = left, fault
	}
	if late != "" {
		c.refuse(wire.ErrGeneric, late)
		return
	}
	c.expireRedis(&store.RedisExpire{Key: args[0], Get: true, Persist: life.option == "PERSIST", TTL: life.ttl}, appendValue)
}

func (c *conn) redisHSet(args [][]byte)   { c.setFields("hset", args, false, appendCount) }
func (c *conn) redisHMSet(args [][]byte)  { c.setFields("hmset", args, false, appendOK) }
func (c *conn) redisHSetNX(args [][]byte) { c.setFields("hsetnx", args, true, appendCount) }

func (c *conn) setFields(name string, args [][]byte, nx bool, form answerForm) {
	pairs := args[1:]
	if len(pairs)%2 != 0 {
		c.refuse(wire.ErrGeneric, "wrong number of arguments for '"+name+"' command")
		return
	}
	for i := 0; i < len(pairs); i += 2 {
		if !c.namesFit(args[:1], pairs[i]) {
			return
		}
	}
	c.changeRedis(store.AppendRedisHSet(c.redis.op[:0], args[0], pairs, nx), form)
}

func (c *conn) redisHDel(args [][]byte) {
	if c.namesFit(args[:1], args[1:]...) {
		c.changeRedis(store.AppendRedisHDel(c.redis.op[:0], args[0], args[1:]), appendCount)
	}
}
