package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// A session of the memory benches: 1 KiB in eight attributes.
const (
	attributesEach = 8
	attributeSize  = 128
	writers        = 128 // that fill a server at the same time
)

var attributeNames = [attributesEach]string{"attribute-1", "attribute-2", "attribute-3", "attribute-4",
	"attribute-5", "attribute-6", "attribute-7", "attribute-8"}

func sessionKey(i int) string { return fmt.Sprintf("session:%016d", i) }

// fill calls create for each number below n, on many goroutines.
func fill(n int, create func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var fault error
	for range writers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := create(i); err != nil {
					next.Store(int64(n))
					mu.Lock()
					fault = errors.Join(fault, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return fault
}

// fillOurs creates n sessions.
func fillOurs(ctx context.Context, c *client.Client, n int) error {
	set := make([]wire.Attribute, attributesEach)
	for i := range set {
		set[i] = wire.Attribute{Name: []byte(attributeNames[i]), Value: make([]byte, attributeSize)}
	}
	return fill(n, func(i int) error {
		w := wire.Create{Idle: time.Hour, Set: set}
		w.Dataset, w.Key = dataset, []byte(sessionKey(i))
		_, err := c.Create(ctx, &w)
		return err
	})
}

// fillRedis makes n hashes that expire.
func fillRedis(ctx context.Context, addr string, n int) error {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		return err
	}
	defer c.Close()
	value := string(make([]byte, attributeSize))
	return fill(n, func(i int) error {
		cmd := c.B().Hset().Key(sessionKey(i)).FieldValue()
		for _, name := range attributeNames {
			cmd = cmd.FieldValue(name, value)
		}
		for _, answer := range c.DoMulti(ctx, cmd.Build(), c.B().Expire().Key(sessionKey(i)).Seconds(3600).Build()) {
			if err := answer.Error(); err != nil {
				return err
			}
		}
		return nil
	})
}

// listpack lets Redis keep a session's hash in one block, its most compact form;
// as it comes, values above 64 bytes make a hash table of each session.
var listpack = []string{"--hash-max-listpack-value", fmt.Sprint(attributeSize)}

// memory measures what sessions take, and how long a restart with them takes.
func memory(ctx context.Context, b *bench) error {
	t := b.report.table(fmt.Sprintf("Memory and restart, %d sessions of 1 KiB in 8 attributes", b.sessions),
		"Growth of the process's resident memory (RSS), per session, index and expiry included. Restart: from the process's start until a session is read, "+
			"after an orderly stop; ours from its log and snapshots, Redis from its append-only file. The ratio is ours divided by the peer's: smaller is better.",
		"server", "bytes per session", "ratio", "bar", "filled at", "restart", "ratio")
	ours, err := b.fillAndRestartOurs(ctx)
	if err != nil {
		return err
	}
	t.add("terracotta", fmt.Sprintf("%.0f", ours.each), "", "", thousands(ours.rate)+"/s", seconds(ours.restart), "")
	for _, peer := range []struct {
		name     string
		settings []string
	}{{"Redis hashes, as it comes", nil}, {"Redis hashes, listpack", listpack}} {
		theirs, err := b.fillAndRestartRedis(ctx, peer.settings)
		if err != nil {
			return err
		}
		bar := "≤ 1.3"
		t.add(peer.name, fmt.Sprintf("%.0f", theirs.each), fmt.Sprintf("%.2f", ours.each/theirs.each), bar,
			thousands(theirs.rate)+"/s", seconds(theirs.restart), fmt.Sprintf("%.2f", ours.restart.Seconds()/theirs.restart.Seconds()))
	}
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// filled is what a server with sessions has shown.
type filled struct {
	each    float64 // bytes per session
	rate    float64 // sessions created per second
	restart time.Duration
}

// growth is what the sessions have added to the process's memory.
func (b *bench) growth(p *process, before uint64, began time.Time) (filled, error) {
	took := time.Since(began)
	after, err := p.resident()
	return filled{each: (float64(after) - float64(before)) / float64(b.sessions), rate: float64(b.sessions) / took.Seconds()}, err
}

func (b *bench) fillAndRestartOurs(ctx context.Context) (f filled, err error) {
	s, err := b.tc.start(ctx, b.dir("terracotta"), "every-second")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	c, err := s.node(ctx)
	if err != nil {
		return f, err
	}
	before, err := s.resident()
	if err != nil {
		return f, errors.Join(err, c.Close())
	}
	began := time.Now()
	err = fillOurs(ctx, c, b.sessions)
	if err == nil {
		f, err = b.growth(s.process, before, began)
	}
	if err = errors.Join(err, c.Close()); err != nil {
		return f, err
	}
	if err := s.stop(); err != nil {
		return f, err
	}
	began = time.Now()
	if err := s.begin(ctx, s.addr); err != nil {
		return f, err
	}
	if c, err = s.node(ctx); err != nil {
		return f, err
	}
	defer c.Close()
	got, err := c.Load(ctx, &wire.Load{Dataset: dataset, Key: []byte(sessionKey(b.sessions - 1)), Mode: wire.LoadRead})
	if err == nil && len(got.Attributes) != attributesEach {
		err = errors.New("the restart has changed a session")
	}
	f.restart = time.Since(began)
	return f, err
}

func (b *bench) fillAndRestartRedis(ctx context.Context, settings []string) (f filled, err error) {
	dir := b.dir("redis")
	settings = append([]string{"--appendonly", "yes", "--appendfsync", "everysec"}, settings...)
	r, err := startRedis(ctx, dir, settings...)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	before, err := r.resident()
	if err != nil {
		return f, err
	}
	began := time.Now()
	if err = fillRedis(ctx, r.addr, b.sessions); err != nil {
		return f, err
	}
	if f, err = b.growth(r, before, began); err != nil {
		return f, err
	}
	if err := r.stop(); err != nil {
		return f, err
	}
	began = time.Now()
	again, err := startRedisAt(ctx, r.addr, dir, settings...)
	if err != nil {
		return f, err
	}
	r = again
	f.restart = time.Since(began)
	return f, nil
}
