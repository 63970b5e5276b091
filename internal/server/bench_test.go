package server_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// The benchmarks keep a window of pipelined commands on one connection, as our
// client does with as many callers. The peers stand in bench/.

func benchmarkPipeline(b *testing.B, commandOf func(n *node, ticket wire.Token) string) {
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			_, n := carts(b, testcluster.Logger(slog.New(slog.DiscardHandler)))
			value := make([]byte, 1024)
			w := wire.Create{Write: n.write("k", wire.Token{}), Set: []wire.Attribute{{Name: []byte("a"), Value: value}}}
			r := n.doArgs(w.AppendArgs(nil))
			if r.Type == '-' {
				b.Fatal(text(r))
			}
			created, err := wire.ParseOutcome(flat(r))
			if err != nil {
				b.Fatal(err)
			}
			_ = n.nc.SetDeadline(time.Time{})
			rd := resp.NewReader(n.nc, resp.Limits{})
			b.ReportAllocs()
			b.ResetTimer()
			for sent := 0; sent < b.N; {
				burst := min(callers, b.N-sent)
				var out []byte
				for range burst {
					out = append(out, commandOf(n, created.Token)...)
				}
				if _, err := n.nc.Write(out); err != nil {
					b.Fatal(err)
				}
				for range burst {
					r, err := rd.ReadReply()
					if err != nil || r.Type == '-' {
						b.Fatal(text(r), err)
					}
				}
				sent += burst
			}
		})
	}
}

func BenchmarkPing(b *testing.B) {
	benchmarkPipeline(b, func(*node, wire.Token) string { return "*1\r\n$4\r\nPING\r\n" })
}

func BenchmarkLoad(b *testing.B) {
	var load string
	benchmarkPipeline(b, func(n *node, _ wire.Token) string {
		if load == "" {
			load = command(wire.CmdLoad, "carts", "k", n.id.String(), "R")
		}
		return load
	})
}

func BenchmarkCommit(b *testing.B) {
	value := make([]byte, 1024)
	var args [][]byte
	benchmarkPipeline(b, func(n *node, ticket wire.Token) string {
		w := wire.Commit{Write: n.write("k", ticket), Idle: wire.KeepIdle, Set: []wire.Attribute{{Name: []byte("a"), Value: value}}}
		w.Low = max(1, n.seq-min(n.seq-1, 256))
		args = w.AppendArgs(args[:0])
		return string(resp.AppendCommand(nil, args...))
	})
}
