package stripe

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

var sessionsFlag = flag.Int("sessions", 1_000_000, "sessions of 1 KiB for BenchmarkMillion")

// herd writes sessions of 1 KiB in eight attributes with 64 callers.
type herd struct {
	s        *Stripe
	st       *store.Store
	sessions int
	seq      [64]uint64
}

func (h *herd) write(caller int) wire.Write {
	h.seq[caller]++
	seq := h.seq[caller]
	return wire.Write{Dataset: []byte("d"), Node: wire.NodeID{byte(caller + 1)}, Seq: seq, Low: seq}
}

// each runs f in every caller and waits for all.
func (h *herd) each(f func(caller int)) {
	var wait sync.WaitGroup
	for c := range h.seq {
		wait.Go(func() { f(c) })
	}
	wait.Wait()
}

func (h *herd) fill(b *testing.B) {
	must(b, h.s, string(store.AppendConfigure(nil, &wire.Cluster{Name: "C", Stripes: []wire.StripeConfig{{
		Servers:          []wire.ServerConfig{{Name: "tc1", Host: "tc1", Port: 9410, GroupPort: 9430}},
		OffheapResources: []wire.OffheapResource{{Name: "main", Size: 64 << 30}},
		DataDirectories:  []wire.DataDirectory{{Name: "P", Path: "/data", Platform: true}},
		FailoverPriority: "availability",
	}}})))
	must(b, h.s, string(store.AppendOpen(nil, &wire.Open{Dataset: []byte("d"), LockMode: []byte("none")})))
	h.each(func(caller int) {
		c := &wire.Create{Idle: time.Hour}
		for i := range 8 {
			c.Set = append(c.Set, wire.Attribute{Name: fmt.Appendf(nil, "attribute-%d", i), Value: []byte(strings.Repeat("x", 128))})
		}
		must(b, h.s, string(store.AppendJoin(nil, &wire.Join{Node: wire.NodeID{byte(caller + 1)}, Generation: 1, Low: 1})))
		for i := caller; i < h.sessions; i += len(h.seq) {
			c.Write = h.write(caller)
			c.Key = fmt.Appendf(nil, "abc.%022d", i)
			if o, err := do(h.s, string(store.AppendCreate(nil, c))); err != nil || o.Err != nil {
				b.Error(err, o.Err)
				return
			}
		}
	})
}

// sets changes one attribute of one session after the other until stop, and
// returns how many changes there were a second.
func (h *herd) sets(b *testing.B, stop func() bool) float64 {
	var done atomic.Int64
	begin := time.Now()
	h.each(func(caller int) {
		c := &wire.Commit{Idle: wire.KeepIdle, Set: []wire.Attribute{{Name: []byte("attribute-3"), Value: []byte(strings.Repeat("y", 128))}}}
		for i := caller; !stop(); i += 7919 * len(h.seq) {
			c.Write = h.write(caller)
			c.Key = fmt.Appendf(nil, "abc.%022d", i%h.sessions)
			c.Token = wire.Token{Term: 1, Counter: h.seq[caller], Index: h.st.Index()}
			if o, err := do(h.s, string(store.AppendCommit(nil, c))); err != nil || o.Err != nil {
				b.Error(err, o.Err)
				return
			}
			done.Add(1)
		}
	})
	return float64(done.Load()) / time.Since(begin).Seconds()
}

// BenchmarkMillion tells, with a million sessions of 1 KiB: by how much a
// snapshot slows changes down (medians of turns), and how long a restart takes,
// from the snapshot and the log behind it. Run it with -benchtime 1x.
func BenchmarkMillion(b *testing.B) {
	for _, d := range []Durability{EveryWrite, EverySecond} {
		b.Run(string(d), func(b *testing.B) {
			cfg := Config{Dir: b.TempDir(), Durability: EverySecond, Logger: slog.New(slog.DiscardHandler)}
			open := func() *herd {
				h := &herd{st: store.New(), sessions: *sessionsFlag}
				h.s = startOn(b, cfg, parts{}, storeMachine{h.st})
				ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
				defer cancel()
				if err := h.s.Form(ctx); err != nil {
					b.Fatal(err)
				}
				return h
			}
			h := open()
			h.fill(b)
			seq := h.seq
			h.s.Close()
			cfg.Durability = d
			h = open()
			h.seq = seq
			b.ResetTimer()
			var slow []float64
			var quiet, during, took []float64
			for range 3 {
				end := time.Now().Add(3 * time.Second)
				q := h.sets(b, func() bool { return time.Now().After(end) })
				var over atomic.Bool
				var wrote time.Duration
				go func() {
					begin := time.Now()
					if err := h.s.snapshot(); err != nil {
						b.Error(err)
					}
					wrote = time.Since(begin)
					over.Store(true)
				}()
				n := h.sets(b, over.Load)
				quiet, during, slow = append(quiet, q), append(during, n), append(slow, q/n)
				took = append(took, wrote.Seconds())
			}
			size := h.s.fsm.size.Load()
			h.s.Close()
			begin := time.Now()
			h = open()
			b.ReportMetric(time.Since(begin).Seconds(), "restart-s")
			b.ReportMetric(median(slow), "slower")
			b.ReportMetric(median(quiet), "quiet-ops/s")
			b.ReportMetric(median(during), "snapshot-ops/s")
			b.ReportMetric(median(took), "snapshot-s")
			b.ReportMetric(float64(size>>20), "MiB")
			h.s.Close()
		})
	}
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
