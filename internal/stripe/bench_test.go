package stripe

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// nothing is a machine that does nothing: what is measured is this room.
type nothing struct{}

func (nothing) Apply(store.Time, []byte) wire.Outcome { return wire.Outcome{} }
func (nothing) Now() store.Time                       { return 0 }
func (nothing) Snapshot() view                        { return &ledgerView{} }
func (nothing) Restore(io.Reader) error               { return nil }

// BenchmarkPropose proposes operations of 1 KiB, each caller one after the other.
func BenchmarkPropose(b *testing.B) {
	for _, d := range []Durability{MemoryOnly, EveryWrite, EverySecond} {
		for _, callers := range []int{1, 16, 64, 256} {
			b.Run(fmt.Sprintf("%s/%d", d, callers), func(b *testing.B) {
				cfg := Config{Durability: d, Logger: slog.New(slog.DiscardHandler)}
				if d != MemoryOnly {
					cfg.Dir = b.TempDir()
				}
				s := startOn(b, cfg, parts{}, nothing{})
				form(b, s)
				op := make([]byte, 1024)
				b.SetBytes(int64(len(op)))
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for c := range callers {
					n := b.N / callers
					if c < b.N%callers {
						n++
					}
					wg.Go(func() {
						done := make(chan error, 1)
						answer := func(_ wire.Outcome, err error) { done <- err }
						for range n {
							s.Propose(op, answer)
							if err := <-done; err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
			})
		}
	}
}

// BenchmarkConfirm asks for a confirmation beside a writer that syncs all the
// time: as the only voter, and by checks and leases.
func BenchmarkConfirm(b *testing.B) {
	for _, sole := range []bool{true, false} {
		b.Run(fmt.Sprintf("sole=%v", sole), func(b *testing.B) {
			cfg := Config{Dir: b.TempDir(), Durability: EveryWrite, Logger: slog.New(slog.DiscardHandler)}
			s := startOn(b, cfg, parts{}, nothing{})
			form(b, s)
			s.sole.Store(sole)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for op := make([]byte, 1024); ; {
					select {
					case <-stop:
						return
					default:
						do(s, string(op))
					}
				}
			})
			var worst time.Duration
			for b.Loop() {
				begin := time.Now()
				if err := s.Confirm(b.Context()); err != nil {
					b.Fatal(err)
				}
				worst = max(worst, time.Since(begin))
			}
			b.ReportMetric(float64(worst.Microseconds()), "worst-µs")
			close(stop)
			wg.Wait()
		})
	}
}

// BenchmarkStart opens a stripe until it is active, with 50 MiB of log to apply.
func BenchmarkStart(b *testing.B) {
	cfg := Config{Dir: b.TempDir(), Durability: EverySecond, Logger: slog.New(slog.DiscardHandler)}
	s := startOn(b, cfg, parts{}, nothing{})
	form(b, s)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for op := string(make([]byte, 1024)); s.fsm.bytes.Load() < 50<<20; {
				do(s, op)
			}
		})
	}
	wg.Wait()
	s.Close()
	for b.Loop() {
		s := startOn(b, cfg, parts{}, nothing{})
		form(b, s)
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}
