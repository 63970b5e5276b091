package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

const (
	keyCount  = 4096
	valueSize = 1024
)

// ownKeys is a client of ours with sessions of one attribute to read and write.
type ownKeys struct {
	c       *client.Client
	keys    [][]byte
	tickets []wire.Token
	value   []byte
	calls   []ownCall // of each caller
}

// maxCallers bounds the callers of one load.
const maxCallers = 4096

// ownCall is what a caller uses again for every command, as a request of websessions does.
type ownCall struct {
	load wire.Load
	room [1]wire.Attribute
}

func newOwnKeys(ctx context.Context, s *server) (*ownKeys, error) { return newOwnKeysOf(ctx, s.node) }

func newOwnKeysOf(ctx context.Context, node func(context.Context) (*client.Client, error)) (*ownKeys, error) {
	c, err := node(ctx)
	if err != nil {
		return nil, err
	}
	k := &ownKeys{c: c, value: make([]byte, valueSize), calls: make([]ownCall, maxCallers)}
	for i := range keyCount {
		w := wire.Create{Set: []wire.Attribute{{Name: attribute, Value: k.value}}}
		w.Dataset, w.Key = dataset, fmt.Appendf(nil, "key:%012d", i)
		out, err := c.Create(ctx, &w)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		k.keys = append(k.keys, w.Key)
		k.tickets = append(k.tickets, out.Token)
	}
	return k, nil
}

var attribute = []byte("a")

// set commits the attribute. Callers use keys of their own, and each key's
// commits share one ticket, as those of one request do.
func (k *ownKeys) set(ctx context.Context, caller, i int) error {
	n := key(caller, i)
	w := wire.Commit{Idle: wire.KeepIdle, Set: []wire.Attribute{{Name: attribute, Value: k.value}}}
	w.Dataset, w.Key, w.Token = dataset, k.keys[n], k.tickets[n]
	out, err := k.c.Commit(ctx, &w)
	if err == nil && len(out.Dropped) > 0 {
		err = errors.New("a commit was dropped")
	}
	return err
}

func (k *ownKeys) get(ctx context.Context, caller, i int) error {
	own := &k.calls[caller]
	own.load = wire.Load{Dataset: dataset, Key: k.keys[key(caller, i)], Mode: wire.LoadRead, Room: own.room[:]}
	s, err := k.c.Load(ctx, &own.load)
	if err == nil && (len(s.Attributes) != 1 || len(s.Attributes[0].Value) != valueSize) {
		err = errors.New("a load has brought something else")
	}
	return err
}

// key spreads callers over all keys: with up to 256 of them no two meet.
func key(caller, i int) int { return (caller*16 + i%16) % keyCount }

// redisKeys is a rueidis client with strings to read and write.
type redisKeys struct {
	c     rueidis.Client
	keys  []string
	value string
}

// rueidisSettings are the two worth having: as it comes, and what is best with
// very many callers (a timer gathers commands, one connection carries all).
var rueidisSettings = []struct {
	name string
	o    rueidis.ClientOption
}{
	{"as it comes", rueidis.ClientOption{}},
	{"20 µs flush delay, one connection", rueidis.ClientOption{MaxFlushDelay: 20 * time.Microsecond, PipelineMultiplex: -1}},
}

func newRedisKeys(ctx context.Context, addr string, o rueidis.ClientOption) (*redisKeys, error) {
	o.InitAddress, o.DisableCache, o.ForceSingleClient = []string{addr}, true, true
	c, err := rueidis.NewClient(o)
	if err != nil {
		return nil, err
	}
	k := &redisKeys{c: c, value: string(make([]byte, valueSize))}
	for i := range keyCount {
		k.keys = append(k.keys, fmt.Sprintf("key:%012d", i))
		if err := k.set(ctx, i/16, i); err != nil {
			c.Close()
			return nil, err
		}
	}
	return k, nil
}

func (k *redisKeys) set(ctx context.Context, caller, i int) error {
	return k.c.Do(ctx, k.c.B().Set().Key(k.keys[key(caller, i)]).Value(k.value).Build()).Error()
}

func (k *redisKeys) get(ctx context.Context, caller, i int) error {
	s, err := k.c.Do(ctx, k.c.B().Get().Key(k.keys[key(caller, i)]).Build()).ToString()
	if err == nil && len(s) != valueSize {
		err = errors.New("a GET has brought something else")
	}
	return err
}

// pair is one server of ours and one Redis, with clients.
type pair struct {
	ours   *ownKeys
	theirs []*redisKeys
	own    *process
	redis  *process
	close  []func()
}

func newPair(ctx context.Context, b *bench, durability string, redis ...string) (p *pair, err error) {
	p = &pair{}
	defer func() {
		if err != nil {
			p.end()
		}
	}()
	s, err := b.tc.start(ctx, b.dir("terracotta"), durability)
	if err != nil {
		return p, err
	}
	p.own = s.process
	p.close = append(p.close, func() { _ = s.stop() })
	r, err := startRedis(ctx, b.dir("redis"), redis...)
	if err != nil {
		return p, err
	}
	p.redis = r
	p.close = append(p.close, func() { _ = r.stop() })
	if p.ours, err = newOwnKeys(ctx, s); err != nil {
		return p, err
	}
	p.close = append(p.close, func() { _ = p.ours.c.Close() })
	for _, setting := range rueidisSettings {
		k, err := newRedisKeys(ctx, r.addr, setting.o)
		if err != nil {
			return p, err
		}
		p.close = append(p.close, k.c.Close)
		p.theirs = append(p.theirs, k)
	}
	return p, nil
}

func (p *pair) end() {
	for i := len(p.close) - 1; i >= 0; i-- {
		p.close[i]()
	}
}

// loads returns ours, then Redis through each setting.
func (p *pair) loads(command string) []load {
	if command == "GET" {
		list := []load{{"terracotta", p.own, p.ours.get}}
		for i, k := range p.theirs {
			list = append(list, load{rueidisSettings[i].name, p.redis, k.get})
		}
		return list
	}
	list := []load{{"terracotta", p.own, p.ours.set}}
	for i, k := range p.theirs {
		list = append(list, load{rueidisSettings[i].name, p.redis, k.set})
	}
	return list
}

// keyValue compares SET and GET of 1 KiB without disk.
func keyValue(ctx context.Context, b *bench) error {
	p, err := newPair(ctx, b, "memory-only", "--appendonly", "no")
	if err != nil {
		return err
	}
	defer p.end()
	t := b.report.table("SET and GET of 1 KiB, one server, no disk",
		"Ours is a commit (SET) and a load (GET) of a session with one attribute of 1 KiB, through `client`; Redis gets `SET` and `GET` through the better of two rueidis settings at each load. Operations per second; CPU is processor time per operation, client and server together.",
		"command", "callers", "terracotta", "p50 / p99", "CPU", "Redis", "p50 / p99", "CPU", "rueidis setting", "ratio", "bar")
	for _, command := range b.commands() {
		for _, callers := range b.some(1, 4, 16, 64, 256) {
			bar := 0.9
			if command == "SET" {
				bar = 0.6
				if callers > 16 {
					bar = 0.4
				}
			}
			if err := b.compare(ctx, t, command, callers, bar, p.loads(command)); err != nil {
				return err
			}
		}
	}
	return nil
}

// onDisk compares SET where acknowledged means on disk.
func onDisk(ctx context.Context, b *bench) error {
	p, err := newPair(ctx, b, "every-write", "--appendonly", "yes", "--appendfsync", "always")
	if err != nil {
		return err
	}
	defer p.end()
	t := b.report.table("SET of 1 KiB, one server, acknowledged means on disk",
		"Ours with durability every-write, Redis with appendfsync always, both on the same file system. Operations per second.",
		"command", "callers", "terracotta", "p50 / p99", "CPU", "Redis", "p50 / p99", "CPU", "rueidis setting", "ratio", "bar")
	for _, callers := range b.some(1, 16, 64, 256) {
		bar := 0.0
		if callers == 64 {
			bar = 1
		}
		if err := b.compare(ctx, t, "SET", callers, bar, p.loads("SET")); err != nil {
			return err
		}
	}
	return nil
}

// compare runs the loads in turn and writes a line: ours against the best of the others.
func (b *bench) compare(ctx context.Context, t *table, command string, callers int, bar float64, loads []load) error {
	if b.alone {
		loads = loads[:1]
	}
	samples, err := inTurn(ctx, loads, callers, b.rounds, b.length)
	if err != nil {
		return err
	}
	if b.alone {
		t.add(command, fmt.Sprint(callers), rate(samples[0]), tails(samples[0]), perCall(samples[0]))
		return nil
	}
	w := 1 + best(samples[1:])
	t.add(command, fmt.Sprint(callers), rate(samples[0]), tails(samples[0]), perCall(samples[0]), rate(samples[w]), tails(samples[w]), perCall(samples[w]),
		loads[w].name, fmt.Sprintf("%.2f", ratio(samples[0], samples[w])), barText(bar))
	return nil
}
