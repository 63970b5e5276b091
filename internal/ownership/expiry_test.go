package ownership

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// paced sees, before each entry, how many sessions are left and blocks in use.
type paced struct {
	mu   sync.Mutex
	r    *rig
	left []uint64
	size int // bytes of the largest entry
}

func (p *paced) see(op []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.r != nil {
		p.left = append(p.left, p.r.store.Memory().Blocks+p.r.sessions())
		p.size = max(p.size, len(op))
	}
}

// steps returns the entries so far, by how much the largest step took the count
// down, and the bytes of the largest entry; and it begins anew.
func (p *paced) steps(end uint64) (entries int, largest uint64, size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := append(p.left, end)
	for i, n := range list[1:] {
		largest = max(largest, list[i]-n)
	}
	entries, size = len(p.left), p.size
	p.left, p.size = nil, 0
	return entries, largest, size
}

// Many sessions that end within one second are ended by bounded entries, one
// after the other: a change meanwhile waits for one of them and shares the next,
// never for all, and what they took is given back to the byte, tombstones last.
func TestManySessionsExpireBesideChanges(t *testing.T) {
	const n = 20_000
	var p paced
	timed(t, Config{watch: p.see}, func(r *rig) {
		c := newCrowd(r, 64)
		bytes := func() uint64 { return r.store.Datasets()[0].Bytes }
		base := bytes()
		// One that expired alone tells what a tombstone costs.
		if err := c.make(0, fmt.Sprintf("expires.%022d", n), time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		tombstone := bytes() - base
		if r.sessions() != others || tombstone == 0 {
			t.Fatalf("%d sessions, a tombstone of %d bytes", r.sessions(), tombstone)
		}
		p.mu.Lock()
		p.r = r
		p.mu.Unlock()
		c.ends = time.Now().Add(time.Minute)
		c.fill(n)
		time.Sleep(time.Until(c.ends))
		c.stall(&p)
		c.changeDuring(n)
		count := func() uint64 { return r.store.Memory().Blocks + r.sessions() }
		entries, largest, size := p.steps(count())
		if largest > expiryLimit || size > expiryLimit*(wire.MaxKey+2)+wire.MaxDatasetName+16 {
			t.Errorf("an expiry entry ended %d sessions in %d bytes", largest, size)
		}
		if entries < n/expiryLimit {
			t.Errorf("%d sessions ended in %d entries", n, entries)
		}
		if want := base + (n+1)*tombstone; bytes() != want {
			t.Errorf("%d bytes are accounted with the tombstones, not %d", bytes(), want)
		}
		// A new active finds all tombstones due at once.
		r.Ownership.Close()
		time.Sleep(11 * time.Minute)
		r.Ownership = New(Config{watch: p.see}, r.stripe, r.store)
		defer r.Ownership.Close()
		time.Sleep(2 * time.Second)
		entries, largest, _ = p.steps(count())
		if largest > expiryLimit || entries < n/expiryLimit {
			t.Errorf("tombstones were pruned by %d entries, at most %d at once", entries, largest)
		}
		if bytes() != base || r.store.Memory().Blocks != others {
			t.Errorf("in the end %d bytes and %d blocks are taken, not %d and %d", bytes(), r.store.Memory().Blocks, base, others)
		}
	})
}

// stall lets the log stand still for a moment, and holds that expiry waits
// with at most one entry instead of filling the queue.
func (c *crowd) stall(p *paced) {
	c.Helper()
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.left)
	}
	for count() == 0 { // until expiry has begun
		time.Sleep(expiryRest)
	}
	var proposed int
	over := make(chan struct{})
	c.stripe.Propose(store.AppendPrune(nil, 0), func(wire.Outcome, error) {
		before := count()
		time.Sleep(2 * expiryInterval)
		proposed = count() - before
		close(over)
	})
	<-over
	if proposed > 1 {
		c.Errorf("expiry proposed %d entries while the log stood still", proposed)
	}
}

// changeDuring makes one change after the other until all but the sessions that
// go on have ended, and holds that each met two entries at most.
func (c *crowd) changeDuring(n uint64) {
	c.Helper()
	begin, changes, before := time.Now(), 0, c.sessions()
	for c.sessions() > others {
		if _, err := c.set(c.members[0], "goes on 0", c.token(c.store.Index()), "a3", "changed!"); err != nil {
			c.Fatal(err)
		}
		now := c.sessions()
		if before-now > 2*expiryLimit {
			c.Errorf("a change was answered behind the end of %d sessions", before-now)
		}
		if now > others {
			changes++
		}
		before = now
		time.Sleep(expiryRest)
	}
	if least := n / (2 * expiryLimit) / 2; uint64(changes) < least {
		c.Errorf("%d changes were answered before the last of %d sessions had ended, not %d", changes, n, least)
	}
	if took := time.Since(begin); took > 2*time.Second {
		c.Errorf("what ends within a second took %v, and all of it was waiting", took)
	}
}
