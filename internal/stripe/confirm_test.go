package stripe

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// checkFuture is a leadership check that a test answers, or never does.
type checkFuture chan error

func (f checkFuture) Error() error { return <-f }

type checks struct {
	c     *confirmer
	begun chan checkFuture
	count atomic.Int64
}

func newChecks() *checks {
	k := &checks{begun: make(chan checkFuture, 100)}
	k.c = newConfirmer(func() raft.Future {
		k.count.Add(1)
		f := make(checkFuture, 1)
		k.begun <- f
		return f
	}, time.Second)
	return k
}

func (k *checks) ask(ctx context.Context) chan error {
	answer := make(chan error, 1)
	go func() { answer <- k.c.confirm(ctx) }()
	synctest.Wait()
	return answer
}

func TestOneCheckServesAllWhoWaitAndLeavesALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newChecks()
		first := k.ask(t.Context())
		// Those who come now can't use a check that began before they came.
		var late []chan error
		for range 10 {
			late = append(late, k.ask(t.Context()))
		}
		time.Sleep(300 * time.Millisecond)
		(<-k.begun) <- nil
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		(<-k.begun) <- nil
		for _, a := range late {
			if err := <-a; err != nil {
				t.Fatal(err)
			}
		}
		if n := k.count.Load(); n != 2 {
			t.Errorf("%d checks for 11 callers, not 2", n)
		}
		// The lease counts from the start of the check, and is 0.8 of the heartbeat time-out.
		time.Sleep(790 * time.Millisecond)
		if err := <-k.ask(t.Context()); err != nil || k.count.Load() != 2 {
			t.Errorf("within the lease: %v, %d checks", err, k.count.Load())
		}
		time.Sleep(20 * time.Millisecond)
		a := k.ask(t.Context())
		(<-k.begun) <- errors.New("no leader")
		if err := <-a; err == nil {
			t.Error("a failed check confirmed")
		}
		k.c.await()
	})
}

func TestLeaseCountsFromTheStartOfTheCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newChecks()
		a := k.ask(t.Context())
		time.Sleep(900 * time.Millisecond) // a slow check: its lease is over when it ends
		(<-k.begun) <- nil
		<-a
		b := k.ask(t.Context())
		if k.count.Load() != 2 {
			t.Error("a lease outlived 0.8 heartbeats since the start of its check")
		}
		(<-k.begun) <- nil
		<-b
		k.c.await()
	})
}

// Raft may never answer a check whose follower was removed: a change of the
// configuration begins it anew, and the old answer, should it come, counts for nothing.
func TestAnAbandonedCheckHangsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newChecks()
		first := k.ask(t.Context())
		second := k.ask(t.Context())
		old := <-k.begun
		k.c.revoke()
		old <- nil // too late
		synctest.Wait()
		if k.c.until != 0 {
			t.Error("an abandoned check gave a lease")
		}
		(<-k.begun) <- nil
		for _, a := range []chan error{first, second} {
			if err := <-a; err != nil {
				t.Error(err)
			}
		}
		k.c.revoke()
		third := k.ask(t.Context())
		if k.count.Load() != 3 {
			t.Error("the lease outlived a revocation")
		}
		(<-k.begun) <- nil
		<-third
		k.c.await()
	})
}

func TestConfirmEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newChecks()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := <-k.ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		(<-k.begun) <- nil
		k.c.await()
	})
}

// The way that a stripe with several voters will take, on the real raft.
func TestConfirmByRaft(t *testing.T) {
	s, _ := start(t, Config{Durability: MemoryOnly}, parts{})
	form(t, s)
	s.sole.Store(false)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 200 {
				if err := s.Confirm(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
