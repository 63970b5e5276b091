package stripe

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// snapshotPatience is how long raft waits for the next 32 KiB of a snapshot. A
// sender that is slower has given up by itself (callTimeout).
const snapshotPatience = 5 * time.Second

var errStalled = errors.New("the sender of a snapshot has stopped sending")

// incoming hands raft what others ask of it. Raft (v1.7.3, raft.go,
// installSnapshot) reads a snapshot in its main loop and without a deadline, even one
// whose term is over: a server that stops in the midst of sending would block this
// one, the active one too, for as long as the connection lasts.
type incoming struct {
	out      chan raft.RPC
	stop     chan struct{}
	once     sync.Once
	patience time.Duration

	// Set before anything comes in; nil in tests.
	question func(rpc raft.RPC, ask func(raft.RPC)) // decides when raft gets a question of the pre-vote, by ask
	refuse   func(command any) error                // why raft must not get a message

	agreed atomic.Uint64 // up to this entry all agree, as the active one last said
}

func newIncoming(in <-chan raft.RPC, patience time.Duration) *incoming {
	i := &incoming{out: make(chan raft.RPC), stop: make(chan struct{}), patience: patience}
	go i.run(in) // until close
	return i
}

func (i *incoming) close() { i.once.Do(func() { close(i.stop) }) }

func (i *incoming) run(in <-chan raft.RPC) {
	for {
		var rpc raft.RPC
		select {
		case rpc = <-in:
		case <-i.stop:
			return
		}
		if m, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && m.LeaderCommitIndex > 0 {
			i.agreed.Store(m.LeaderCommitIndex)
		}
		if _, ok := rpc.Command.(*raft.RequestPreVoteRequest); ok && i.question != nil {
			go i.question(rpc, func(rpc raft.RPC) { i.pass(rpc) }) // one for each connection at most, and not for long
			continue
		}
		if rpc.Reader != nil {
			rpc = i.attended(rpc)
		}
		if i.refuse != nil {
			if err := i.refuse(rpc.Command); err != nil {
				go decline(rpc, err)
				continue
			}
		}
		if !i.pass(rpc) {
			return
		}
	}
}

// decline answers rpc with err once all of it was read.
func decline(rpc raft.RPC, err error) {
	if rpc.Reader != nil {
		io.Copy(io.Discard, rpc.Reader)
	}
	rpc.RespChan <- raft.RPCResponse{Error: err}
}

// pass gives rpc to raft. It reports whether there is one.
func (i *incoming) pass(rpc raft.RPC) bool {
	select {
	case i.out <- rpc:
		return true
	case <-i.stop:
		if c, ok := rpc.Reader.(io.Closer); ok {
			c.Close()
		}
		return false
	}
}

// attended returns rpc with a reader that fails where the sender stops. The answer
// is held back until nobody reads rpc's own reader any more: with it the
// connection's next message would be read beside it.
func (i *incoming) attended(rpc raft.RPC) raft.RPC {
	source, answer := rpc.Reader, rpc.RespChan
	pr, pw := io.Pipe()
	ended := make(chan struct{})
	go func() { // until all is read, or the connection is closed
		defer close(ended)
		_, err := io.Copy(pw, source)
		pw.CloseWithError(err)
		io.Copy(io.Discard, source)
	}()
	answered := make(chan raft.RPCResponse, 1)
	go func() { // as long
		select {
		case r := <-answered:
			<-ended
			answer <- r
		case <-i.stop: // raft's transport gives up waiting, too
			pr.CloseWithError(raft.ErrTransportShutdown)
		}
	}()
	rpc.Reader, rpc.RespChan = &patientReader{pr, pw, i.patience}, answered
	return rpc
}

// patientReader fails once what it was asked for has not come in time.
type patientReader struct {
	*io.PipeReader
	w        *io.PipeWriter // the other end
	patience time.Duration
}

// Read implements io.Reader. It fills b but at the end, so that a sender that
// drips is no better than one that stops.
func (r *patientReader) Read(b []byte) (int, error) {
	late := time.AfterFunc(r.patience, func() {
		r.w.CloseWithError(fmt.Errorf("%w for %v", errStalled, r.patience))
	})
	defer late.Stop()
	n, err := io.ReadFull(r.PipeReader, b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // the next one tells
	}
	return n, err
}
