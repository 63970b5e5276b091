//go:build e2e

package e2e

import (
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"
)

// products are some that the shops sell.
var products = []string{"X-files movie", "Twin peaks tapes", "NIN CD", "JSP Book", "Concert tickets", "Love life", "Switch blade"}

// shopper changes one cart all the time, at one shop after the other: adds to it,
// and takes the oldest item out of a full one. It stops at the first request that
// fails, and at the first page that is not exactly what was acknowledged before.
type shopper struct {
	t       *testing.T
	shops   []string // host:port
	halt    chan struct{}
	stopped chan struct{}

	mu      sync.Mutex // guards the rest
	changes int
	longest time.Duration // a change took, since goesOn was asked last
	err     error
}

func goShopping(t *testing.T, shops ...string) *shopper {
	t.Helper()
	s := &shopper{t: t, shops: shops, halt: make(chan struct{}), stopped: make(chan struct{})}
	c := newCustomer(t)
	go func() {
		defer close(s.stopped)
		var items []string
		think := time.NewTicker(20 * time.Millisecond)
		defer think.Stop()
		for n := 0; ; n++ {
			change := url.Values{"item": {products[n%len(products)]}, "submit": {"add"}}
			if len(items) < 20 { // a shop takes 100
				items = append(items, change.Get("item"))
			} else {
				change = url.Values{"item": items[:1], "submit": {"remove"}} // takes the first equal one
				items = slices.Clone(items[1:])
			}
			begin := time.Now()
			p, err := c.try(shops[n%len(shops)], "/cart/", change)
			if err == nil && !slices.Equal(p.Items, items) {
				err = fmt.Errorf("the cart has %d items, want %d: %q", len(p.Items), len(items), p.Items)
			}
			s.mu.Lock()
			s.changes, s.err, s.longest = n+1, err, max(s.longest, time.Since(begin))
			s.mu.Unlock()
			if err != nil {
				return
			}
			select {
			case <-think.C:
			case <-s.halt:
				return
			}
		}
	}()
	t.Cleanup(s.end)
	return s
}

// goesOn waits until the shopper has made a change that it began after the call,
// and returns the longest that one took since the last time.
func (s *shopper) goesOn() time.Duration {
	s.t.Helper()
	s.mu.Lock()
	begin := s.changes
	s.mu.Unlock()
	eventually(s.t, 2*time.Minute, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil {
			s.t.Fatalf("the shopper failed at change %d: %v", s.changes, s.err)
		}
		if s.changes < begin+2 {
			return fmt.Errorf("nothing was changed since %d", begin)
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	longest := s.longest
	s.longest = 0
	return longest
}

// end sends the shopper home. No request and no acknowledged change was lost.
func (s *shopper) end() {
	select {
	case <-s.stopped:
	default:
		close(s.halt)
		<-s.stopped
	}
	if s.err != nil {
		s.t.Errorf("the shopper failed at change %d: %v", s.changes, s.err)
	}
}
