package stripe

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// A message has no more than its bytes, unless it is one entry.
func TestMessagesAreBoundedByBytes(t *testing.T) {
	entries := func(sizes ...int) (list []*raft.Log) {
		for _, n := range sizes {
			list = append(list, &raft.Log{Data: make([]byte, n)})
		}
		return list
	}
	for _, limit := range []int{appendBytes, besideBytes} {
		for _, c := range []struct {
			entries []*raft.Log
			want    int
			size    int
			more    bool
		}{
			{nil, 0, 0, false},
			{entries(0, 0, 1), 3, 1, false},
			{entries(make([]int, appendEntries)...), appendEntries, 0, true},
			{entries(limit), 1, limit, false},
			{entries(limit+1, 1), 1, limit + 1, true},
			{entries(1, limit-1, 1), 2, limit, true},
			{entries(1, limit), 1, 1, true},
		} {
			m := raft.AppendEntriesRequest{Entries: c.entries}
			if size, more := shorten(&m, limit); len(m.Entries) != c.want || size != c.size || more != c.more {
				t.Errorf("%d of %d entries with %d bytes are sent, more follow: %v; not %d with %d, %v", len(m.Entries), len(c.entries), size, more, c.want, c.size, c.more)
			}
		}
	}
}

// What raft could not send in one message follows in the next ones, in order: to a server
// that was away, and to one that is in touch.
func TestALargeTailIsSentInPieces(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{Timers: calm})
	c.form()
	c.do("before")
	a := c.settle()
	c.kill((a + 1) % 3)
	want := []string{"before"}
	for i := range 3 * appendBytes / maxBatchBytes {
		op := fmt.Sprintf("%d-%s", i, strings.Repeat("x", maxBatchBytes/2))
		c.do(op)
		want = append(want, op)
	}
	c.start((a + 1) % 3)
	c.settle()
	c.equal(want...)
}
