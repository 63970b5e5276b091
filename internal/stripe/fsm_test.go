package stripe

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// An entry that cannot be read ends the serving for good: what comes after it
// would be applied to a state that lacks something, and a snapshot would make
// that lasting.
func TestADamagedEntryEndsServing(t *testing.T) {
	var said bytes.Buffer
	l := &ledger{}
	f := &fsm{m: l, log: slog.New(slog.NewTextHandler(&said, nil)), grown: make(chan struct{}, 1)}
	for _, data := range [][]byte{[]byte("no envelope"), {}} {
		if _, bad := f.Apply(&raft.Log{Index: 7, Data: data}).(error); !bad {
			t.Errorf("%q was applied", data)
		}
	}
	if len(l.list()) > 0 || f.applied.Load() != 0 {
		t.Errorf("applied: %q", l.list())
	}
	if _, err := f.Snapshot(); err == nil || !strings.Contains(err.Error(), "log entry 7 cannot be applied") {
		t.Errorf("snapshot: %v", err)
	}
	if n := strings.Count(said.String(), "the log is damaged: this server does not serve"); n != 1 {
		t.Errorf("said %d times:\n%s", n, said.String())
	}
}
