package stripe

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// make torture runs the two tests of this kind with more seeds and kills.
var (
	seedFlag  = flag.Uint64("seed", 0, "run only this seed of the forgetful disk")
	seedsFlag = flag.Uint64("seeds", 10, "seeds of the forgetful disk, from 1")
	dropFlag  = flag.Int("drop-sync", 0, "mutation: the forgetful disk ignores its n-th sync and loses power right after it; the test must fail")
)

// lives is how often a seed starts and ends a server.
const lives = 5

// torture is one server on a forgetful disk, through several lives.
type torture struct {
	dir  string
	disk *forgetful
	rnd  *rand.Rand
	cfg  Config

	known   []string // what was applied in former lives, and so was seen by readers
	synced  int      // how much of it outlives a power cut; all but with EverySecond
	said    []string // proposed in this life, in this order
	ops     int      // proposed so far, to name them
	life    int
	mu      sync.Mutex
	granted []string // acknowledged in this life
}

// No acknowledged write, and nothing that was ever read, is lost to cuts of the
// power, kills and stops, wherever they meet the log.
func TestForgetfulDisk(t *testing.T) {
	first, last := uint64(1), *seedsFlag
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	for seed := first; seed <= last; seed++ {
		for _, d := range []Durability{EveryWrite, EverySecond} {
			t.Run(fmt.Sprintf("seed=%d/%s", seed, d), func(t *testing.T) {
				t.Parallel()
				tt := newTorture(t, seed, d)
				tt.disk.ignore = *dropFlag
				if err := tt.run(); err != nil {
					t.Errorf("%v\nonce more: go test ./internal/stripe -run TestForgetfulDisk -seed %d", err, seed)
				}
			})
		}
	}
}

// The test above notices each single sync that is missing: it is not a test
// that cannot fail.
func TestForgetfulDiskNoticesAMissingSync(t *testing.T) {
	for n := 4; n <= 9; n++ { // the first three belong to the formation: nothing is acknowledged yet
		t.Run(fmt.Sprint("sync ", n), func(t *testing.T) {
			t.Parallel()
			// One seed is not enough: the power may be cut before the answer that
			// the missing sync let out, and then nothing acknowledged is lost.
			var err error
			for seed := range uint64(5) {
				tt := newTorture(t, 100*seed+uint64(n), EveryWrite)
				tt.disk.ignore = n
				if err = tt.run(); err != nil {
					break
				}
				t.Logf("seed %d: without sync %d of %d the law still held", seed, n, tt.disk.syncs)
			}
			if err == nil || !strings.Contains(err.Error(), "lost") {
				t.Errorf("without sync %d nothing was lost: %v", n, err)
			}
		})
	}
}

func newTorture(t *testing.T, seed uint64, d Durability) *torture {
	return &torture{
		dir: t.TempDir(), disk: newForgetful(seed), rnd: rand.New(rand.NewPCG(seed, 2)),
		cfg: Config{Durability: d, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))},
	}
}

func (tt *torture) run() error {
	tt.cfg.Dir = tt.dir
	for tt.life = 1; tt.life <= lives; tt.life++ {
		if err := tt.live(); err != nil {
			return fmt.Errorf("life %d of %d: %w", tt.life, lives, err)
		}
	}
	// At last a quiet one, to see what is there.
	s, _, err := tt.open()
	if err != nil {
		return fmt.Errorf("last start: %w", err)
	}
	defer s.Close()
	if _, err := do(s, "last"); err != nil {
		return fmt.Errorf("last write: %w", err)
	}
	return nil
}

// live starts a server, lets it work until its end is drawn, and ends it.
func (tt *torture) live() error {
	cut := tt.rnd.IntN(4) > 0 // else a kill or a stop
	if cut && tt.disk.ignore == 0 {
		tt.disk.cutIn(1 + tt.rnd.IntN([]int{10, 60, 200}[tt.rnd.IntN(3)]))
	}
	cut = cut || tt.disk.ignore > 0
	s, l, err := tt.open()
	if tt.disk.isOff() {
		if s != nil {
			tt.end(s, l)
		}
		return tt.disk.restore()
	}
	if err != nil {
		return err
	}
	for steps := tt.rnd.IntN(80); (cut || steps > 0) && !tt.disk.isOff(); steps-- {
		tt.step(s, l)
	}
	killed := !cut && tt.rnd.IntN(2) == 0
	if killed {
		tt.disk.kill() // what it wrote is there, and the next cut may take it
	}
	tt.end(s, l)
	if tt.disk.isOff() {
		return tt.disk.restore()
	}
	if !killed {
		tt.synced = len(tt.known)
	}
	return nil
}

// open opens the stripe, waits until it is active and checks the law.
func (tt *torture) open() (*Stripe, *ledger, error) {
	l := &ledger{}
	s, err := open(tt.cfg, l, tt.disk.parts())
	if err != nil {
		return nil, nil, fmt.Errorf("it does not start: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	formed := make(chan struct{})
	go func() { defer close(formed); s.Form(ctx) }()
	active := within(time.Minute, func() bool { return s.leading.Load() || tt.disk.isOff() })
	cancel()
	<-formed
	if tt.disk.isOff() {
		return s, l, nil
	}
	if !active {
		s.Close()
		return nil, nil, fmt.Errorf("it does not become active: %+v", s.Status())
	}
	if err := tt.law(l); err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, l, nil
}

// step proposes some operations at once and awaits them, or takes a snapshot.
func (tt *torture) step(s *Stripe, l *ledger) {
	switch tt.rnd.IntN(12) {
	case 0:
		if tt.disk.ignore == 0 { // a snapshot would make good for the missing sync
			s.snapshot()
		}
		return
	case 1:
		if tt.cfg.Durability == EverySecond {
			sofar := len(l.list())
			if s.journal.Flush() == nil && !tt.disk.isOff() {
				tt.synced = sofar
			}
		}
	}
	var wait sync.WaitGroup
	for range 1 + tt.rnd.IntN(8) {
		size := tt.rnd.IntN(2000)
		if tt.rnd.IntN(100) == 0 {
			size = 100 << 10 // larger than a file of the log
		}
		tt.ops++
		op := fmt.Sprintf("%d %s", tt.ops, strings.Repeat("x", size))
		tt.said = append(tt.said, op)
		wait.Add(1)
		s.Propose([]byte(op), func(_ wire.Outcome, err error) {
			if err == nil {
				tt.mu.Lock()
				tt.granted = append(tt.granted, op)
				tt.mu.Unlock()
			}
			wait.Done()
		})
	}
	answered := make(chan struct{})
	go func() { wait.Wait(); close(answered) }()
	for !tt.disk.isOff() {
		select {
		case <-answered:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// end stops the server, and remembers what it knew.
func (tt *torture) end(s *Stripe, l *ledger) {
	s.Close()
	if got := l.list(); len(got) > len(tt.known) {
		tt.known = got
	}
	tt.known = tt.known[:len(tt.known):len(tt.known)]
}

// law checks what a start has found.
func (tt *torture) law(l *ledger) error {
	got := l.list()
	if l.back {
		return fmt.Errorf("log time went back")
	}
	must := tt.known
	if tt.cfg.Durability == EverySecond {
		must = must[:tt.synced]
	}
	for i, op := range must {
		if i >= len(got) || got[i] != op {
			return fmt.Errorf("lost or out of order: operation %d of %d, %.20q; found %d", i, len(must), op, len(got))
		}
	}
	// Beyond, there may be what was known, then what was proposed, both without gaps.
	rest, seen := got[len(must):], map[string]bool{}
	for _, op := range got {
		if seen[op] {
			return fmt.Errorf("operation %.20q is there twice", op)
		}
		seen[op] = true
	}
	for i, op := range rest {
		if at := len(must) + i; at < len(tt.known) {
			if tt.known[at] != op {
				return fmt.Errorf("operation %.20q stands where %.20q was", op, tt.known[at])
			}
			continue
		}
		at := len(tt.said)
		for j, s := range tt.said {
			if s == op {
				at = j
			}
		}
		if at == len(tt.said) {
			return fmt.Errorf("operation %.20q was never proposed, or comes too late", op)
		}
		tt.said = tt.said[at+1:]
	}
	if tt.cfg.Durability == EveryWrite {
		for _, op := range tt.granted {
			if !seen[op] {
				return fmt.Errorf("lost: acknowledged operation %.20q", op)
			}
		}
	}
	tt.known, tt.said, tt.granted, tt.synced = got, nil, nil, len(got)
	return nil
}
