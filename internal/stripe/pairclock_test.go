package stripe

import (
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
)

// startOff starts server i with a wall clock that is wrong by off. Its partner does not
// reach it: whatever they agree on, this one has asked for.
func (r *pairRig) startOff(i int, off time.Duration) {
	r.t.Helper()
	r.freed(i)
	cfg := r.config(i)
	cfg.Listener = r.port(i)
	cfg.Faults = &Faults{Wall: func() time.Time { return time.Now().Add(off) }}
	r.ledgers[i] = &ledger{}
	r.set(i, startOn(r.t, cfg, r.parts, r.ledgers[i]))
}

// An active server with a clock that is a day fast dies, and is elected again before its
// partner went on: what the partner has counted is the time, and not that clock.
func TestPairActiveThatRestartsTakesTheTimeFromItsPartner(t *testing.T) {
	t.Parallel()
	r, a, b := newPair(t, EverySecond)
	r.freeze(r.servers[b].id) // it does not go on alone
	r.down(a)
	r.startOff(a, 24*time.Hour)
	r.until("it is active again", func() bool { return r.leads(a) })
	if ahead := time.Duration(r.servers[a].Now()-store.Time(time.Now().UnixMilli())) * time.Millisecond; ahead > time.Hour {
		t.Errorf("log time is %v ahead", ahead)
	}
	must(t, r.servers[a], "two")
	r.thaw(r.servers[b].id)
	r.links[b][a].kill(false)
	r.synced()
	r.equal("one", "two")
}

// A pair that starts from cold has not counted: the wall clock is taken whole, by
// whichever is elected.
func TestPairThatStartsFromColdTakesTheWallClock(t *testing.T) {
	t.Parallel()
	r, a, b := newPair(t, EverySecond)
	r.freeze(r.servers[a].id) // neither goes on alone while the other ends
	r.freeze(r.servers[b].id)
	r.down(b)
	r.down(a)
	r.startOff(b, 24*time.Hour)
	r.startOff(a, 24*time.Hour)
	r.until("one is active", func() bool { return r.leads(a) || r.leads(b) })
	for i, s := range r.servers {
		if r.leads(i) {
			if ahead := time.Duration(s.Now()-store.Time(time.Now().UnixMilli())) * time.Millisecond; ahead < 23*time.Hour {
				t.Errorf("log time is %v ahead of a wall clock that is a day behind the servers'", ahead)
			}
		}
	}
}
