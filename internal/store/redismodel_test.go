package store

import (
	"maps"
	"slices"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// redisModel is what Redis commands promise, as plainly as can be.
type redisModel struct {
	now  Time
	keys map[string]redisKey
	room uint64
	born bool // the dataset was made
}

type redisKey struct {
	value string            // of a string
	hash  map[string]string // nil for a string
	end   Time
}

func (m *redisModel) get(key string) (redisKey, bool) {
	k, ok := m.keys[key]
	return k, ok && (k.end == 0 || m.now < k.end)
}

func (m *redisModel) cost() (n uint64) {
	for key, k := range m.keys {
		n += 192 + uint64(len(key))
		if k.hash == nil {
			n += 48 + uint64(len(k.value))
		}
		for name, value := range k.hash {
			n += 48 + 1 + uint64(len(name)+len(value))
		}
	}
	return n
}

// sweep forgets key, as every write that meets a key whose time is up does.
func (m *redisModel) sweep(key string) {
	if _, ok := m.get(key); !ok {
		delete(m.keys, key)
	}
}

// put stores k unless it does not fit.
func (m *redisModel) put(key string, k redisKey) wire.Word {
	old, had := m.keys[key]
	before := m.cost()
	m.keys[key] = k
	if after := m.cost(); after > before && after > m.room {
		delete(m.keys, key)
		if had {
			m.keys[key] = old
		}
		return wire.ErrOutOfOffheap
	}
	return ""
}

func (m *redisModel) set(c *RedisSet) (n int64, values []string, word wire.Word) {
	key := string(c.Key)
	m.sweep(key)
	old, had := m.keys[key]
	if c.Get {
		if had && old.hash != nil {
			return 0, nil, wire.ErrWrongType
		}
		values = []string{"null"}
		if had {
			values = []string{"=" + old.value}
		}
	}
	if c.NX && had || c.XX && !had {
		return 0, values, ""
	}
	k := redisKey{value: string(c.Value)}
	if c.Expires && c.TTL == 0 {
		delete(m.keys, key)
		return 1, values, ""
	} else if c.Expires {
		k.end = m.now + ms(c.TTL)
	} else if c.KeepTTL {
		k.end = old.end
	}
	if word := m.put(key, k); word != "" {
		return 0, nil, word
	}
	return 1, values, ""
}

func (m *redisModel) del(keys []string) (n int64) {
	for _, key := range keys {
		if _, ok := m.get(key); ok {
			n++
		}
		delete(m.keys, key)
	}
	return n
}

func (m *redisModel) expire(c *RedisExpire) (n int64) {
	key := string(c.Key)
	m.sweep(key)
	k, ok := m.keys[key]
	end := m.now + ms(c.TTL)
	switch {
	case !ok, c.Persist && k.end == 0, c.NX && k.end != 0, c.XX && k.end == 0,
		c.GT && (k.end == 0 || end <= k.end), c.LT && k.end != 0 && end >= k.end:
		return 0
	case c.Persist:
		k.end = 0
	case c.TTL == 0:
		delete(m.keys, key)
		return 1
	default:
		k.end = end
	}
	m.keys[key] = k
	return 1
}

func (m *redisModel) hset(key string, pairs []string, nx bool) (n int64, word wire.Word) {
	m.sweep(key)
	old, had := m.keys[key]
	if had && old.hash == nil {
		return 0, wire.ErrWrongType
	}
	k := redisKey{hash: maps.Clone(old.hash), end: old.end}
	if !had {
		k.hash = map[string]string{}
	}
	for i := 0; i < len(pairs); i += 2 {
		if _, ok := k.hash[pairs[i]]; !ok {
			n++
		} else if nx {
			return 0, ""
		}
		k.hash[pairs[i]] = pairs[i+1]
	}
	if word := m.put(key, k); word != "" {
		return 0, word
	}
	return n, ""
}

func (m *redisModel) hdel(key string, fields []string) (n int64, word wire.Word) {
	m.sweep(key)
	k, had := m.keys[key]
	switch {
	case !had:
		return 0, ""
	case k.hash == nil:
		return 0, wire.ErrWrongType
	}
	k.hash = maps.Clone(k.hash)
	for _, name := range fields {
		if _, ok := k.hash[name]; ok {
			n++
			delete(k.hash, name)
		}
	}
	m.keys[key] = k
	if len(k.hash) == 0 {
		delete(m.keys, key)
	}
	return n, ""
}

// read answers q in the model.
func (m *redisModel) read(q *RedisQuery) (n int64, values []string, word wire.Word) {
	key := string(q.Args[0])
	k, ok := m.get(key)
	if !ok {
		k = redisKey{} // its time is up
	}
	wrong := ok && (k.hash != nil) == (q.What == RedisGet || q.What == RedisLen)
	switch q.What {
	case RedisMGet:
		for _, arg := range q.Args {
			if k, ok := m.get(string(arg)); ok && k.hash == nil {
				values = append(values, "="+k.value)
			} else {
				values = append(values, "null")
			}
		}
		return 0, values, ""
	case RedisExists:
		for _, arg := range q.Args {
			if _, ok := m.get(string(arg)); ok {
				n++
			}
		}
		return n, nil, ""
	case RedisTTL:
		switch {
		case !ok:
			return -2, nil, ""
		case k.end == 0:
			return -1, nil, ""
		}
		return int64(k.end - m.now), nil, ""
	case RedisType:
		switch {
		case !ok:
			return wire.RedisNone, nil, ""
		case k.hash != nil:
			return wire.RedisHash, nil, ""
		}
		return wire.RedisString, nil, ""
	}
	if wrong {
		return 0, nil, wire.ErrWrongType
	}
	switch q.What {
	case RedisGet:
		if !ok {
			return 0, []string{"null"}, ""
		}
		return int64(len(k.value)), []string{"=" + k.value}, ""
	case RedisLen:
		return int64(len(k.value)), nil, ""
	case RedisHLen:
		return int64(len(k.hash)), nil, ""
	case RedisHGetAll:
		for _, name := range slices.Sorted(maps.Keys(k.hash)) {
			values = append(values, "="+name, "="+k.hash[name])
		}
		return 0, values, ""
	}
	for _, name := range q.Args[1:] {
		if v, ok := k.hash[string(name)]; ok {
			values = append(values, "="+v)
		} else {
			values = append(values, "null")
		}
	}
	return 0, values, ""
}

func shown(list [][]byte) (s []string) {
	for _, v := range list {
		if v == nil {
			s = append(s, "null")
		} else {
			s = append(s, "="+string(v))
		}
	}
	return s
}

func args(list []string) (b [][]byte) {
	for _, s := range list {
		b = append(b, []byte(s))
	}
	return b
}
