package ownership

import (
	"context"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// The pace of what goes on beside requests.
const (
	expiryInterval = 200 * time.Millisecond // how often the store is asked what is due
	touchInterval  = time.Second            // how long an access waits to be proposed with others
	absentInterval = time.Second            // how often absent nodes are looked at
	expiryLimit    = 256                    // sessions or tombstones per entry: about half a millisecond
	expiryRest     = time.Millisecond       // between two such entries, so that requests come between
	touchLimit     = 256                    // accesses per entry
	pendingLimit   = 64 << 10               // accesses that wait, at most: then they are proposed at once
)

// touchAfter is how much newer than the recorded one an access must be to be
// recorded: a session may so end early by one part in a hundred, never by more.
func touchAfter(idle time.Duration) store.Time {
	if idle == 0 {
		return store.Time(time.Minute / time.Millisecond) // only shown to operators
	}
	return store.Time(max(time.Second, idle/100) / time.Millisecond)
}

// accesses gathers reads of sessions, which are no writes by themselves, until
// they are proposed together.
type accesses struct {
	mu      sync.Mutex
	pending map[string]map[string]store.Time // dataset -> session key -> last access
	count   int
	full    chan struct{} // gets a value when count has reached pendingLimit
}

func (a *accesses) note(dataset, key []byte, now store.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := a.pending[string(dataset)]
	if keys == nil {
		if a.pending == nil {
			a.pending = map[string]map[string]store.Time{}
		}
		keys = map[string]store.Time{}
		a.pending[string(dataset)] = keys
	}
	if _, ok := keys[string(key)]; !ok {
		a.count++
	}
	keys[string(key)] = max(keys[string(key)], now)
	if a.count >= pendingLimit {
		select {
		case a.full <- struct{}{}:
		default:
		}
	}
}

// last returns the last access of key that is not yet recorded, or 0.
func (a *accesses) last(dataset, key []byte) store.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending[string(dataset)][string(key)]
}

// forget drops all that wait: the active of now has seen later ones, or will not
// miss them (what can be lost of the time of an access: docs/architecture.md).
func (a *accesses) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending, a.count = nil, 0
}

// some returns up to touchLimit pending accesses of one dataset.
func (a *accesses) some() (dataset string, list []store.Touch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for dataset, keys := range a.pending {
		for key, when := range keys {
			if list = append(list, store.Touch{Key: []byte(key), When: when}); len(list) == touchLimit {
				break
			}
		}
		return dataset, list
	}
	return "", nil
}

// recorded forgets accesses that are in the store now, but for newer ones.
func (a *accesses) recorded(dataset string, list []store.Touch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := a.pending[dataset]
	for _, t := range list {
		if when, ok := keys[string(t.Key)]; ok && when <= t.When {
			delete(keys, string(t.Key))
			a.count--
		}
	}
	if len(keys) == 0 {
		delete(a.pending, dataset)
	}
}

// keepTime does what time brings, while this server is active.
func (o *Ownership) keepTime() {
	defer o.work.Done()
	changes := o.stripe.Changes()
	tick := time.NewTicker(expiryInterval)
	defer tick.Stop()
	var reigning uint64 // 0: not active
	var touched, looked time.Time
	var rested <-chan time.Time // more is due, and the rest before it is over
	for {
		select {
		case <-o.ctx.Done():
			o.lastTouches()
			return
		case <-changes:
		case <-o.accesses.full:
			touched = time.Time{}
		case <-tick.C:
		case <-rested:
		}
		if o.stripe.Now() == 0 {
			if reigning != 0 {
				o.endReign()
			}
			reigning, rested = 0, nil
			continue
		}
		now := time.Now()
		// Between two looks it may have been lost and won again.
		if reign := o.reign(); reign != reigning {
			reigning, touched, looked = reign, now, now
			o.beginReign(reign)
		}
		if now.Sub(touched) >= touchInterval {
			touched = now
			o.touch(o.ctx)
		}
		if now.Sub(looked) >= absentInterval {
			looked = now
			o.removeAbsent(o.ctx)
		}
		rested = nil
		if rest := o.expire(o.ctx); rest > 0 {
			rested = time.After(rest)
		}
	}
}

// touch proposes the accesses that wait. What is refused waits on.
func (o *Ownership) touch(ctx context.Context) bool {
	for {
		dataset, list := o.accesses.some()
		if len(list) == 0 {
			return true
		}
		err := o.propose(ctx, store.AppendTouch(nil, []byte(dataset), list))
		if err != nil && !wire.Is(err, wire.ErrNoDataset) {
			o.log.Debug("accesses could not be recorded yet", "error", err)
			return false
		}
		o.accesses.recorded(dataset, list)
	}
}

// expire proposes the end of sessions whose time is up and the pruning of
// tombstones, one bounded entry of each dataset. Where more is due it returns how
// long to rest before the next call, else 0. The accesses that wait are proposed
// before: nobody who was just seen is expired.
//
// However much is due, a change that comes meanwhile waits for one such entry at
// most and shares the next one's batch, since an entry is proposed only when the
// last one is answered: where batches queue up, expiry slows down by itself.
func (o *Ownership) expire(ctx context.Context) (rest time.Duration) {
	due, prune := o.store.Due(o.stripe.Now(), expiryLimit)
	if len(due) == 0 && !prune {
		return 0
	}
	more := prune
	if len(due) > 0 && !o.touch(ctx) {
		return 0
	}
	for _, d := range due {
		if err := o.end(ctx, store.AppendExpire(nil, d.Dataset, d.Keys)); err != nil {
			o.log.Debug("sessions could not be expired yet", "error", err)
			return 0
		}
		more = more || len(d.Keys) == expiryLimit
	}
	if prune {
		if err := o.end(ctx, store.AppendPrune(nil, expiryLimit)); err != nil {
			return 0
		}
	}
	if !more {
		return 0 // what is left, if anything, has time until the next look
	}
	return expiryRest
}

func (o *Ownership) end(ctx context.Context, op []byte) error {
	o.cfg.watch(op)
	return o.propose(ctx, op)
}

// HandOver prepares the end of this reign in order: what waits to be written
// beside requests is written, so that the next active begins with it.
func (o *Ownership) HandOver(ctx context.Context) {
	if o.stripe.Now() != 0 {
		o.touch(ctx)
	}
}

// lastTouches proposes what waits once more, for a server that stops in order.
func (o *Ownership) lastTouches() {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	o.HandOver(ctx)
}
