package stripe

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/wire"
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

// A batch is answered by the entry that is its own memory, once, and not by one
// with the same bytes that is read back; nor after Close has given it up.
func TestABatchIsAnsweredByItsOwnEntry(t *testing.T) {
	f := &fsm{m: &ledger{}, log: slog.New(slog.DiscardHandler), grown: make(chan struct{}, 1)}
	var got []wire.Outcome
	b := &flight{batch: &batch{env: appendOp(make([]byte, envelopeSize), []byte("op"))}}
	b.done = append(b.done, func(o wire.Outcome, err error) {
		if f.applied.Load() == 0 || err != nil {
			t.Errorf("answered with %v when %d entries were applied", err, f.applied.Load())
		}
		got = append(got, o)
	})
	seal(b.env, 1, 1)
	apply := func(index uint64, data []byte) {
		if err := f.Apply(&raft.Log{Index: index, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	f.flight.Store(b)
	apply(1, bytes.Clone(b.env))
	if len(got) != 0 || f.flight.Load() != b {
		t.Fatalf("an entry that was read back answered: %v", got)
	}
	apply(2, b.env)
	apply(3, b.env)
	if len(got) != 1 || got[0].Version != 2 || f.flight.Load() != nil {
		t.Fatalf("answered %v; want once, as the second operation", got)
	}
	f.flight.Store(b)
	f.flight.Swap(nil) // giveUp
	apply(4, b.env)
	if len(got) != 1 {
		t.Fatalf("answered %v after it was given up", got)
	}
}
