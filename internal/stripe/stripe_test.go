package stripe

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft-wal/fs"

	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestUnformedStripeRefusesAndNamesConfigure(t *testing.T) {
	s, _ := start(t, Config{Dir: t.TempDir()}, parts{})
	_, err := do(s, "x")
	if !wire.Is(err, wire.ErrUnconfigured) {
		t.Fatalf("propose before form: %v", err)
	}
	if err := s.Confirm(context.Background()); !wire.Is(err, wire.ErrUnconfigured) {
		t.Fatalf("confirm before form: %v", err)
	}
	if st := s.Status(); st.Formed || st.State != wire.StateActive || len(st.ServerID) != 32 || s.Now() != 0 {
		t.Fatalf("status of an unformed server: %+v, now %d", st, s.Now())
	}
}

func TestWritesSurviveARestart(t *testing.T) {
	for _, d := range []Durability{EveryWrite, EverySecond} {
		t.Run(string(d), func(t *testing.T) {
			dir := t.TempDir()
			s, l := start(t, Config{Dir: dir, Durability: d}, parts{})
			form(t, s)
			form(t, s) // idempotent
			want := numbered("op", 100)
			for _, op := range want {
				must(t, s, op)
			}
			id, now := s.Status().ServerID, s.Now()
			if got := l.list(); !slices.Equal(got, want) {
				t.Fatalf("applied %d operations of %d, or in another order", len(got), len(want))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			s, l = start(t, Config{Dir: dir, Durability: d}, parts{})
			form(t, s)
			t.Logf("from start to active: %v", time.Since(begin))
			if got := l.list(); !slices.Equal(got, want) {
				t.Fatalf("after the restart %d operations of %d, or in another order", len(got), len(want))
			}
			if s.Status().ServerID != id || s.Now() < now {
				t.Fatalf("identity %s was %s; log time %d was %d", s.Status().ServerID, id, s.Now(), now)
			}
		})
	}
}

func TestMemoryOnlyStartsEmptyAndServes(t *testing.T) {
	s, l := start(t, Config{Durability: MemoryOnly}, parts{})
	form(t, s)
	must(t, s, "a")
	if err := s.snapshot(); err != nil {
		t.Fatal(err)
	}
	must(t, s, "b")
	if got := l.list(); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("applied %q", got)
	}
}

// Operations are applied, and answered, in the order of the calls.
func TestOrderOfCallsIsTheOrderOfTheLog(t *testing.T) {
	s, l := start(t, Config{Durability: MemoryOnly}, parts{})
	form(t, s)
	want := numbered("op", 5000)
	var mu sync.Mutex
	var answered []uint64
	var wg sync.WaitGroup
	for _, op := range want {
		wg.Add(1)
		buf := []byte(op)
		s.Propose(buf, func(o wire.Outcome, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			answered = append(answered, o.Version)
		})
		clear(buf) // the stripe must not keep it
	}
	wg.Wait()
	if got := l.list(); !slices.Equal(got, want) {
		t.Fatal("the log has another order than the calls")
	}
	if !slices.IsSorted(answered) || l.back {
		t.Fatal("answers or log time went back")
	}
}

func TestSnapshotAndLogTogetherAreTheState(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{files: raftlog.Files{VFS: hasty{fs.New()}}})
	form(t, s)
	want := numbered("op", 600) // more than trailingLogs entries
	for i, op := range want {
		must(t, s, op)
		if i == 300 || i == 550 {
			if err := s.snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if first, err := s.journal.FirstIndex(); err != nil || first < 200 {
		t.Fatalf("the log was not cut short: first entry %d, %v", first, err)
	}
	s.Close()
	s, l := start(t, Config{Dir: dir}, parts{})
	form(t, s)
	if got := l.list(); !slices.Equal(got, want) {
		t.Fatalf("restored %d operations of %d, or in another order", len(got), len(want))
	}
}

func TestCloseFailsWhatWaitsAndIsQuick(t *testing.T) {
	s, _ := start(t, Config{Dir: t.TempDir()}, parts{})
	form(t, s)
	var wg sync.WaitGroup
	for range 3000 {
		wg.Add(1)
		s.Propose([]byte("x"), func(_ wire.Outcome, err error) {
			defer wg.Done()
			if err != nil && !wire.Is(err, wire.ErrStopping) {
				t.Errorf("answer at the end: %v", err)
			}
		})
	}
	begin := time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("close took %v", d)
	}
	wg.Wait() // every done was called
	if _, err := do(s, "late"); !wire.Is(err, wire.ErrStopping) {
		t.Errorf("propose after close: %v", err)
	}
	if err := s.Confirm(context.Background()); !wire.Is(err, wire.ErrStopping) {
		t.Errorf("confirm after close: %v", err)
	}
}

func TestTooMuchAtOnceIsBusy(t *testing.T) {
	s, l := start(t, Config{Durability: MemoryOnly}, parts{})
	form(t, s)
	l.mu.Lock() // nothing is applied meanwhile
	var wg sync.WaitGroup
	var mu sync.Mutex
	busy := 0
	for range maxWaitingOps + 1000 {
		wg.Add(1)
		s.Propose([]byte("x"), func(_ wire.Outcome, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			if wire.Is(err, wire.ErrBusy) {
				busy++
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	l.mu.Unlock()
	wg.Wait()
	if busy == 0 || busy > 1000 {
		t.Errorf("%d operations were refused as too many", busy)
	}
}

func TestALargeOperationIsAnEntryOfItsOwn(t *testing.T) {
	s, l := start(t, Config{Dir: t.TempDir()}, parts{})
	form(t, s)
	big := string(make([]byte, 9<<20))
	must(t, s, "small")
	must(t, s, big)
	must(t, s, "small again")
	if got := l.list(); len(got) != 3 || len(got[1]) != len(big) {
		t.Fatalf("applied %d operations", len(got))
	}
}
