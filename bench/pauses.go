package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// collectEvery is how often the server under load is made to collect garbage. By
// itself it does so a few times a second and less with a larger heap: a 99th
// percentile would take hours.
const collectEvery = 5 * time.Millisecond

// pauses compares the collector's pauses of a server with many sessions and of
// one without, under the same load.
func pauses(ctx context.Context, b *bench) error {
	tc := *b.tc
	var err error
	if tc.binary, err = buildWith(ctx, b.temp, "collector", collector); err != nil {
		return err
	}
	tc.profile = ""
	var loads [2]load
	var servers [2]*server
	for i := range servers {
		s, err := tc.start(ctx, b.dir("terracotta"), "memory-only", "GODEBUG=gctrace=1")
		if err != nil {
			return err
		}
		defer s.stop()
		servers[i] = s
		k, err := newOwnKeys(ctx, s)
		if err != nil {
			return err
		}
		defer k.c.Close()
		loads[i] = load{"SET and GET", s.process, func(ctx context.Context, caller, i int) error {
			if i%2 == 0 {
				return k.set(ctx, caller, i)
			}
			return k.get(ctx, caller, i)
		}}
		if i == 0 {
			if err := fillOurs(ctx, k.c, b.sessions); err != nil {
				return err
			}
		}
	}
	var all [2]histogram
	var samples [2][]sample
	var p50s, p99s []float64 // ratios, one per round
	for round := range max(b.rounds, 5) + 1 {
		var own [2]histogram
		for i, s := range servers {
			seen := len(s.log.String())
			end := s.collect(collectEvery)
			one, err := turn(ctx, loads[i], 16, 2*b.length)
			end()
			if err != nil {
				return err
			}
			own[i] = parsePauses(s.log.String()[seen:])
			if round > 0 { // the first warms up
				samples[i] = append(samples[i], one)
				all[i].merge(&own[i])
			}
		}
		if round > 0 {
			p50s = append(p50s, own[0].against(&own[1], 0.5))
			p99s = append(p99s, own[0].against(&own[1], 0.99))
		}
	}
	t := b.report.table(fmt.Sprintf("Pauses of the garbage collector, %d sessions against none", b.sessions),
		fmt.Sprintf("Two servers of ours under the same load (16 callers, SET and GET in turn), each in its turn made to collect every %v; a pause is when the collector stops all goroutines. ", collectEvery)+
			"The ratios are medians of the rounds'; that of p99 is wanted to be at most 1.2.",
		"server", "collections", "pause p50", "pause p99", "longest", "operations/s", "ratio of p50", "ratio of p99", "bar")
	for i, name := range []string{"with sessions", "empty"} {
		cells := []string{name, fmt.Sprint(all[i].count)}
		for _, q := range []float64{0.5, 0.99, 1} {
			cells = append(cells, micros(float64(all[i].quantile(q))))
		}
		cells = append(cells, rate(samples[i]))
		if i == 0 {
			cells = append(cells, fmt.Sprintf("%.2f", median(p50s)), fmt.Sprintf("%.2f", median(p99s)), "≤ 1.2")
		} else {
			cells = append(cells, "", "", "")
		}
		t.add(cells...)
	}
	return nil
}

// collect makes a server built with the collector collect again and again, until end is called.
func (s *server) collect(every time.Duration) (end func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				_ = s.cmd.Process.Signal(syscall.SIGUSR2) // one that has ended is noticed elsewhere
			}
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// against is the ratio of two quantiles.
func (h *histogram) against(o *histogram, q float64) float64 {
	return float64(h.quantile(q)) / float64(o.quantile(q))
}

// parsePauses reads lines such as "gc 7 @1.2s 1%: 0.04+2.1+0.01 ms clock, ...":
// all goroutines stand still during the first and the third number.
func parsePauses(trace string) (h histogram) {
	for l := range strings.Lines(trace) {
		if !strings.HasPrefix(l, "gc ") {
			continue
		}
		_, rest, _ := strings.Cut(l, ": ")
		var sweep, mark, end float64
		if n, _ := fmt.Sscanf(rest, "%f+%f+%f ms clock", &sweep, &mark, &end); n != 3 {
			continue
		}
		h.add(time.Duration((sweep + end) * 1e6))
	}
	return h
}
