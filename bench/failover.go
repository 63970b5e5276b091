package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// ways to lose an active server, and to get it back.
var losses = []struct {
	name    string
	bar     string
	lose    func(s *triple, i int) error
	recover func(ctx context.Context, s *triple, i int) error
}{
	{"kill -9", "median 800 ms, worst 1.5 s; fast: median 400 ms", func(s *triple, i int) error { return s.servers[i].process.kill() }, restarted},
	{"paused (SIGSTOP)", "", func(s *triple, i int) error { return s.servers[i].cmd.Process.Signal(syscall.SIGSTOP) },
		func(_ context.Context, s *triple, i int) error {
			return s.servers[i].cmd.Process.Signal(syscall.SIGCONT)
		}},
	{"stopped in order (SIGTERM)", "100 ms", func(s *triple, i int) error { return s.servers[i].cmd.Process.Signal(syscall.SIGTERM) },
		func(ctx context.Context, s *triple, i int) error {
			return errors.Join(s.servers[i].await(), restarted(ctx, s, i))
		}},
}

func restarted(ctx context.Context, s *triple, i int) error {
	return s.servers[i].begin(ctx, s.addrs[i])
}

// timers are the settings whose fail-over is measured.
var timerSettings = []struct {
	name string
	env  []string
}{
	{"safe (default)", nil},
	{"fast", []string{"TC_FAILOVER_TIMERS=fast"}},
}

// failOver measures how long no write is acknowledged when the active server is lost.
func failOver(ctx context.Context, b *bench) error {
	t := b.report.table("Fail-over of three servers",
		fmt.Sprintf("Three processes with consistency, every write on two disks; 4 callers write without pause through `client`. From the loss of the active server until the first write that was asked for after it is acknowledged, %d rounds each; the lost one comes back as a passive before the next round.", b.failovers),
		"timers", "loss", "median", "worst", "writes that failed", "bar")
	for _, setting := range timerSettings {
		s, err := b.tc.startTriple(ctx, b.dir("triple"), setting.env...)
		if err != nil {
			return err
		}
		if err := s.loseInEachWay(ctx, b.failovers, func(way int, took []time.Duration, failed uint64) {
			loss := losses[way]
			t.add(setting.name, loss.name, millis(took[len(took)/2]), millis(took[len(took)-1]), fmt.Sprint(failed), loss.bar)
		}); err != nil {
			return err
		}
	}
	return nil
}

// loseInEachWay tells how long it took in each round, sorted, and how many writes
// failed. The servers are gone afterwards.
func (s *triple) loseInEachWay(ctx context.Context, rounds int, tell func(way int, took []time.Duration, failed uint64)) error {
	defer s.kill()
	k, err := newOwnKeysOf(ctx, s.node)
	if err != nil {
		return err
	}
	defer k.c.Close()
	for way, loss := range losses {
		took, failed, err := s.loseActive(ctx, k, rounds, loss.lose, loss.recover)
		if err != nil {
			return fmt.Errorf("%s: %w", loss.name, err)
		}
		tell(way, took, failed)
	}
	return nil
}

func millis(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// loseActive loses the active server in each round and returns how long it took
// until a write was acknowledged again, sorted.
func (s *triple) loseActive(ctx context.Context, k *ownKeys, rounds int, lose func(*triple, int) error,
	recover func(context.Context, *triple, int) error) (took []time.Duration, failed uint64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var lost atomic.Int64 // when the active server was lost, in ns since began
	var fault atomic.Uint64
	began := time.Now()
	back := make(chan time.Duration, 1)
	done := make(chan struct{})
	const callers = 4
	for caller := range callers {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := 0; ctx.Err() == nil; i++ {
				at := lost.Load()
				err := k.set(ctx, caller, i)
				switch {
				case err != nil && ctx.Err() == nil:
					fault.Add(1)
				case err == nil && at != 0 && lost.CompareAndSwap(at, 0):
					back <- time.Since(began) - time.Duration(at)
				}
			}
		}()
	}
	defer func() {
		cancel()
		for range callers {
			<-done
		}
	}()
	for range rounds {
		i := -1
		for i < 0 { // on a busy machine an active server may cease to be one meanwhile
			if err := s.inService(ctx); err != nil {
				return nil, 0, err
			}
			i = s.active(ctx)
		}
		at := time.Since(began)
		if err := lose(s, i); err != nil {
			return nil, 0, err
		}
		lost.Store(int64(at))
		select {
		case d := <-back:
			took = append(took, d)
		case <-time.After(time.Minute):
			return nil, 0, fmt.Errorf("no write was acknowledged within a minute; states %v", s.states(ctx))
		}
		if err := recover(ctx, s, i); err != nil {
			return nil, 0, err
		}
	}
	slices.Sort(took)
	return took, fault.Load(), nil
}

func (s *triple) states(ctx context.Context) (list []string) {
	for i := range s.servers {
		list = append(list, s.state(ctx, i))
	}
	return list
}
