package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// replicated compares SET where acknowledged means on the disks of two of three
// servers: ours, etcd, and NATS JetStream with a sync for each write. Each has three
// processes; while one works, the others rest.
func replicated(ctx context.Context, b *bench) (err error) {
	peers := filepath.Join(b.temp, "peers")
	build := exec.CommandContext(ctx, "go", "build", "-o", peers, ".")
	build.Dir = "peers"
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the peers: %w\n%s", err, out)
	}
	var ends []func()
	defer func() {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i]()
		}
	}()
	s, err := b.tc.startTriple(ctx, b.dir("triple"))
	if err != nil {
		return err
	}
	ends = append(ends, s.kill)
	own, err := newOwnKeysOf(ctx, s.node)
	if err != nil {
		return err
	}
	ends = append(ends, func() { own.c.Close() })
	etcd, err := startEtcd(ctx, peers, b.dir("etcd"))
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	ends = append(ends, etcd.end)
	nats, err := startNATS(ctx, peers, b.dir("nats"))
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	ends = append(ends, nats.end)
	t := b.report.table("SET of 1 KiB, three servers, acknowledged means on two disks",
		"Ours with durability every-write through `client`; etcd v3.6.5 through its client; NATS 2.12.1 with a JetStream key-value bucket of three replicas, file storage and `sync_interval: always`. Three processes each, all on one machine and one disk. Operations per second.",
		"callers", "terracotta", "p50 / p99", "etcd", "p50 / p99", "NATS", "p50 / p99", "ratio to the better", "bar")
	loads := []load{{"terracotta", nil, own.set}, {"etcd", nil, etcd.set}, {"NATS", nil, nats.set}}
	for _, callers := range b.some(1, 16, 64, 256) {
		samples, err := inTurn(ctx, loads, callers, b.rounds, b.length)
		if err != nil {
			return err
		}
		w := 1 + best(samples[1:])
		bar := 0.0
		if callers == 64 {
			bar = 3
		}
		t.add(fmt.Sprint(callers), rate(samples[0]), tails(samples[0]), rate(samples[1]), tails(samples[1]), rate(samples[2]), tails(samples[2]),
			fmt.Sprintf("%.2f", ratio(samples[0], samples[w])), barText(bar))
	}
	return nil
}

// trio is three servers of a peer with a client.
type trio struct {
	servers []*process
	set     func(ctx context.Context, caller, i int) error
	close   func()
}

func (t *trio) end() {
	if t.close != nil {
		t.close()
	}
	for _, p := range t.servers {
		_ = p.kill() // one that has ended is as good
	}
}

// startTrio gives start free addresses: three for clients, then three for the servers themselves.
func startTrio(start func(t *trio, list []string) error) (*trio, error) {
	t := &trio{}
	list, err := addrs(2 * triples)
	if err == nil {
		err = start(t, list)
	}
	if err != nil {
		t.end()
	}
	return t, err
}

// addrs returns free addresses.
func addrs(n int) (list []string, err error) {
	for range n {
		a, err := freeAddr()
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// until repeats what must succeed once a server is ready.
func until(ctx context.Context, what func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		one, end := context.WithTimeout(ctx, 5*time.Second)
		err := what(one)
		end()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func startEtcd(ctx context.Context, binary, dir string) (*trio, error) {
	return startTrio(func(t *trio, list []string) error {
		var cluster []string
		for i := range triples {
			cluster = append(cluster, fmt.Sprintf("e%d=http://%s", i, list[triples+i]))
		}
		for i := range triples {
			p, err := start(list[i], nil, binary, "etcd", "--name", fmt.Sprintf("e%d", i), "--data-dir", filepath.Join(dir, fmt.Sprint(i)),
				"--listen-client-urls", "http://"+list[i], "--advertise-client-urls", "http://"+list[i],
				"--listen-peer-urls", "http://"+list[triples+i], "--initial-advertise-peer-urls", "http://"+list[triples+i],
				"--initial-cluster", strings.Join(cluster, ","), "--log-level", "error", "--quota-backend-bytes", "8589934592")
			if err != nil {
				return err
			}
			t.servers = append(t.servers, p)
		}
		c, err := clientv3.New(clientv3.Config{Endpoints: list[:triples], DialTimeout: 30 * time.Second, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		t.close = func() { c.Close() }
		value := string(make([]byte, valueSize))
		t.set = func(ctx context.Context, caller, i int) error {
			_, err := c.Put(ctx, fmt.Sprintf("key:%012d", key(caller, i)), value)
			return err
		}
		err = until(ctx, func(ctx context.Context) error { return t.set(ctx, 0, 0) })
		if err != nil {
			err = errors.Join(err, errors.New(lastLines(t.servers[0].log.String())))
		}
		return err
	})
}

func startNATS(ctx context.Context, binary, dir string) (*trio, error) {
	return startTrio(func(t *trio, list []string) error {
		var routes []string
		for _, a := range list[triples:] {
			routes = append(routes, "nats://"+a)
		}
		for i := range triples {
			config := filepath.Join(dir, fmt.Sprintf("%d.conf", i))
			doc := fmt.Sprintf("server_name: n%d\nlisten: %q\njetstream { store_dir: %q, sync_interval: always }\ncluster { name: bench, listen: %q, routes: [ %q ] }\n",
				i, list[i], filepath.Join(dir, fmt.Sprint(i)), list[triples+i], strings.Join(routes, `", "`))
			doc = strings.ReplaceAll(doc, `\"`, `"`)
			if err := os.WriteFile(config, []byte(doc), 0o644); err != nil {
				return err
			}
			p, err := start(list[i], nil, binary, "nats", config)
			if err != nil {
				return err
			}
			t.servers = append(t.servers, p)
		}
		var conn *nats.Conn
		if err := until(ctx, func(context.Context) (err error) {
			conn, err = nats.Connect(strings.Join([]string{"nats://" + list[0], "nats://" + list[1], "nats://" + list[2]}, ","))
			return err
		}); err != nil {
			return err
		}
		t.close = conn.Close
		js, err := conn.JetStream(nats.MaxWait(30 * time.Second))
		if err != nil {
			return err
		}
		var kv nats.KeyValue
		if err := until(ctx, func(context.Context) (err error) {
			kv, err = js.CreateKeyValue(&nats.KeyValueConfig{Bucket: "bench", Replicas: triples, Storage: nats.FileStorage})
			return err
		}); err != nil {
			return errors.Join(err, errors.New(lastLines(t.servers[0].log.String())))
		}
		value := make([]byte, valueSize)
		t.set = func(_ context.Context, caller, i int) error {
			_, err := kv.Put(fmt.Sprintf("key-%012d", key(caller, i)), value)
			return err
		}
		return nil
	})
}
