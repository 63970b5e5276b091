package stripe

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// service is evidence of how much a server has served while it was alone: the order of
// magnitude (to the base of two) of the entries with changes of clients that it has
// acknowledged, and one. Two that both went on by themselves compare it. 0: a server of
// a version that does not tell; 1: none.
//
// What a server tells is on its disk before. So it never tells less than before, and who
// gives way does so to less than its partner has by now: never both do.
type service int

const noService service = 1

func (v service) told() bool { return v >= noService }

func serviceOf(entries uint64) service { return noService + service(bits.Len64(entries)) }

// atLeast is how many entries there were at least.
func (v service) atLeast() uint64 {
	if v <= noService {
		return 0
	}
	return 1 << (v - noService - 1)
}

// serviceCount counts the entries of the present incarnation.
type serviceCount struct {
	entries atomic.Uint64
	from    atomic.Int64 // of pair.clock: what is acknowledged before is not counted
}

// begin starts to count at zero, or goes on after a restart. What is acknowledged within
// the first while may be requests from before: the clients of a server that was cut off from
// everybody have left some, too.
func (c *serviceCount) begin(had service, now, grace time.Duration) {
	c.from.Store(int64(now + grace))
	c.entries.Store(had.atLeast())
}

// serves is called when an entry with a change that a client asked for was acknowledged.
func (p *pair) serves() {
	if p.s.sole.Load() && int64(p.clock()) >= p.served.from.Load() {
		p.served.entries.Add(1)
	}
}

// noteService writes down what this server has served, as often as that has doubled.
func (p *pair) noteService() {
	p.mu.Lock()
	tip, had := p.kept.History.tip(), p.kept.Service
	p.mu.Unlock()
	v := serviceOf(p.served.entries.Load())
	if v <= max(had, noService) || p.clock() < p.nextNote {
		return
	}
	err := p.keep(func(k *saved) bool {
		if !k.History.tip().same(tip) || k.Service >= v {
			return false
		}
		k.Service = v
		return true
	})
	if err != nil {
		p.nextNote = p.clock() + p.times.alone
		p.log.Debug("what was served can't be written", "error", err)
	}
}
