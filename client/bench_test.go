package client

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/terracotta-go/terracotta/internal/resp"
)

// echo answers GET-like commands with 1 KiB and all others with OK, many with
// one write, as our server does.
func echo(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	value := make([]byte, 1024)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				r := resp.NewReader(nc, resp.Limits{})
				var out []byte
				for {
					args, err := r.ReadCommand()
					if err != nil {
						return
					}
					switch string(args[0]) {
					case "HELLO":
						out = resp.AppendMapHeader(out, 3, 3)
						for _, s := range []string{"server", "redis", "version", "7.2.0"} {
							out = resp.AppendBulkString(out, s)
						}
						out = resp.AppendInt(resp.AppendBulkString(out, "proto"), 3)
					case "GET":
						out = resp.AppendBulk(out, value)
					default:
						out = resp.AppendSimple(out, "OK")
					}
					if !r.Buffered() || len(out) > 256<<10 {
						if _, err := nc.Write(out); err != nil {
							return
						}
						out = out[:0]
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// callers runs f b.N times on n goroutines.
func callers(b *testing.B, n int, f func() error) {
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkCalls runs us and rueidis, with its own settings and with those that
// are best with many callers, in turn. Read it as ratios.
func BenchmarkCalls(b *testing.B) {
	ctx := context.Background()
	key, value := []byte("key:000000000001"), make([]byte, 1024)
	text := rueidis.BinaryString(value)
	for _, n := range []int{1, 4, 16, 64, 256} {
		for _, cmd := range []string{"SET", "GET"} {
			b.Run(fmt.Sprintf("%s/%d/terracotta", cmd, n), func(b *testing.B) {
				c := newClient(b, Options{Hosts: []string{echo(b)}})
				args := [][]byte{[]byte(cmd), key, value}
				if cmd == "GET" {
					args = args[:2]
				}
				callers(b, n, func() error { _, err := c.Do(ctx, true, args...); return err })
			})
			for name, o := range map[string]rueidis.ClientOption{
				"rueidis":      {},
				"rueidis-20µs": {MaxFlushDelay: 20 * time.Microsecond, PipelineMultiplex: -1},
			} {
				b.Run(fmt.Sprintf("%s/%d/%s", cmd, n, name), func(b *testing.B) {
					o.InitAddress, o.DisableCache, o.ForceSingleClient = []string{echo(b)}, true, true
					c, err := rueidis.NewClient(o)
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(c.Close)
					callers(b, n, func() error {
						if cmd == "GET" {
							return c.Do(ctx, c.B().Get().Key(string(key)).Build()).Error()
						}
						return c.Do(ctx, c.B().Set().Key(string(key)).Value(text).Build()).Error()
					})
				})
			}
		}
	}
}
