package ownership

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

var (
	sessionsFlag = flag.Int("sessions", 1_000_000, "sessions for BenchmarkMillionExpire")
	bytesFlag    = flag.Int("session-bytes", 1024, "bytes in 8 attributes of each session for BenchmarkMillionExpire")
)

const (
	fillers = 256 // callers that create sessions
	others  = 16  // writers and as many readers that go on
)

// watched sees the expiry and prune entries that are proposed.
type watched struct {
	entries, largest atomic.Int64 // how many, and the bytes of the largest
}

func (w *watched) see(op []byte) {
	w.entries.Add(1)
	if n := int64(len(op)); n > w.largest.Load() {
		w.largest.Store(n) // one goroutine proposes them
	}
}

// crowd is a rig with sessions that end within one second, and others that go on.
type crowd struct {
	*rig
	members []*Member
	size    int
	ends    time.Time // the first session's end is not before
}

// newCrowd joins the callers and creates the sessions that go on.
func newCrowd(r *rig, size int) *crowd {
	c := &crowd{rig: r, size: size}
	for i := range fillers {
		m, _ := r.joined(byte(i), 1)
		c.members = append(c.members, m)
	}
	for i := range others {
		if err := c.make(i, fmt.Sprint("goes on ", i), time.Hour); err != nil {
			c.Fatal(err)
		}
	}
	return c
}

// fill creates n sessions that end in the second after c.ends.
func (c *crowd) fill(n int) {
	c.Helper()
	var wg sync.WaitGroup
	for f := range fillers {
		wg.Go(func() {
			for i := f; i < n; i += fillers {
				idle := time.Until(c.ends) + time.Duration(rand.IntN(1000))*time.Millisecond
				if err := c.make(f, fmt.Sprintf("expires.%022d", i), idle); err != nil {
					c.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func (c *crowd) make(member int, key string, idle time.Duration) error {
	m := c.members[member%len(c.members)]
	set := make([]wire.Attribute, 8)
	for i := range set {
		set[i] = wire.Attribute{Name: fmt.Append(nil, "a", i), Value: bytes.Repeat([]byte("v"), c.size/8)}
	}
	_, err := wait(func(done func(wire.Outcome, error)) {
		w := c.write(m, key, wire.Token{})
		c.Create(m, &wire.Create{Write: w, Idle: idle, Set: set}, done)
	})
	return err
}

// latencies are of one kind of call.
type latencies struct {
	mu   sync.Mutex
	list []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	l.list = append(l.list, d)
	l.mu.Unlock()
}

// take returns the median, the 99th of a hundred and the longest so far, in microseconds.
func (l *latencies) take() (p50, p99, longest float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == 0 {
		return 0, 0, 0
	}
	slices.Sort(l.list)
	us := func(i int) float64 { return float64(l.list[i].Microseconds()) }
	p50, p99, longest = us(len(l.list)/2), us(len(l.list)*99/100), us(len(l.list)-1)
	l.list = nil
	return p50, p99, longest
}

// goOn writes and reads the other sessions, each caller about once a
// millisecond, until stop is closed.
func (c *crowd) goOn(stop <-chan struct{}, writes, reads *latencies) *sync.WaitGroup {
	var wg sync.WaitGroup
	loop := func(l *latencies, call func() error) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			begin := time.Now()
			if err := call(); err != nil {
				c.Error(err)
				return
			}
			l.add(time.Since(begin))
		}
	}
	for i := range others {
		m, key := c.members[i%len(c.members)], fmt.Sprint("goes on ", i)
		wg.Go(func() {
			loop(writes, func() error {
				_, err := c.set(m, key, c.token(c.store.Index()), "a3", "changed")
				return err
			})
		})
		wg.Go(func() {
			loop(reads, func() error {
				l := &wire.Load{Dataset: []byte(dataset), Key: []byte(key), Node: m.node.id, Mode: wire.LoadRead}
				return c.Load(c.Context(), m, l, func(*wire.Session) {})
			})
		})
	}
	return &wg
}

func (r *rig) sessions() uint64 { return r.store.Datasets()[0].Sessions }

// BenchmarkMillionExpire lets a million sessions end within one second while 16
// writers and 16 readers go on with others, and tells what these notice: the
// latencies before (quiet) and until the last one is gone (expiry), in
// microseconds. Run it with
//
//	go test -run '^$' -bench MillionExpire -benchtime 1x ./internal/ownership [-sessions N] [-session-bytes B]
func BenchmarkMillionExpire(b *testing.B) {
	for _, d := range []stripe.Durability{stripe.MemoryOnly, stripe.EveryWrite} {
		b.Run(string(d), func(b *testing.B) {
			for range b.N {
				expireMillion(b, d)
			}
		})
	}
}

func expireMillion(b *testing.B, d stripe.Durability) {
	const quiet = 5 * time.Second
	var seen watched
	disk := stripe.Config{Durability: d}
	if d != stripe.MemoryOnly {
		disk.Dir = b.TempDir()
	}
	c := newCrowd(newRigOn(b, Config{watch: seen.see}, disk, 64<<30), *bytesFlag)
	c.ends = time.Now().Add(2*time.Second + quiet + time.Duration(*sessionsFlag)*30*time.Microsecond)
	c.fill(*sessionsFlag)
	full, rss := c.store.Memory(), resident()
	if room := time.Until(c.ends) - quiet; room < 0 {
		b.Fatalf("the machine is too slow: filling took %v too long", -room)
	}
	var writes, reads latencies
	stop := make(chan struct{})
	time.Sleep(time.Until(c.ends) - quiet)
	wg := c.goOn(stop, &writes, &reads)
	time.Sleep(time.Until(c.ends))
	report := func(l *latencies, name string) {
		p50, p99, longest := l.take()
		b.ReportMetric(p50, name+"-p50")
		b.ReportMetric(p99, name+"-p99")
		b.ReportMetric(longest, name+"-max")
	}
	report(&writes, "write-quiet")
	report(&reads, "read-quiet")
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for c.sessions() > others {
		<-poll.C
	}
	took := time.Since(c.ends)
	report(&writes, "write-expiry")
	report(&reads, "read-expiry")
	close(stop)
	wg.Wait()
	empty := c.store.Memory()
	b.ReportMetric(took.Seconds(), "expiry-s")
	b.ReportMetric(float64(seen.entries.Load()), "entries")
	b.ReportMetric(float64(seen.largest.Load()), "largest-B")
	b.ReportMetric(float64(full.Used>>20), "full-MiB")
	b.ReportMetric(float64(empty.Used>>20), "left-MiB")
	b.ReportMetric(float64(rss>>20), "rss-full-MiB")
	b.ReportMetric(float64(resident()>>20), "rss-left-MiB")
}

// resident returns the process's resident memory in bytes, after a garbage
// collection; 0 where it cannot be told.
func resident() (n uint64) {
	debug.FreeOSMemory()
	text, _ := os.ReadFile("/proc/self/statm")
	var size, pages uint64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
