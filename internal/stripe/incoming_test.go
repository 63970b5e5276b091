package stripe

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// offer puts a snapshot's message into an incoming and takes it out as raft does.
func offer(t *testing.T, source io.Reader, patience time.Duration) (raft.RPC, chan raft.RPCResponse) {
	t.Helper()
	in, answer := make(chan raft.RPC, 1), make(chan raft.RPCResponse, 1)
	i := newIncoming(in, patience)
	t.Cleanup(i.close)
	in <- raft.RPC{Command: &raft.InstallSnapshotRequest{}, Reader: source, RespChan: answer}
	return <-i.out, answer
}

func TestASnapshotPassesWhole(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 30_000)
	rpc, answer := offer(t, bytes.NewReader(want), time.Minute)
	have, err := io.ReadAll(rpc.Reader)
	if err != nil || !bytes.Equal(have, want) {
		t.Fatalf("%d of %d bytes: %v", len(have), len(want), err)
	}
	rpc.Respond("done", nil)
	if r := <-answer; r.Response != "done" {
		t.Errorf("answered %v", r.Response)
	}
}

// Raft is free at once; the connection's next message is not read before the
// sender has ended this one.
func TestASenderThatStopsBlocksNobody(t *testing.T) {
	for name, send := range map[string]func(io.Writer){
		"stops": func(w io.Writer) { w.Write([]byte("begin")) },
		"drips": func(w io.Writer) {
			for range 100 {
				time.Sleep(5 * time.Millisecond)
				w.Write([]byte("."))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, sender := io.Pipe()
			go send(sender)
			rpc, answer := offer(t, source, 100*time.Millisecond)
			if _, err := io.Copy(io.Discard, rpc.Reader); !errors.Is(err, errStalled) {
				t.Fatalf("read: %v", err)
			}
			if _, err := io.Copy(io.Discard, rpc.Reader); !errors.Is(err, errStalled) { // as raft does to empty the connection
				t.Fatalf("read again: %v", err)
			}
			rpc.Respond(nil, errStalled)
			select {
			case <-answer:
				t.Fatal("answered while the sender had not ended")
			case <-time.After(50 * time.Millisecond):
			}
			sender.CloseWithError(io.EOF)
			if r := <-answer; !errors.Is(r.Error, errStalled) {
				t.Errorf("answered %v", r.Error)
			}
		})
	}
}

// A server that was away for long knows of its own log that all of it is agreed. It
// has not caught up before it has what the active one told it of.
func TestAServerThatWasAwayHasNotAll(t *testing.T) {
	in := make(chan raft.RPC, 1)
	i := newIncoming(in, time.Minute)
	defer i.close()
	for _, m := range []raft.AppendEntriesRequest{{LeaderCommitIndex: 5000}, {}} { // a heartbeat tells nothing
		in <- raft.RPC{Command: &m}
		<-i.out
	}
	for _, c := range []struct {
		applied, committed uint64
		already, want      bool
	}{
		{0, 0, false, false}, {100, 0, false, false}, {100, 100, false, false}, {4900, 4900, false, false},
		{4950, 4950, false, true}, {5000, 5000, false, true}, {4900, 4900, true, true}, {3000, 3000, true, false},
	} {
		if have := hasAll(c.applied, c.committed, i.agreed.Load(), c.already); have != c.want {
			t.Errorf("applied %d of %d: %v", c.applied, c.committed, have)
		}
	}
}
