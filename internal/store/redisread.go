package store

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// RedisWhat says what a RedisQuery asks for. The numbers stand in the log.
type RedisWhat byte

const (
	RedisGet     RedisWhat = 1 // key: the string
	RedisMGet    RedisWhat = 2 // keys: the string of each; null for a hash
	RedisExists  RedisWhat = 3 // keys: N is how many there are
	RedisTTL     RedisWhat = 4 // key: N is milliseconds, -1 without end, -2 for no key
	RedisType    RedisWhat = 5 // key: N is wire.RedisNone, RedisString or RedisHash
	RedisLen     RedisWhat = 6 // key: N is the bytes of the string
	RedisHMGet   RedisWhat = 7 // key, fields: the value of each
	RedisHGetAll RedisWhat = 8 // key: fields and values in turn, by field
	RedisHLen    RedisWhat = 9 // key: N is the number of fields
)

// RedisQuery asks about keys.
type RedisQuery struct {
	What RedisWhat
	Args [][]byte // keys; or one key, and fields
}

// keys returns those of the arguments that are keys.
func (q *RedisQuery) keys() [][]byte {
	if q.What == RedisMGet || q.What == RedisExists {
		return q.Args
	}
	return q.Args[:1]
}

func (d *decoder) redisQuery() (q RedisQuery, limit uint64) {
	q.What = RedisWhat(d.byte())
	limit = d.uint()
	for n := d.count(1); n > 0; n-- {
		q.Args = append(q.Args, d.raw())
	}
	if d.fault == "" && (q.What < RedisGet || q.What > RedisHLen || len(q.Args) == 0) {
		d.fail("operation asks for what is not known")
	}
	return q, limit
}

// maxRedisAnswer bounds the bytes of one answer: one value can be asked for many times at once.
const maxRedisAnswer = 64 << 20

// redisReplies holds *wire.RedisReply.
var redisReplies = sync.Pool{New: func() any { return new(wire.RedisReply) }}

// RedisRead calls f with the answer to q at now and returns nil; or returns the refusal. What
// the reply's slices hold is valid inside f only. f must be quick: writes to the keys' segments wait for it.
// All keys of q are read at one moment.
func (s *Store) RedisRead(now Time, q *RedisQuery, f func(*wire.RedisReply)) *wire.Error {
	reply := redisReplies.Get().(*wire.RedisReply)
	defer func() {
		clear(reply.Values)
		reply.N, reply.Values = 0, reply.Values[:0]
		redisReplies.Put(reply)
	}()
	for {
		d, err := s.st.Load().redisDataset()
		if err != nil {
			return err
		}
		if d == nil {
			if err := d.redisAnswer(now, q, maxRedisAnswer, reply); err != nil {
				return err
			}
			f(reply)
			return nil
		}
		closed, err := d.redisView(now, q, reply, f)
		if !closed {
			return err
		}
		// The state was replaced meanwhile.
	}
}

func (d *dataset) redisView(now Time, q *RedisQuery, reply *wire.RedisReply, f func(*wire.RedisReply)) (closed bool, err *wire.Error) {
	keys := q.keys()
	if len(keys) == 1 {
		g := d.segment(keys[0])
		g.mu.RLock()
		defer g.mu.RUnlock()
	} else {
		defer d.rlock(keys)()
	}
	// A state's segments are closed together.
	if d.segment(keys[0]).closed {
		return true, nil
	}
	if err := d.redisAnswer(now, q, maxRedisAnswer, reply); err != nil {
		return false, err
	}
	f(reply)
	return false, nil
}

// rlock is lock for readers.
func (d *dataset) rlock(keys [][]byte) (unlock func()) {
	at := d.places(keys)
	for _, i := range at {
		d.segments[i].mu.RLock()
	}
	return func() {
		for _, i := range at {
			d.segments[i].mu.RUnlock()
		}
	}
}

// redisRead is RedisRead in its place among the operations. What it returns is copied.
func (a *step) redisRead(d *dataset, q *RedisQuery, limit uint64, out *wire.RedisReply) *wire.Error {
	if err := d.redisAnswer(a.at, q, min(limit, maxRedisAnswer), out); err != nil {
		return err
	}
	for i, v := range out.Values {
		out.Values[i] = bytes.Clone(v)
	}
	return nil
}

// redisAnswer answers q; d is nil where there are no keys yet. What it returns points into blocks.
func (d *dataset) redisAnswer(now Time, q *RedisQuery, limit uint64, out *wire.RedisReply) *wire.Error {
	out.N, out.Values = 0, out.Values[:0]
	var err *wire.Error
	switch q.What {
	case RedisMGet:
		for _, key := range q.Args {
			b := d.redisLook(key, now)
			if b != nil && b.isHash() {
				b = nil
			}
			value, _ := b.redisString()
			out.Values = append(out.Values, value)
		}
	case RedisExists:
		for _, key := range q.Args {
			if d.redisLook(key, now) != nil {
				out.N++
			}
		}
	default:
		err = d.redisLook(q.Args[0], now).redisAnswer(now, q, out)
	}
	if err != nil {
		return err
	}
	size := uint64(0)
	for _, v := range out.Values {
		size += uint64(len(v))
	}
	switch {
	case size <= limit:
		return nil
	case limit < maxRedisAnswer:
		return &wire.Error{Word: wire.ErrBusy, Text: "the answer has grown behind many others that wait; try again"}
	}
	return &wire.Error{Word: wire.ErrTooBig, Text: fmt.Sprintf("the answer would have %d bytes; at most %d are allowed", size, limit)}
}

// redisLook returns key's block, nil where there is none at now.
func (d *dataset) redisLook(key []byte, now Time) block {
	if d == nil {
		return nil
	}
	h := hash(key)
	b, _ := d.segmentOf(h).look(h, key)
	if b == nil || b.isDue(now) {
		return nil
	}
	return b
}

// redisAnswer answers what asks for one key, which is b, or for none where b is nil.
func (b block) redisAnswer(now Time, q *RedisQuery, out *wire.RedisReply) *wire.Error {
	switch q.What {
	case RedisGet, RedisLen:
		value, err := b.redisString()
		out.N, out.Values = int64(len(value)), append(out.Values, value)
		if q.What == RedisLen {
			out.Values = out.Values[:0]
		}
		return err
	case RedisTTL:
		switch {
		case b == nil:
			out.N = -2
		case b.deadline() == 0:
			out.N = -1
		default:
			out.N = int64(b.deadline() - now)
		}
		return nil
	case RedisType:
		switch {
		case b == nil:
			out.N = wire.RedisNone
		case b.isHash():
			out.N = wire.RedisHash
		default:
			out.N = wire.RedisString
		}
		return nil
	}
	if b != nil && !b.isHash() {
		return wrongType()
	}
	switch q.What {
	case RedisHLen:
		if b != nil {
			out.N = int64(b.attributes())
		}
	case RedisHGetAll:
		b.fields(func(name, value []byte) bool {
			out.Values = append(out.Values, name, value)
			return true
		})
	default:
		b.redisHMGet(q.Args[1:], out)
	}
	return nil
}

// redisHMGet looks for a few fields one by one, and for many in one pass.
func (b block) redisHMGet(names [][]byte, out *wire.RedisReply) {
	if len(names) <= 4 {
		for _, want := range names {
			var found []byte
			b.fields(func(name, value []byte) bool {
				switch c := bytes.Compare(name, want); {
				case c < 0:
					return true
				case c == 0:
					found = value
				}
				return false
			})
			out.Values = append(out.Values, found)
		}
		return
	}
	out.Values = slices.Grow(out.Values, len(names))[:len(names)]
	clear(out.Values)
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return bytes.Compare(names[i], names[j]) })
	next := 0
	b.fields(func(name, value []byte) bool {
		for next < len(order) && bytes.Compare(names[order[next]], name) < 0 {
			next++
		}
		for ; next < len(order) && bytes.Equal(names[order[next]], name); next++ {
			out.Values[order[next]] = value
		}
		return next < len(order)
	})
}

// fields calls f with the fields of the hash b by name, until it returns false. b may be nil.
func (b block) fields(f func(name, value []byte) bool) {
	if b == nil {
		return
	}
	head, at := b.heads(), b.text()
	for range b.attributes() {
		name := b.cut(&at, int(le.Uint16(b[head+24:])))
		value := b.cut(&at, int(le.Uint32(b[head+20:])))
		if !f(name[1:], value) {
			return
		}
		head += attributeHead
	}
}
