package stripe

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// nothing is a machine that does nothing: what is measured is this room.
type nothing struct{}

func (nothing) Knows([]byte) bool                                          { return true }
func (nothing) Asked([]byte) bool                                          { return true }
func (nothing) Apply(store.Time, []byte) wire.Outcome                      { return wire.Outcome{} }
func (nothing) Crowded() bool                                              { return false }
func (nothing) Hurried() bool                                              { return false }
func (nothing) GiveUp(int64) int                                           { return 0 }
func (nothing) Now() store.Time                                            { return 0 }
func (nothing) Index() uint64                                              { return 0 }
func (nothing) Forgotten() [][]byte                                        { return nil }
func (nothing) Changes(uint64, store.Time, func(store.Change) error) error { return nil }
func (nothing) Snapshot() view                                             { return &ledgerView{} }
func (nothing) Restore(io.Reader) error                                    { return nil }
func (nothing) Verify(io.Reader) error                                     { return nil }

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

// BenchmarkFailover ends the active server of three, as a killed process ends,
// and measures until another one has agreed to a change; at each of 20 rounds.
//
//	go test -run '^$' -bench Failover -benchtime 1x ./internal/stripe
func BenchmarkFailover(b *testing.B) {
	for _, heartbeat := range []time.Duration{300 * time.Millisecond, 150 * time.Millisecond} {
		b.Run(heartbeat.String(), func(b *testing.B) {
			c := newCluster(b, 3, Config{Timers: Timers{Heartbeat: heartbeat}, Logger: slog.New(slog.DiscardHandler)})
			c.form()
			stop := c.writers(4)
			var took []time.Duration
			for range 20 {
				a := c.settle()
				began := time.Now()
				c.kill(a)
				c.do(fmt.Sprint("round-", len(took)))
				took = append(took, time.Since(began))
				c.start(a)
			}
			stop()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "median-ms")
			b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "worst-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkThree measures what three servers agree on, with an fsync on each.
func BenchmarkThree(b *testing.B) {
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			c := newCluster(b, 3, Config{Logger: slog.New(slog.DiscardHandler)})
			c.form()
			s := c.servers[c.active()]
			op := make([]byte, 1024)
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range callers {
				wg.Go(func() {
					for k := w; k < b.N; k += callers {
						if _, err := do(s, string(op)); err != nil {
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
