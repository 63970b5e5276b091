package store

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// redisLaw plays drawn operations on stores and in the model.
type redisLaw struct {
	redisModel
	stores []*Store
	past   []logged

	forgotten []string // by the last operation, by name
}

const redisLawOffheap = 16 << 10

func newRedisLaw(stores ...*Store) *redisLaw {
	l := &redisLaw{redisModel: redisModel{now: 1, keys: map[string]redisKey{}, room: redisLawOffheap - datasetCost - chosenSegments*segmentCost}, stores: stores}
	l.apply(AppendConfigure(nil, testCluster(redisLawOffheap)))
	return l
}

func (l *redisLaw) apply(op []byte) (out wire.Outcome) {
	l.past = append(l.past, logged{l.now, slices.Clone(op)})
	for _, s := range l.stores {
		given := slices.Clone(op)
		out = s.Apply(l.now, given)
		l.forgotten = nil
		for _, key := range s.Forgotten() {
			l.forgotten = append(l.forgotten, string(key))
		}
		for i := range given { // the store must have copied what it keeps
			given[i] = 0xAA
		}
	}
	return out
}

var redisLawKeys = []string{"k0", "k1", "k2", "k3", "a-much-longer-key"}

func (l *redisLaw) step(t *rapid.T) {
	l.now += Time(rapid.SampledFrom([]int{0, 0, 1, 40, 1000}).Draw(t, "later"))
	key := rapid.SampledFrom(redisLawKeys).Draw(t, "key")
	flag := func(what string) bool { return rapid.IntRange(0, 3).Draw(t, what) == 0 }
	ttl := time.Duration(rapid.SampledFrom([]int{0, 1, 50, 1000, 3000}).Draw(t, "ttl")) * time.Millisecond
	value := func() string {
		return strings.Repeat("v", rapid.SampledFrom([]int{0, 1, 5, 100, 1500}).Draw(t, "size"))
	}
	fields := func() []string {
		return rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "c", "lang", "x", "y"}), 1, 7).Draw(t, "fields")
	}
	var n int64
	var values []string
	var word wire.Word
	var op []byte
	before := l.live()
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0, 1:
		c := &RedisSet{Key: []byte(key), Value: []byte(value()), NX: flag("nx"), XX: flag("xx"), Get: flag("get"), KeepTTL: flag("keep"), Expires: flag("expires"), TTL: ttl}
		op = AppendRedisSet(nil, c)
		n, values, word = l.set(c)
	case 2:
		keys := rapid.SliceOfN(rapid.SampledFrom(redisLawKeys), 1, 4).Draw(t, "keys")
		op = AppendRedisDelete(nil, args(keys), false)
		n = l.del(keys)
	case 3:
		c := &RedisExpire{Key: []byte(key), NX: flag("nx"), XX: flag("xx"), GT: flag("gt"), LT: flag("lt"), Persist: flag("persist"), TTL: ttl}
		if c.Persist { // which carries no time
			c.TTL = 0
		}
		op = AppendRedisExpire(nil, c)
		n = l.expire(c)
	case 4, 5:
		var pairs []string
		for _, name := range fields() {
			pairs = append(pairs, name, value())
		}
		nx := len(pairs) == 2 && flag("nx")
		op = AppendRedisHSet(nil, []byte(key), args(pairs), nx)
		n, word = l.hset(key, pairs, nx)
	case 6:
		names := fields()
		op = AppendRedisHDel(nil, []byte(key), args(names))
		n, word = l.hdel(key, names)
	case 7:
		due, _ := l.stores[0].Due(l.now, 10)
		for _, d := range due {
			l.apply(AppendExpire(nil, d.Dataset, d.Keys))
			if len(l.forgotten) > 0 {
				t.Fatalf("%q are told as deleted, and their time was up", l.forgotten)
			}
			for _, key := range d.Keys {
				l.sweep(string(key))
			}
		}
		return
	}
	out := l.apply(op)
	l.born = true
	slices.Sort(l.forgotten)
	after := l.live()
	if gone := slices.DeleteFunc(before, func(key string) bool { return slices.Contains(after, key) }); !slices.Equal(l.forgotten, gone) {
		t.Fatalf("%x: %q are told as deleted; in the model %q are gone", op, l.forgotten, gone)
	}
	switch {
	case word != "" && (out.Err == nil || out.Err.Word != word), word == "" && out.Err != nil:
		t.Fatalf("%x: %v; the model says %q", op, out.Err, word)
	case word == "" && (out.Redis.N != n || !slices.Equal(shown(out.Redis.Values), values)):
		t.Fatalf("%x: %d %q; the model says %d %q", op, out.Redis.N, shown(out.Redis.Values), n, values)
	}
}

// live are the keys that there are, by name.
func (l *redisLaw) live() (list []string) {
	for key := range l.keys {
		if _, ok := l.get(key); ok {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}

// compare asks the store all that can be asked, from memory and through the log.
func (l *redisLaw) compare(t *rapid.T, s *Store) {
	for what := RedisGet; what <= RedisHLen; what++ {
		for _, key := range redisLawKeys {
			q := &RedisQuery{What: what, Args: args([]string{key})}
			switch what {
			case RedisMGet, RedisExists:
				q.Args = append(q.Args, []byte("k1"), []byte("none"), []byte("k1"))
			case RedisHMGet:
				q.Args = append(q.Args, args([]string{"lang", "", "nosuch", "lang", "a", "zz"}[:rapid.IntRange(1, 6).Draw(t, "names")])...)
			}
			n, values, word := l.read(q)
			var got wire.RedisReply
			err := s.RedisRead(l.now, q, func(r *wire.RedisReply) { got.N, got.Values = r.N, slices.Clone(r.Values) })
			if word != "" && (err == nil || err.Word != word) || word == "" && (err != nil || got.N != n || !slices.Equal(shown(got.Values), values)) {
				t.Fatalf("read %d of %q: %d %q (%v); the model says %d %q (%s)", what, q.Args, got.N, shown(got.Values), err, n, values, word)
			}
		}
	}
	if used := s.Offheap()[0].Used; l.born && used != l.cost()+datasetCost+chosenSegments*segmentCost {
		t.Fatalf("%d bytes are accounted; the model counts %d", used, l.cost())
	}
	if n, err := s.RedisSize(); err != nil || n != uint64(len(l.keys)) {
		t.Fatalf("%d keys (%v); the model has %d", n, err, len(l.keys))
	}
	var found, want []string
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		keys, next, err := s.RedisScan(l.now, cursor, 1)
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		for _, k := range keys {
			found = append(found, fmt.Sprint(string(k.Key), k.Hash))
		}
		cursor = next
	}
	for key := range l.keys {
		if k, ok := l.get(key); ok {
			want = append(want, fmt.Sprint(key, k.hash != nil))
		}
	}
	slices.Sort(found)
	slices.Sort(want)
	if !slices.Equal(found, want) {
		t.Fatalf("scan found %q; the model has %q", found, want)
	}
}

func TestLawRedisKeysAgreeWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, twin := newStore(t), newStore(t)
		l := newRedisLaw(s, twin)
		for i := rapid.IntRange(1, 40).Draw(t, "steps"); i > 0; i-- {
			l.step(t)
			l.compare(t, s)
		}
		// The same log, the same bytes; and a snapshot holds all of it.
		bytesOf := snapshotOf(t, s)
		if !bytes.Equal(bytesOf, snapshotOf(t, twin)) {
			t.Fatalf("two stores differ after the same log")
		}
		again := newStore(t)
		if err := again.Restore(bytes.NewReader(bytesOf)); err != nil {
			t.Fatalf("restore: %v", err)
		}
		l.compare(t, again)
		l.stores = []*Store{s, again}
		for i := 5; i > 0; i-- {
			l.step(t)
			l.compare(t, again)
		}
		if !bytes.Equal(snapshotOf(t, s), snapshotOf(t, again)) {
			t.Fatalf("a store that was restored went another way")
		}
	})
}

func TestRedisReadInTheLogAnswersInItsPlace(t *testing.T) {
	r := newRig(t, 1<<20)
	q := &RedisQuery{What: RedisGet, Args: args([]string{"k"})}
	empty := r.ok(r.apply(AppendRedisRead(nil, q, 1000)))
	if empty.Redis.Values[0] != nil || len(r.Datasets()) != 1 {
		t.Fatalf("a read made something: %q, %d datasets", empty.Redis.Values, len(r.Datasets()))
	}
	r.ok(r.apply(AppendRedisSet(nil, &RedisSet{Key: []byte("k"), Value: []byte("one")})))
	got := r.ok(r.apply(AppendRedisRead(nil, q, 3)))
	r.ok(r.apply(AppendRedisSet(nil, &RedisSet{Key: []byte("k"), Value: []byte("four")})))
	if string(got.Redis.Values[0]) != "one" {
		t.Fatalf("the answer is %q: it was not copied", got.Redis.Values[0])
	}
	r.refused(wire.ErrBusy, r.apply(AppendRedisRead(nil, q, 3)))
}

func TestAnswerOfManyTimesTheSameValueIsRefused(t *testing.T) {
	r := newRig(t, 64<<20)
	r.ok(r.apply(AppendRedisSet(nil, &RedisSet{Key: []byte("k"), Value: make([]byte, 8<<20)})))
	q := &RedisQuery{What: RedisMGet, Args: slices.Repeat(args([]string{"k"}), 9)}
	err := r.RedisRead(r.now, q, func(*wire.RedisReply) { t.Error("answered") })
	if err == nil || err.Word != wire.ErrTooBig {
		t.Fatalf("refusal is %v; want %s", err, wire.ErrTooBig)
	}
}

func TestHashIsBounded(t *testing.T) {
	r := newRig(t, 1<<30)
	value := string(make([]byte, 8<<20))
	for _, f := range []string{"a", "b", "c"} {
		r.ok(r.apply(AppendRedisHSet(nil, []byte("h"), args([]string{f, value}), false)))
	}
	used := r.used()
	out := r.apply(AppendRedisHSet(nil, []byte("h"), args([]string{"d", value}), false))
	r.refused(wire.ErrTooBig, out)
	if r.used() != used || !strings.Contains(out.Err.Text, "key") {
		t.Fatalf("%v, %d bytes of %d", out.Err, r.used(), used)
	}
}

func TestSessionsAndRedisKeysDoNotMeet(t *testing.T) {
	r := newRig(t, 1<<20)
	redis := []byte(RedisDataset)
	r.refused(wire.ErrConflict, r.apply(AppendOpen(nil, &wire.Open{Dataset: redis, LockMode: []byte("none")})))
	r.ok(r.apply(AppendRedisSet(nil, &RedisSet{Key: []byte("k"), Value: []byte("v")})))
	w := r.write(nodeA, "k", wire.Token{})
	w.Dataset = redis
	r.refused(wire.ErrConflict, r.apply(AppendCommit(nil, &wire.Commit{Write: w, Set: attrs("", "x")})))
	w.Seq++
	w.Key = []byte("other")
	r.seq[nodeA]++
	r.refused(wire.ErrConflict, r.apply(AppendCreate(nil, &wire.Create{Write: w, Set: attrs("a", "x")})))
	r.refused(wire.ErrConflict, r.apply(AppendTouch(nil, redis, []Touch{{Key: []byte("k"), When: 1}})))
	if err := r.View(redis, []byte("k"), func(*Record) {}); err == nil || err.Word != wire.ErrConflict {
		t.Fatalf("a Redis key was read as a session: %v", err)
	}
}

func TestScanMeetsEveryKeyThatStays(t *testing.T) {
	r := newRig(t, 64<<20)
	set := func(i int) {
		r.Apply(r.now, AppendRedisSet(nil, &RedisSet{Key: fmt.Appendf(nil, "key:%d", i)}))
	}
	const stay = 3000
	for i := range stay {
		set(i)
	}
	seen := map[string]int{}
	made, calls := stay, 0
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		keys, next, err := r.RedisScan(r.now, cursor, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) > 10 || next >= 1<<53 {
			t.Fatalf("%d keys at once, cursor %d", len(keys), next)
		}
		for _, k := range keys {
			seen[string(k.Key)]++
		}
		cursor = next
		calls++
		switch { // tables split first, and shrink later
		case calls < 100:
			for range 500 {
				set(made)
				made++
			}
		case calls == 200:
			for i := stay; i < made; i++ {
				r.Apply(r.now, AppendRedisDelete(nil, [][]byte{fmt.Appendf(nil, "key:%d", i)}, false))
			}
		}
	}
	for i := range stay {
		if n := seen[fmt.Sprintf("key:%d", i)]; n != 1 {
			t.Fatalf("key %d came %d times", i, n)
		}
	}
}

func TestMadeUpCursorsAreHarmless(t *testing.T) {
	r := newRig(t, 1<<20)
	if keys, next, err := r.RedisScan(r.now, 12345, 10); len(keys) != 0 || next != 0 || err != nil {
		t.Fatalf("an empty cluster: %d keys, cursor %d, %v", len(keys), next, err)
	}
	r.ok(r.apply(AppendRedisSet(nil, &RedisSet{Key: []byte("k")})))
	for _, cursor := range []uint64{1, 1<<48 - 1, 1 << 48, 31<<48 | 0xffffffffffff, 32 << 48, 1<<64 - 1} {
		for n := 0; cursor != 0; n++ {
			var err *wire.Error
			if _, cursor, err = r.RedisScan(r.now, cursor, 1); err != nil || n > 100 {
				t.Fatalf("call %d: %v", n, err)
			}
		}
	}
}
