package main

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// load is one way of doing the work that is compared: do is called by many
// callers at once, each with its number and the count of its calls.
type load struct {
	name   string
	server *process // that the work is done by, beside this process; nil = none
	do     func(ctx context.Context, caller, i int) error
}

// sample is what one turn has shown.
type sample struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // processor time of one call, on both ends
}

// turn runs l with callers for the given time.
func turn(ctx context.Context, l load, callers int, length time.Duration) (sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		over  atomic.Bool
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   histogram
		fault error
	)
	used := l.cpu()
	began := time.Now()
	timer := time.AfterFunc(length, func() { over.Store(true) })
	defer timer.Stop()
	for caller := range callers {
		wg.Go(func() {
			var own histogram
			var err error
			last := time.Now()
			for i := 0; !over.Load() && err == nil; i++ {
				if err = l.do(ctx, caller, i); err == nil {
					now := time.Now()
					own.add(now.Sub(last))
					last = now
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.merge(&own)
			if err != nil {
				over.Store(true)
				fault = errors.Join(fault, err)
			}
		})
	}
	wg.Wait()
	if fault != nil {
		return sample{}, fmt.Errorf("%s with %d callers: %w", l.name, callers, fault)
	}
	took := time.Since(began)
	used = l.cpu() - used
	return sample{float64(all.count) / took.Seconds(), all.quantile(0.5), all.quantile(0.99), used / time.Duration(max(1, all.count))}, nil
}

// cpu returns the processor time used so far by this process and the load's server.
func (l load) cpu() time.Duration {
	var own syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &own) // cannot fail for this process
	used := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	if l.server != nil {
		theirs, _ := l.server.cpu() // one that has ended is noticed elsewhere
		used += theirs
	}
	return used
}

// inTurn runs the loads one after the other, again and again: A B C A B C. What
// else the machine does then hits all of them. The first round warms up and does not count.
func inTurn(ctx context.Context, loads []load, callers, rounds int, length time.Duration) ([][]sample, error) {
	samples := make([][]sample, len(loads))
	for round := range rounds + 1 {
		for i, l := range loads {
			t := length
			if round == 0 {
				t = length / 4
			}
			s, err := turn(ctx, l, callers, t)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				samples[i] = append(samples[i], s)
			}
		}
	}
	return samples, nil
}

// medianOf returns the median of what f says of each sample.
func medianOf(list []sample, f func(sample) float64) float64 {
	v := make([]float64, len(list))
	for i, s := range list {
		v[i] = f(s)
	}
	return median(v)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func perSecond(s sample) float64 { return s.perSecond }

// ratio is the median of the rounds' ratios of throughput.
func ratio(ours, theirs []sample) float64 {
	v := make([]float64, len(ours))
	for i := range ours {
		v[i] = ours[i].perSecond / theirs[i].perSecond
	}
	return median(v)
}

// best returns the index of the list with the highest median throughput.
func best(lists [][]sample) int {
	b := 0
	for i := range lists {
		if medianOf(lists[i], perSecond) > medianOf(lists[b], perSecond) {
			b = i
		}
	}
	return b
}

// histogram counts durations in buckets whose width is a sixteenth of their value.
type histogram struct {
	count   uint64
	buckets [64 * 16]uint32
}

func (h *histogram) add(d time.Duration) {
	h.count++
	h.buckets[bucket(uint64(max(d, 0)))]++
}

func bucket(n uint64) int {
	if n < 16 {
		return int(n)
	}
	shift := bits.Len64(n) - 5
	return (shift+1)<<4 | int(n>>shift)&15
}

// middle returns a duration within a bucket.
func middle(i int) time.Duration {
	if i < 16 {
		return time.Duration(i)
	}
	shift := i>>4 - 1
	return time.Duration((uint64(16|i&15)<<1 | 1) << shift >> 1)
}

func (h *histogram) merge(o *histogram) {
	h.count += o.count
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}

func (h *histogram) quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	left := min(uint64(q*float64(h.count)), h.count-1) // with 1 it is the longest
	for i, n := range h.buckets {
		if uint64(n) > left {
			return middle(i)
		}
		left -= uint64(n)
	}
	return 0
}
