package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

var (
	sessionsFlag = flag.Int("sessions", 20_000, "sessions of 1 KiB for BenchmarkCatchUp and BenchmarkLeadership")
	fillersFlag  = flag.Int("fillers", 256, "callers that fill the triple in BenchmarkCatchUp")
	writersFlag  = flag.Int("writers", 16, "callers in BenchmarkLeadership")
)

// crew is clients of a triple that write sessions of 1 KiB in eight attributes.
type crew struct {
	t    testing.TB
	c    []*client.Client
	next atomic.Int64 // number of the next session
}

func (x *triple) crew() *crew {
	x.t.Helper()
	l := &crew{t: x.t}
	for range 4 {
		l.c = append(l.c, x.client())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := l.c[0].Open(ctx, &wire.Open{Dataset: []byte("d"), LockMode: []byte("none")}); err != nil {
		x.t.Fatal(err)
	}
	return l
}

// write lets callers write until more says no, and returns how long each write took,
// the shortest first. A write that fails ends the benchmark.
func (l *crew) write(callers int, more func(n int64) bool) []time.Duration {
	l.t.Helper()
	var (
		all  []time.Duration
		fail error
		mu   sync.Mutex // guards all and fail
		wait sync.WaitGroup
	)
	for caller := range callers {
		wait.Go(func() {
			var took []time.Duration
			var err error
			w := wire.Create{Write: wire.Write{Dataset: []byte("d")}, Idle: time.Hour}
			for i := range 8 {
				w.Set = append(w.Set, wire.Attribute{Name: fmt.Appendf(nil, "attribute-%d", i), Value: bytes.Repeat([]byte("x"), 128)})
			}
			for err == nil {
				n := l.next.Add(1)
				if !more(n) {
					l.next.Add(-1)
					break
				}
				w.Key = fmt.Appendf(nil, "abc.%022d", n)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				began := time.Now()
				_, err = l.c[caller%len(l.c)].Create(ctx, &w)
				took = append(took, time.Since(began))
				cancel()
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if err != nil {
				fail = err
			}
		})
	}
	wait.Wait()
	if fail != nil {
		l.t.Fatalf("a write: %v", fail)
	}
	slices.Sort(all)
	return all
}

// for16 writes with 16 callers until done is closed, and returns the 99th percentile.
func (l *crew) for16(done <-chan struct{}) time.Duration {
	l.t.Helper()
	took := l.write(16, func(int64) bool {
		select {
		case <-done:
			return false
		default:
			return true
		}
	})
	if len(took) == 0 {
		l.t.Fatal("nothing was written")
	}
	return took[len(took)*99/100]
}

// burning starts a program that takes processors, as burn says, and returns its end.
func (x *triple) burning(share float64) (end func()) {
	x.t.Helper()
	binary := filepath.Join(x.dir, "burn")
	if err := os.Symlink(os.Args[0], binary); err != nil && !os.IsExist(err) {
		x.t.Fatal(err)
	}
	c := exec.Command(binary, strconv.FormatFloat(share, 'f', 3, 64))
	if err := c.Start(); err != nil {
		x.t.Fatal(err)
	}
	end = sync.OnceFunc(func() { _ = c.Process.Kill(); _ = c.Wait() })
	x.t.Cleanup(end)
	return end
}

// cpu is the processor time that a process has taken, in ticks of 10 ms.
func (m *member) cpu() time.Duration {
	m.t.Helper()
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		m.t.Fatal(err)
	}
	// proc(5): utime and stime are fields 14 and 15; the name before them may have spaces.
	fields := strings.Fields(string(doc[bytes.LastIndexByte(doc, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// passive asks server i for its status until it says PASSIVE; false if it doesn't in time.
func (x *triple) passive(i int, within time.Duration) bool {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if st, err := x.server[i].status(); err == nil && st.State == wire.StatePassive {
			return true
		}
	}
	return false
}

// term is the term of Raft at server i.
func (x *triple) term(i int) uint64 {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.New(client.Options{Hosts: []string{x.server[i].addr}})
	if err != nil {
		x.t.Fatal(err)
	}
	defer c.Close()
	parts, err := c.Do(ctx, true, []byte(wire.CmdDump))
	if err != nil {
		x.t.Fatal(err)
	}
	var d wire.Dump
	if err := json.Unmarshal(parts[0], &d); err != nil || d.Engine.Term == 0 {
		x.t.Fatalf("dump %s: %v", parts[0], err)
	}
	return d.Engine.Term
}

// snapshots adds the whole snapshots of all servers to seen.
func (x *triple) snapshots(seen map[string]bool) {
	for i := range x.server {
		found, _ := filepath.Glob(filepath.Join(x.data(i), "stripe", "snapshots", "*"))
		for _, one := range found {
			if !strings.HasSuffix(one, ".tmp") {
				seen[one] = true
			}
		}
	}
}

// printLogs prints the logs of the servers that run.
func (x *triple) printLogs() {
	for i, m := range x.server {
		fmt.Fprintf(os.Stderr, "server %d:\n%s", i+1, m.log())
	}
}

// large is a triple with room for the sessions, default timers and an fsync for each batch of writes.
func large(b *testing.B) (*triple, int) {
	x := newTriple(b)
	// The debug log has what Raft says of elections and snapshots.
	x.environ = []string{"TC_FAILOVER_TIMERS=safe", "TC_MEMORY_CHECK=warn", "TC_DURABILITY=every-write", "LOG_LEVEL=DEBUG"}
	offheap := 256 + *sessionsFlag/250 // 4 KB for each
	x.formWith(offheap)
	return x, offheap
}

// BenchmarkCatchUp fills three processes with sessions while a passive one is down,
// and starts it. It tells how long the passive one takes until its status says
// PASSIVE, and how much slower writes are meanwhile (16 callers, 99th percentile)
// than beside a program that takes as much of the processors. In the second and later
// rounds the passive one has an empty disk. The promises are at most 30 s for a million
// sessions, and writes at most twice as slow.
//
//	go test -run '^$' -bench CatchUp -benchtime 3x -timeout 30m ./cmd/terracotta-server -sessions 1000000
func BenchmarkCatchUp(b *testing.B) {
	x, offheap := large(b)
	joiner := (x.active() + 1) % 3
	down := func() {
		_ = x.server[joiner].cmd.Process.Kill()
		x.server[joiner].end()
	}
	down()
	l, term := x.crew(), x.term(x.active())
	began := time.Now()
	l.write(*fillersFlag, func(n int64) bool { return n <= int64(*sessionsFlag) })
	b.Logf("%d sessions in %v", *sessionsFlag, time.Since(began).Round(time.Millisecond))
	var times []time.Duration
	var ratios []float64
	for b.Loop() {
		began, done := time.Now(), make(chan struct{})
		joined := false
		x.start(joiner, offheap)
		go func() {
			defer close(done)
			joined = x.passive(joiner, 5*time.Minute)
		}()
		beside := l.for16(done)
		took := time.Since(began)
		if !joined {
			b.Fatalf("not PASSIVE within %v:\n%s", took, x.server[joiner].log())
		}
		share := x.server[joiner].cpu().Seconds() / took.Seconds()
		down()

		end, over := x.burning(share), make(chan struct{})
		time.AfterFunc(took, func() { close(over) })
		idle := l.for16(over)
		end()
		times, ratios = append(times, took), append(ratios, float64(beside)/float64(idle))
		b.Logf("PASSIVE after %v, with %.2f processors; 99%% of writes within %v, beside a program that takes as much %v",
			took.Round(time.Millisecond), share, beside.Round(time.Microsecond), idle.Round(time.Microsecond))
		if err := os.RemoveAll(x.data(joiner)); err != nil {
			b.Fatal(err)
		}
	}
	after := x.term(x.active())
	if after != term {
		x.printLogs()
	}
	b.ReportMetric(float64(after-term), "elections")
	slices.Sort(times)
	slices.Sort(ratios)
	b.ReportMetric(times[len(times)/2].Seconds(), "median-s")
	b.ReportMetric(times[len(times)-1].Seconds(), "worst-s")
	b.ReportMetric(ratios[len(ratios)/2], "p99-ratio")
}

// BenchmarkLeadership fills three processes with sessions while another program
// takes two processors, and counts elections, which must be none: neither load nor
// snapshots cost the active server its leadership with the default timers.
//
//	go test -run '^$' -bench Leadership -benchtime 1x -timeout 30m ./cmd/terracotta-server -sessions 1000000
func BenchmarkLeadership(b *testing.B) {
	x, _ := large(b)
	active := x.active()
	term := x.term(active)
	l := x.crew()
	defer x.burning(2)()
	seen := make(map[string]bool)
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for ; ; <-time.After(100 * time.Millisecond) {
			x.snapshots(seen)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	var took []time.Duration
	for b.Loop() {
		last := l.next.Load() + int64(*sessionsFlag)
		took = l.write(*writersFlag, func(n int64) bool { return n <= last })
	}
	close(stop)
	<-over
	after := x.term(x.active())
	b.ReportMetric(float64(after-term), "elections")
	b.ReportMetric(float64(len(seen)), "snapshots")
	b.Logf("term %d, then %d; %d snapshots on three servers; 99%% of writes within %v, the longest took %v",
		term, after, len(seen), took[len(took)*99/100].Round(time.Microsecond), took[len(took)-1].Round(time.Microsecond))
	if after != term {
		x.printLogs() // a benchmark's own log is cut after ten lines
		b.Errorf("%d elections", after-term)
	}
}
