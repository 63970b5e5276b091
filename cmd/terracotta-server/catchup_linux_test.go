package main

import (
	"bytes"
	"cmp"
	"context"
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

// written is a write that was acknowledged.
type written struct {
	at   time.Time // of the acknowledgement
	took time.Duration
}

// quantile is how long the given share of the writes took at most.
func quantile(share float64, list []written) time.Duration {
	slices.SortFunc(list, func(a, b written) int { return cmp.Compare(a.took, b.took) })
	return list[int(share*float64(len(list)-1))].took.Round(time.Microsecond)
}

// write lets callers write until more says no. A write that fails ends the benchmark.
func (l *crew) write(callers int, more func(n int64) bool) []written {
	l.t.Helper()
	var (
		all  []written
		fail error
		mu   sync.Mutex // guards all and fail
		wait sync.WaitGroup
	)
	for caller := range callers {
		wait.Go(func() {
			var list []written
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
				list = append(list, written{time.Now(), time.Since(began)})
				cancel()
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, list...)
			if err != nil {
				fail = err
			}
		})
	}
	wait.Wait()
	if fail != nil {
		l.t.Fatalf("a write: %v", fail)
	}
	return all
}

// for16 writes with 16 callers until done is closed.
func (l *crew) for16(done <-chan struct{}) []written {
	l.t.Helper()
	list := l.write(16, func(int64) bool {
		select {
		case <-done:
			return false
		default:
			return true
		}
	})
	if len(list) == 0 {
		l.t.Fatal("nothing was written")
	}
	return list
}

// catchUpParts are what a passive server with an empty disk does until its status says
// PASSIVE, and what its debug log says when each begins.
var catchUpParts = []struct{ name, line string }{
	{"starts", ""},
	{"waits for the snapshot", "joined the stripe"},
	{"gets it", "creating new snapshot"},
	{"restores it", "copied to local snapshot"},
	{"gets the log since", "Installed remote snapshot"},
}

// parts adds the writes to the part of the catching up in which they were acknowledged.
// One that got no snapshot adds none.
func (m *member) parts(list []written, to [][]written) {
	m.t.Helper()
	begins := make([]time.Time, len(catchUpParts))
	for line := range strings.Lines(m.log()) {
		for i, p := range catchUpParts[1:] {
			if stamp, _, _ := strings.Cut(line, " "); begins[i+1].IsZero() && strings.Contains(line, p.line) {
				at, err := time.Parse(time.RFC3339Nano, stamp)
				if err != nil {
					m.t.Fatal(err)
				}
				begins[i+1] = at
			}
		}
	}
	if slices.ContainsFunc(begins[1:], time.Time.IsZero) {
		return
	}
	for _, w := range list {
		i := len(begins) - 1
		for w.at.Before(begins[i]) {
			i--
		}
		to[i] = append(to[i], w)
	}
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
	d, err := c.Dump(ctx)
	if err != nil || d.Engine.Term == 0 {
		x.t.Fatalf("dump %+v, %v", d, err)
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

// settle waits until no server has written a snapshot for two seconds, but for the one
// that is down: those of a filling are no part of what comes after it.
func (x *triple) settle(down int, within time.Duration) {
	x.t.Helper()
	quiet := time.Now()
	for deadline := quiet.Add(within); time.Since(quiet) < 2*time.Second; <-time.After(20 * time.Millisecond) {
		for i := range x.server {
			if found, _ := filepath.Glob(filepath.Join(x.data(i), "stripe", "snapshots", "*.tmp")); i != down && len(found) > 0 {
				quiet = time.Now()
			}
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("snapshots are still written after %v", within)
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
// than beside a program that takes as much of the processors. The snapshots of the filling
// are awaited first: that program has none beside it. In the second and later
// rounds the passive one has an empty disk, and the writes of each part of that are told. The promises are at most 30 s for a million
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
	x.settle(joiner, 5*time.Minute)
	var times []time.Duration
	var ratios []float64
	parts := make([][]written, len(catchUpParts))
	for b.Loop() {
		began, done := time.Now(), make(chan struct{})
		joined := false
		x.start(joiner, offheap)
		go func() {
			defer close(done)
			joined = x.passive(joiner, 5*time.Minute)
		}()
		list := l.for16(done)
		took := time.Since(began)
		if !joined {
			b.Fatalf("not PASSIVE within %v:\n%s", took, x.server[joiner].log())
		}
		x.server[joiner].parts(list, parts)
		beside := quantile(0.99, list)
		share := x.server[joiner].cpu().Seconds() / took.Seconds()
		down()

		end, over := x.burning(share), make(chan struct{})
		time.AfterFunc(took, func() { close(over) })
		idle := quantile(0.99, l.for16(over))
		end()
		times, ratios = append(times, took), append(ratios, float64(beside)/float64(idle))
		b.Logf("PASSIVE after %v, with %.2f processors; 99%% of writes within %v, beside a program that takes as much %v",
			took.Round(time.Millisecond), share, beside, idle)
		if err := os.RemoveAll(x.data(joiner)); err != nil {
			b.Fatal(err)
		}
	}
	after := x.term(x.active())
	if after != term {
		x.printLogs()
	}
	for i, list := range parts {
		if len(list) > 0 { // a benchmark's own log is cut after ten lines
			fmt.Printf("while the passive one %-24s %6d writes: half within %v, 99%% within %v, the longest took %v\n",
				catchUpParts[i].name+":", len(list), quantile(0.5, list), quantile(0.99, list), quantile(1, list))
		}
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
	var list []written
	for b.Loop() {
		last := l.next.Load() + int64(*sessionsFlag)
		list = l.write(*writersFlag, func(n int64) bool { return n <= last })
	}
	close(stop)
	<-over
	after := x.term(x.active())
	b.ReportMetric(float64(after-term), "elections")
	b.ReportMetric(float64(len(seen)), "snapshots")
	b.Logf("term %d, then %d; %d snapshots on three servers; 99%% of writes within %v, the longest took %v",
		term, after, len(seen), quantile(0.99, list), quantile(1, list))
	if after != term {
		x.printLogs()
		b.Errorf("%d elections", after-term)
	}
}
