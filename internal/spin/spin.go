// Package spin reads a connection without going to sleep first, for a moment.
//
// Where two processes of one machine talk in turn, most of a call's time is spent on
// threads that go to sleep and are woken again, of which Go's poller adds some of its
// own. Whoever knows that the other end answers at once had better look a few times:
// that takes less time, and less processor time. The other runnable threads of the
// machine come in between, because every look that finds nothing yields the processor.
//
// It does not pay where the other end takes longer than a sleep, or where others keep
// the processors busy: a Gate finds out, or a Trial where more than one call is on its way. It needs Linux 4.18, a TCP connection and a second
// processor; elsewhere New returns nil and callers read as usual.
//
//	sp := spin.New(nc)
//	if gate.Open() {
//		n, took := sp.Look(p) // 0: nothing has come
//		gate.Note(n > 0, took)
//	}
//	sp.Rest() // before nc.Read
package spin

import "time"

// Limit is how long a look takes at most: about twice what it costs two threads
// to sleep and to be woken.
const Limit = 50 * time.Microsecond

// quietBytes is what may arrive without the poller being told while somebody looks. It
// is far below the usual size of a socket's buffer, which Linux would make larger for it.
const quietBytes = 16 << 10

// Turn is told of every attempt of Read to take bytes, so that nobody else does meanwhile.
type Turn interface {
	Begin()
	End(tookNothing bool)
}

// Gate says whether a look is worth it, from what the looks before have saved and cost.
type Gate struct {
	skip  int           // waits that go without a look
	next  int           // skip when the looks have cost too much again
	spent time.Duration // what looks in vain have cost, less what the others have saved
}

// A look that finds what it looked for saves about a saving. One in vain costs Limit,
// and one during which others had the processor what they took, some milliseconds: who
// sleeps instead gets it back sooner. When that comes to debt, some waits go without,
// and twice as many the next time, unless the looks between have saved the most that
// counts. A few looks follow each other even then, because the other end, which does the
// same, makes them succeed only when it looks, too.
const (
	saving              = 20 * time.Microsecond
	debt                = 4 * Limit
	mostSaved           = 20 * Limit
	firstSkip, mostSkip = 8, 256
)

// Open reports whether to look this time.
func (g *Gate) Open() bool {
	if g.skip > 0 {
		g.skip--
		return false
	}
	return true
}

// Note takes down how a look went: whether it found what it looked for, and how long it took.
func (g *Gate) Note(found bool, took time.Duration) {
	if found && took <= Limit {
		if g.spent = max(g.spent-saving, -mostSaved); g.spent == -mostSaved {
			g.next = 0
		}
		return
	}
	if g.spent += took; g.spent > debt {
		g.next = min(max(2*g.next, firstSkip), mostSkip)
		g.skip, g.spent = g.next, 0
	}
}
