package stripe

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// stuckPipeline has room for one request while nobody reads its answers, as raft's own has.
type stuckPipeline struct{ answers chan raft.AppendFuture }

type failedAppend struct {
	raft.AppendFuture
	resp raft.AppendEntriesResponse
}

func (failedAppend) Error() error                            { return errors.New("the connection is gone") }
func (f failedAppend) Response() *raft.AppendEntriesResponse { return &f.resp }

func (p stuckPipeline) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := failedAppend{}
	p.answers <- f
	return f, nil
}
func (p stuckPipeline) Consumer() <-chan raft.AppendFuture { return p.answers }
func (stuckPipeline) Close() error                         { return nil }

// Raft reads no answer after the first that failed, and sends on for a while.
func TestPipelineThatFailedTakesWhatRaftStillSends(t *testing.T) {
	d := newDrained(stuckPipeline{make(chan raft.AppendFuture)}, new(atomic.Bool))
	sent := make(chan int)
	go func() {
		for i := range 10 {
			d.AppendEntries(new(raft.AppendEntriesRequest), nil)
			sent <- i
		}
	}()
	if f := <-d.Consumer(); f.Error() == nil {
		t.Error("the failure was not handed on")
	}
	for range 10 {
		select {
		case <-sent:
		case <-time.After(time.Minute):
			t.Fatal("raft would wait for ever")
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	d.Close()
}
