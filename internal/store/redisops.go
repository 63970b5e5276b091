package store

import (
	"encoding/binary"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// The operations on keys of Redis commands. Each appends its log form to dst, as
// those in ops.go do: kind, key, a byte of options, and what is told below. They
// make RedisDataset where it is missing. Nobody numbers them, so nothing keeps one
// from being made twice but its caller. The names of a hash's fields stand in them
// as they stand in the record, with fieldMark in front.

// The options that operations carry, as bits of one byte.
const (
	optionNX      = 1 << iota // only where there is none: key, field or time to live
	optionXX                  // only where there is one
	optionGT                  // only a later end
	optionLT                  // only an earlier end
	optionGet                 // answer with the string that was there
	optionKeep                // keep the time to live
	optionExpires             // a time to live follows
	optionPersist             // no time to live any more
)

// RedisSet makes a key a string. TTL counts only with Expires: zero ends the key at once.
type RedisSet struct {
	Key, Value           []byte
	NX, XX, Get, KeepTTL bool
	Expires              bool
	TTL                  time.Duration
}

// AppendRedisSet appends key, options, milliseconds to live where they say so, value.
// The reply's N is 1 where the key was set, else 0; with Get the only value is the string
// that was there, and a hash is refused with ErrWrongType.
func AppendRedisSet(dst []byte, c *RedisSet) []byte {
	dst = appendBytes(append(dst, byte(kindRedisSet)), c.Key)
	options := option(c.NX, optionNX) | option(c.XX, optionXX) | option(c.Get, optionGet) |
		option(c.KeepTTL, optionKeep) | option(c.Expires, optionExpires)
	dst = append(dst, options)
	if c.Expires {
		dst = appendMillis(dst, c.TTL)
	}
	return appendBytes(dst, c.Value)
}

// AppendRedisDelete ends keys. The reply's N is how many there were. With get there
// is one key, which must be a string and is the reply's value.
func AppendRedisDelete(dst []byte, keys [][]byte, get bool) []byte {
	dst = append(dst, byte(kindRedisDelete), option(get, optionGet))
	dst = binary.AppendUvarint(dst, uint64(len(keys)))
	for _, key := range keys {
		dst = appendBytes(dst, key)
	}
	return dst
}

// RedisExpire gives a key a time to live, or takes it away. A TTL of zero ends the key.
type RedisExpire struct {
	Key            []byte
	NX, XX, GT, LT bool // only where it has none, has one, the new end is later, is earlier
	Get            bool // answer with the string of the key
	Persist        bool
	TTL            time.Duration
}

// AppendRedisExpire appends key, options, milliseconds to live unless the options take
// them away. The reply's N is 1 where something was changed.
func AppendRedisExpire(dst []byte, c *RedisExpire) []byte {
	dst = appendBytes(append(dst, byte(kindRedisExpire)), c.Key)
	dst = append(dst, option(c.NX, optionNX)|option(c.XX, optionXX)|option(c.GT, optionGT)|option(c.LT, optionLT)|
		option(c.Get, optionGet)|option(c.Persist, optionPersist))
	if c.Persist {
		return dst
	}
	return appendMillis(dst, c.TTL)
}

// AppendRedisHSet sets fields of a hash; pairs are names and values in turn. The last one
// of a name counts. The reply's N is how many fields are new. With nx there is
// one field, and it is set only where there is none.
func AppendRedisHSet(dst, key []byte, pairs [][]byte, nx bool) []byte {
	dst = appendBytes(append(dst, byte(kindRedisHSet)), key)
	dst = append(dst, option(nx, optionNX))
	dst = binary.AppendUvarint(dst, uint64(len(pairs)/2))
	for i := 0; i+1 < len(pairs); i += 2 {
		dst = appendBytes(appendField(dst, pairs[i]), pairs[i+1])
	}
	return dst
}

// AppendRedisHDel removes fields of a hash; the last one ends the key. The reply's N is how
// many there were.
func AppendRedisHDel(dst, key []byte, fields [][]byte) []byte {
	dst = appendBytes(append(dst, byte(kindRedisHDel)), key)
	dst = binary.AppendUvarint(dst, uint64(len(fields)))
	for _, name := range fields {
		dst = appendField(dst, name)
	}
	return dst
}

// AppendRedisRead answers q in its place among the operations and changes nothing. An
// answer of more than limit bytes is refused with ErrBusy.
func AppendRedisRead(dst []byte, q *RedisQuery, limit int) []byte {
	dst = append(dst, byte(kindRedisRead), byte(q.What))
	dst = binary.AppendUvarint(dst, uint64(limit))
	dst = binary.AppendUvarint(dst, uint64(len(q.Args)))
	for _, arg := range q.Args {
		dst = appendBytes(dst, arg)
	}
	return dst
}

func appendField(dst, name []byte) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(name)+1)), fieldMark)
	return append(dst, name...)
}

func option(is bool, bit byte) byte {
	if is {
		return bit
	}
	return 0
}

func (d *decoder) options(allowed byte) byte {
	options := d.byte()
	if options&^allowed != 0 {
		d.fail("operation has options that it cannot have")
	}
	return options
}

func (d *decoder) keys() [][]byte {
	n := d.count(1)
	list := make([][]byte, 0, n)
	for ; n > 0; n-- {
		list = append(list, d.name("key", wire.MaxKey))
	}
	return list
}

// field reads the name of a field, with its mark.
func (d *decoder) field() []byte {
	name := d.name("field", wire.MaxAttributeName)
	if d.fault == "" && name[0] != fieldMark {
		d.fail("operation is not understood")
	}
	return name
}

func (d *decoder) redisSet() (c RedisSet) {
	c.Key = d.name("key", wire.MaxKey)
	options := d.options(optionNX | optionXX | optionGet | optionKeep | optionExpires)
	c.NX, c.XX, c.Get = options&optionNX != 0, options&optionXX != 0, options&optionGet != 0
	c.KeepTTL, c.Expires = options&optionKeep != 0, options&optionExpires != 0
	if c.Expires {
		c.TTL = d.millis()
	}
	c.Value = d.raw()
	return c
}

func (d *decoder) redisExpire() (c RedisExpire) {
	c.Key = d.name("key", wire.MaxKey)
	options := d.options(optionNX | optionXX | optionGT | optionLT | optionGet | optionPersist)
	c.NX, c.XX, c.GT, c.LT = options&optionNX != 0, options&optionXX != 0, options&optionGT != 0, options&optionLT != 0
	c.Get, c.Persist = options&optionGet != 0, options&optionPersist != 0
	if !c.Persist {
		c.TTL = d.millis()
	}
	return c
}
