package store

import (
	"bytes"
	"slices"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// RedisDataset is the dataset that Redis commands work on, in the first off-heap
// resource. Operations on sessions are refused there with ErrConflict, so that
// nothing goes round tombstones and tokens.
//
// A string is a record with one attribute, which has no name. A hash is a record
// whose attributes' names begin with fieldMark; one without fields does not exist. A key that
// ends leaves no trace, and a removed field no stub. The time to live is the
// record's deadline: a key whose time is up is as good as gone for every
// operation, before AppendExpire has come by.
const RedisDataset = "redis"

// redisMode stands in the place of the lock mode of RedisDataset.
const redisMode = "redis"

// fieldMark begins the names of a hash's fields. Other kinds of keys would have another mark.
const fieldMark = 'h'

func (d *dataset) ofRedis() bool { return d.lockMode == redisMode }

func noSessions() *wire.Error {
	return &wire.Error{Word: wire.ErrConflict, Text: `dataset "` + RedisDataset + `" is for Redis commands and holds no sessions: choose another name`}
}

func wrongType() *wire.Error {
	return &wire.Error{Word: wire.ErrWrongType, Text: "Operation against a key holding the wrong kind of value"}
}

// redisShape reports whether r can be in RedisDataset.
func (r *record) redisShape() bool {
	if len(r.attrs) == 0 || len(r.User) > 0 || len(r.stubs) > 0 || r.Idle > 0 {
		return false
	}
	if len(r.attrs[0].Name) == 0 {
		return len(r.attrs) == 1
	}
	for i := range r.attrs {
		if r.attrs[i].Name[0] != fieldMark {
			return false
		}
	}
	return true
}

// isHash tells what a record of RedisDataset is: the name of its first attribute says it.
func (b block) isHash() bool { return le.Uint16(b[b.heads()+attributeHead-2:]) > 0 }

// redisDataset returns RedisDataset; nil where it was not made yet.
func (st *state) redisDataset() (*dataset, *wire.Error) {
	if d := (*st.datasets.Load())[RedisDataset]; d != nil {
		if !d.ofRedis() {
			return nil, &wire.Error{Word: wire.ErrConflict, Text: `dataset "` + RedisDataset + `" holds sessions, so that Redis commands have no place`}
		}
		return d, nil
	}
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.cluster == nil {
		return nil, unconfigured()
	}
	return nil, nil
}

// redis applies the operations on keys of Redis commands.
func (a *step) redis(k kind, d *decoder) wire.Outcome {
	var do func(*dataset, *wire.RedisReply) *wire.Error
	switch k {
	case kindRedisSet:
		c := d.redisSet()
		do = func(ds *dataset, out *wire.RedisReply) *wire.Error { return a.redisSet(ds, &c, out) }
	case kindRedisDelete:
		get, keys := d.options(optionGet) != 0, d.keys()
		if get && len(keys) != 1 {
			d.fail("one key can be answered with")
		}
		do = func(ds *dataset, out *wire.RedisReply) *wire.Error { return a.redisDelete(ds, keys, get, out) }
	case kindRedisExpire:
		c := d.redisExpire()
		do = func(ds *dataset, out *wire.RedisReply) *wire.Error { return a.redisTTL(ds, &c, out) }
	case kindRedisHSet:
		key, nx := d.name("key", wire.MaxKey), d.options(optionNX) != 0
		list := a.scratch.changes[:0]
		for n := d.count(2); n > 0; n-- {
			list = append(list, change{name: d.field(), value: d.raw()})
		}
		a.scratch.changes = list
		if len(list) == 0 || nx && len(list) != 1 {
			d.fail("a hash is set with another number of fields")
		}
		do = func(ds *dataset, out *wire.RedisReply) *wire.Error { return a.redisHSet(ds, key, list, nx, out) }
	case kindRedisHDel:
		key := d.name("key", wire.MaxKey)
		list := a.scratch.changes[:0]
		for n := d.count(1); n > 0; n-- {
			list = append(list, change{name: d.field(), remove: true})
		}
		a.scratch.changes = list
		do = func(ds *dataset, out *wire.RedisReply) *wire.Error { return a.redisHDel(ds, key, list, out) }
	default:
		q, limit := d.redisQuery()
		do = func(ds *dataset, out *wire.RedisReply) *wire.Error { return a.redisRead(ds, &q, limit, out) }
	}
	defer a.scratch.rest()
	if err := d.end(); err != nil {
		return wire.Outcome{Err: err}
	}
	ds, err := a.redisDataset()
	if err == nil && ds == nil && k != kindRedisRead {
		o := wire.Open{Dataset: []byte(RedisDataset), LockMode: []byte(redisMode)}
		if err = a.open(&o); err == nil {
			ds, err = a.redisDataset()
		}
	}
	out := new(wire.RedisReply)
	if err == nil {
		err = do(ds, out)
	}
	if err != nil {
		return wire.Outcome{Err: err}
	}
	return wire.Outcome{Version: a.index, Redis: out}
}

// redisFind returns where key is; the block is nil where there is none. A key whose time is
// up goes now, so that what comes in its place is new. What it returns is valid until the key changes.
func (a *step) redisFind(d *dataset, key []byte) at {
	h := hash(key)
	g := d.segmentOf(h)
	b, r := g.look(h, key)
	s := at{g, h, b, r}
	if b != nil && b.isDue(a.at) {
		g.mu.Lock()
		d.redisDrop(s)
		g.mu.Unlock()
		s.b, s.r = nil, 0
	}
	return s
}

// redisDrop ends the key at s. The caller holds the segment's lock.
func (d *dataset) redisDrop(s at) {
	cost := s.b.cost()
	s.drop(s.h, s.b.key())
	d.sessions.Add(^uint64(0))
	d.give(cost, 0)
}

// cost is what record.weigh makes of the session b, which has no stubs.
func (b block) cost() uint64 {
	n := recordCost + b.keyLen()
	if u := b.userLen(); u > 0 {
		n += userCost + u
	}
	texts := len(b) - b.text()
	return uint64(n + b.attributes()*attributeCost + texts)
}

func (a *step) redisExpire(d *dataset, keys [][]byte) (any bool) {
	for _, key := range keys {
		h := hash(key)
		if b, _ := d.segmentOf(h).look(h, key); b != nil && b.isDue(a.at) {
			a.redisFind(d, key)
			any = true
		}
	}
	return any
}

// redisPut puts r, which replaces what cost old bytes, if anything.
func (a *step) redisPut(d *dataset, s at, r *record, old uint64) *wire.Error {
	r.weigh()
	if err := grown("key", old, r.cost); err != nil {
		return err
	}
	if err := d.fits(old, r.cost); err != nil {
		return err
	}
	b := a.scratch.writer.record(r)
	s.mu.Lock()
	s.put(s.h, b)
	s.mu.Unlock()
	if old == 0 {
		d.sessions.Add(1)
	}
	return nil
}

// redisMake makes r a key without attributes, and takes over the times of what was there.
func (a *step) redisMake(r *record, key []byte, was block) {
	r.Record = Record{Key: key, Version: a.index, Created: a.at, LastAccess: a.at, attrs: r.attrs[:0]}
	r.stamps, r.stubs, r.aliases, r.floor = r.stamps[:0], r.stubs[:0], r.aliases[:0], floor{}
	if was != nil {
		r.Created, r.Deadline = was.created(), was.deadline()
	}
}

func (a *step) redisSet(d *dataset, c *RedisSet, out *wire.RedisReply) *wire.Error {
	s := a.redisFind(d, c.Key)
	var old uint64
	if s.b != nil {
		old = s.b.cost()
	}
	if c.Get {
		value, err := s.b.redisString()
		if err != nil {
			return err
		}
		out.Values = [][]byte{bytes.Clone(value)}
	}
	switch {
	case c.NX && s.b != nil, c.XX && s.b == nil:
		return nil
	case c.Expires && c.TTL == 0:
		if s.b != nil {
			s.mu.Lock()
			d.redisDrop(s)
			s.mu.Unlock()
			a.forget(c.Key)
		}
		out.N = 1
		return nil
	}
	r := &a.scratch.record
	a.redisMake(r, c.Key, s.b)
	if c.Expires {
		r.Deadline = a.at.after(c.TTL)
	} else if !c.KeepTTL {
		r.Deadline = 0
	}
	r.attrs = append(r.attrs, wire.Attribute{Value: c.Value})
	r.stamps = append(r.stamps, stamp{version: a.index})
	if err := a.redisPut(d, s, r, old); err != nil {
		return err
	}
	out.N = 1
	return nil
}

// forget tells that key was deleted; its memory is the operation's.
func (a *step) forget(key []byte) { a.scratch.forgotten = append(a.scratch.forgotten, key) }

// redisString returns the string that b is; nil where b is nil. A string that is empty is not nil.
func (b block) redisString() ([]byte, *wire.Error) {
	if b == nil {
		return nil, nil
	}
	if b.isHash() {
		return nil, wrongType()
	}
	return b[b.text():], nil
}

func (a *step) redisDelete(d *dataset, keys [][]byte, get bool, out *wire.RedisReply) *wire.Error {
	if get {
		value, err := a.redisFind(d, keys[0]).b.redisString()
		if err != nil {
			return err
		}
		out.Values = [][]byte{bytes.Clone(value)}
	}
	// All at once, as MGET and EXISTS read.
	defer d.lock(keys...)()
	for _, key := range keys {
		h := hash(key)
		g := d.segmentOf(h)
		if b, r := g.look(h, key); b != nil {
			if !b.isDue(a.at) {
				out.N++
				a.forget(key)
			}
			d.redisDrop(at{g, h, b, r})
		}
	}
	return nil
}

func (a *step) redisTTL(d *dataset, c *RedisExpire, out *wire.RedisReply) *wire.Error {
	s := a.redisFind(d, c.Key)
	if c.Get {
		value, err := s.b.redisString()
		if err != nil {
			return err
		}
		out.Values = [][]byte{bytes.Clone(value)}
	}
	if s.b == nil {
		return nil
	}
	has, end := s.b.deadline(), a.at.after(c.TTL)
	switch {
	case c.Persist && has == 0, c.NX && has != 0, c.XX && has == 0, c.GT && (has == 0 || end <= has), c.LT && has != 0 && end >= has:
		return nil
	}
	out.N = 1
	if c.Persist {
		end = 0
	} else if c.TTL == 0 {
		s.mu.Lock()
		d.redisDrop(s)
		s.mu.Unlock()
		a.forget(c.Key)
		return nil
	}
	b := s.b.clone()
	b.setDeadline(end, a.index)
	s.mu.Lock()
	s.put(s.h, b)
	s.mu.Unlock()
	return nil
}

// setDeadline changes when the session's time is up, as the change of index.
func (b block) setDeadline(end Time, index uint64) {
	le.PutUint64(b[16:], index)
	le.PutUint64(b[48:], uint64(end))
}

// redisHash reads the hash at s into r, which is empty where there is none.
func (a *step) redisHash(s at, key []byte, r *record) (old uint64, err *wire.Error) {
	if s.b == nil {
		a.redisMake(r, key, nil)
		return 0, nil
	}
	if !s.b.isHash() {
		return 0, wrongType()
	}
	s.b.read(r)
	r.Version, r.LastAccess = a.index, a.at
	return r.cost, nil
}

func (a *step) redisHSet(d *dataset, key []byte, list []change, nx bool, out *wire.RedisReply) *wire.Error {
	s := a.redisFind(d, key)
	r := &a.scratch.record
	old, err := a.redisHash(s, key, r)
	if err != nil {
		return err
	}
	list = lastOfEach(list)
	for _, c := range list {
		if _, found := slices.BinarySearchFunc(r.attrs, c.name, compareAttribute); !found {
			out.N++
		}
	}
	if nx && out.N == 0 {
		return nil
	}
	r.merge(list, stamp{version: a.index})
	return a.redisPut(d, s, r, old)
}

// lastOfEach sorts list by name, and leaves the last of those that are called the same.
func lastOfEach(list []change) []change {
	slices.SortStableFunc(list, func(a, b change) int { return bytes.Compare(a.name, b.name) })
	kept := list[:0]
	for i, c := range list {
		if i+1 == len(list) || !bytes.Equal(c.name, list[i+1].name) {
			kept = append(kept, c)
		}
	}
	return kept
}

func (a *step) redisHDel(d *dataset, key []byte, list []change, out *wire.RedisReply) *wire.Error {
	s := a.redisFind(d, key)
	if s.b == nil {
		return nil
	}
	r := &a.scratch.record
	old, err := a.redisHash(s, key, r)
	if err != nil {
		return err
	}
	list = lastOfEach(list)
	for _, c := range list {
		if _, found := slices.BinarySearchFunc(r.attrs, c.name, compareAttribute); found {
			out.N++
		}
	}
	switch int(out.N) {
	case 0:
		return nil
	case len(r.attrs):
		s.mu.Lock()
		d.redisDrop(s)
		s.mu.Unlock()
		a.forget(key)
		return nil
	}
	r.merge(list, stamp{version: a.index})
	return a.redisPut(d, s, r, old)
}
