package spin

import (
	"sync/atomic"
	"time"
)

// Crowd knows whether a process serves one connection or several. Who looks for several
// commands of one connection keeps a processor from the others, and a Trial would not
// see that: it times its own connection. The zero value is ready; it is for many goroutines.
type Crowd struct {
	last  atomic.Uint64 // that was heard
	mixed atomic.Int64  // when it was another one than before
}

// apart is for how long one connection must have been the only one.
const apart = 100 * time.Millisecond

// Alone notes that connection id was heard at a time of the process, and reports whether no other
// was for a while.
func (c *Crowd) Alone(id uint64, at time.Duration) bool {
	if c.last.Load() != id && c.last.Swap(id) != id {
		c.mixed.Store(int64(at))
		return false
	}
	return at-time.Duration(c.mixed.Load()) > apart
}
