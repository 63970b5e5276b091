package stripe

import (
	"sync"
	"sync/atomic"
)

// gate holds back what an active server tells its clients while it is not certain
// that its partner has not gone on without it. The zero gate is open. Raft commits
// what is in flight at once when the partner is removed, and state is applied; but
// nobody is told before the gate is opened.
type gate struct {
	shut atomic.Pointer[chan struct{}] // closed by open; nil while it is open
	mu   sync.Mutex                    // one at a time opens or closes
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut.Load() == nil {
		c := make(chan struct{})
		g.shut.Store(&c)
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.shut.Swap(nil); c != nil {
		close(*c)
	}
}

// wait returns true once the gate is open, and false where stop is closed first.
func (g *gate) wait(stop <-chan struct{}) bool {
	for {
		c := g.shut.Load()
		if c == nil {
			return true
		}
		select {
		case <-*c:
		case <-stop:
			return false
		}
	}
}
