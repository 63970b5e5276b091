package stripe

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// AppendEntriesPipeline implements raft.Transport.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return newDrained(inner, t.hushed), nil
}

// drained is a pipeline whose answers are read to the end. Raft (v1.7.3,
// replication.go, pipelineDecode) stops to read them at the first one that is no
// success; its own pipeline then waits for a reader, and raft waits in AppendEntries
// for room in the pipeline: that server would get no entry any more, and Shutdown
// would never end.
type drained struct {
	raft.AppendPipeline
	hushed  *atomic.Bool // see transport
	answers chan raft.AppendFuture
	closed  chan struct{}
	once    sync.Once
}

func newDrained(p raft.AppendPipeline, hushed *atomic.Bool) *drained {
	d := &drained{AppendPipeline: p, hushed: hushed, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go d.run() // until Close
	return d
}

func (d *drained) run() {
	for failed := false; ; {
		select {
		case f := <-d.AppendPipeline.Consumer():
			if failed {
				continue
			}
			failed = f.Error() != nil || !f.Response().Success
			select {
			case d.answers <- f:
			case <-d.closed:
				return
			}
		case <-d.closed:
			return
		}
	}
}

// AppendEntries implements raft.AppendPipeline.
func (d *drained) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if d.hushed.Load() {
		return nil, errHushed
	}
	shorten(args, appendBytes)
	return d.AppendPipeline.AppendEntries(args, resp)
}

// Consumer implements raft.AppendPipeline.
func (d *drained) Consumer() <-chan raft.AppendFuture { return d.answers }

// Close implements raft.AppendPipeline.
func (d *drained) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.AppendPipeline.Close()
}
