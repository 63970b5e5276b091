package stripe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// peerTransport is what carries raft's messages.
type peerTransport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// pairTransport is the transport of a pair's server. It does two things that raft
// does not:
//
//   - Every message names the incarnation that its sender is in, and one of another
//     incarnation is refused: raft checks neither the sender of entries against its
//     configuration, nor does a term tell which branch of a history a server is on.
//   - While the stand-in is on, it answers in the place of one absent server, so that
//     raft elects this one by its own rules, keeps its whole log and commits its tail.
type pairTransport struct {
	peerTransport
	in   chan raft.RPC
	stop chan struct{}   // closed by Close
	quit <-chan struct{} // closed when the server stops, before Close
	once sync.Once

	// admits says whether a message of that server may pass to raft.
	admits func(id string, tip Incarnation) error
	// patience bounds how long a request for a pre-vote that failed waits for the stand-in.
	patience time.Duration

	mu     sync.Mutex
	tip    Incarnation   // of this server
	absent raft.ServerID // who is stood in for; "" while the stand-in is off
	floor  uint64        // the term that the stand-in says it is in
	turned chan struct{} // closed when absent or tip changes
}

func newPairTransport(t peerTransport, quit <-chan struct{}, patience time.Duration, admits func(string, Incarnation) error) *pairTransport {
	p := &pairTransport{
		peerTransport: t, in: make(chan raft.RPC), stop: make(chan struct{}), turned: make(chan struct{}),
		quit: quit, admits: admits, patience: patience,
	}
	go p.receive() // until Close
	return p
}

// Close implements raft.WithClose.
func (p *pairTransport) Close() error {
	p.once.Do(func() { close(p.stop) })
	return p.peerTransport.Close()
}

// setTip says which incarnation this server is in from here on.
func (p *pairTransport) setTip(i Incarnation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tip = i
	p.turnLocked()
}

// standIn answers for id from here on; "" ends that. Votes are cast for terms
// from floor on only, so that no entry of this branch has a term that the absent
// server could use.
func (p *pairTransport) standIn(id raft.ServerID, floor uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.absent, p.floor = id, floor
	p.turnLocked()
}

func (p *pairTransport) turnLocked() {
	close(p.turned)
	p.turned = make(chan struct{})
}

// stands reports whether id is stood in for, and by which floor.
func (p *pairTransport) stands(id raft.ServerID) (floor uint64, yes bool, turned <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.floor, p.absent != "" && p.absent == id, p.turned
}

// The name of an incarnation in a message's header, behind the sender's address.
const tagMark = 0

// tagged returns h with this server's incarnation in it.
func (p *pairTransport) tagged(h raft.RPCHeader) raft.RPCHeader {
	p.mu.Lock()
	tip := p.tip
	p.mu.Unlock()
	addr, _, _ := bytes.Cut(h.Addr, []byte{tagMark})
	addr = append(bytes.Clone(addr), tagMark)
	addr = strconv.AppendUint(addr, tip.Number, 10)
	addr = append(addr, ' ')
	h.Addr = append(addr, tip.Owner...)
	return h
}

// untag takes the incarnation out of h.
func untag(h raft.RPCHeader) (raft.RPCHeader, Incarnation, error) {
	addr, tag, found := bytes.Cut(h.Addr, []byte{tagMark})
	number, owner, _ := bytes.Cut(tag, []byte{' '})
	n, err := strconv.ParseUint(string(number), 10, 64)
	if !found || err != nil {
		return h, Incarnation{}, errors.New("a message that names no incarnation: its sender is not of a pair in availability mode")
	}
	h.Addr = addr
	return h, Incarnation{Number: n, Owner: string(owner)}, nil
}

// receive hands messages on to raft.
func (p *pairTransport) receive() {
	for {
		select {
		case <-p.stop:
			return
		case rpc := <-p.peerTransport.Consumer():
			if !p.open(&rpc) {
				continue
			}
			select {
			case p.in <- rpc:
			case <-p.stop:
				rpc.Respond(nil, raft.ErrTransportShutdown)
				return
			}
		}
	}
}

// open lets rpc pass, or refuses it.
func (p *pairTransport) open(rpc *raft.RPC) bool {
	err := p.check(rpc)
	if err != nil {
		switch r := rpc.Reader.(type) {
		case io.Closer:
			r.Close() // incoming reads the rest, beside all other messages
		case io.Reader:
			io.Copy(io.Discard, r) // what follows in the stream is the next message
		}
		rpc.Respond(nil, err)
	}
	return err == nil
}

func (p *pairTransport) check(rpc *raft.RPC) (err error) {
	var h *raft.RPCHeader
	// The requests of an in-memory transport are the sender's own: they are copied.
	switch c := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		n := *c
		h, rpc.Command = &n.RPCHeader, &n
	case *raft.RequestVoteRequest:
		n := *c
		h, rpc.Command = &n.RPCHeader, &n
	case *raft.RequestPreVoteRequest:
		n := *c
		h, rpc.Command = &n.RPCHeader, &n
	case *raft.InstallSnapshotRequest:
		n := *c
		h, rpc.Command = &n.RPCHeader, &n
	case *raft.TimeoutNowRequest:
		n := *c
		h, rpc.Command = &n.RPCHeader, &n
	default:
		return fmt.Errorf("a message of unknown kind %T", c)
	}
	var tip Incarnation
	if *h, tip, err = untag(*h); err != nil {
		return err
	}
	return p.admits(string(h.ID), tip)
}

// Consumer implements raft.Transport.
func (p *pairTransport) Consumer() <-chan raft.RPC { return p.in }

// SetHeartbeatHandler implements raft.Transport.
func (p *pairTransport) SetHeartbeatHandler(f func(raft.RPC)) {
	p.peerTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if p.open(&rpc) {
			f(rpc)
		}
	})
}

// AppendEntries implements raft.Transport.
func (p *pairTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if _, yes, _ := p.stands(id); yes {
		*resp = raft.AppendEntriesResponse{RPCHeader: req.RPCHeader, Term: req.Term, Success: true, LastLog: req.PrevLogEntry + uint64(len(req.Entries))}
		return nil
	}
	n := *req
	n.RPCHeader = p.tagged(n.RPCHeader)
	return p.peerTransport.AppendEntries(id, to, &n, resp)
}

// AppendEntriesPipeline implements raft.Transport.
func (p *pairTransport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if _, yes, _ := p.stands(id); yes {
		return nil, raft.ErrPipelineReplicationNotSupported
	}
	pipe, err := p.peerTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return taggedPipeline{pipe, p}, nil
}

type taggedPipeline struct {
	raft.AppendPipeline
	p *pairTransport
}

// AppendEntries implements raft.AppendPipeline.
func (t taggedPipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	n := *req
	n.RPCHeader = t.p.tagged(n.RPCHeader)
	return t.AppendPipeline.AppendEntries(&n, resp)
}

// RequestVote implements raft.Transport.
func (p *pairTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if floor, yes, _ := p.stands(id); yes {
		*resp = raft.RequestVoteResponse{RPCHeader: req.RPCHeader, Term: max(req.Term, floor), Granted: req.Term > floor}
		return nil
	}
	n := *req
	n.RPCHeader = p.tagged(n.RPCHeader)
	return p.peerTransport.RequestVote(id, to, &n, resp)
}

// RequestPreVote implements raft.WithPreVote. Asked below the floor the stand-in
// refuses and names it, which raises raft's term to it; from there on it grants.
// A request that failed waits for the stand-in: raft asks again only after
// an election time-out, which would be added to every fail-over.
func (p *pairTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	stoodIn := func() (<-chan struct{}, bool) {
		floor, yes, turned := p.stands(id)
		if yes {
			*resp = raft.RequestPreVoteResponse{RPCHeader: req.RPCHeader, Term: max(req.Term, floor), Granted: req.Term > floor}
		}
		return turned, yes
	}
	turned, yes := stoodIn()
	if yes {
		return nil
	}
	n := *req
	n.RPCHeader = p.tagged(n.RPCHeader)
	asked := make(chan error, 1)
	var answer raft.RequestPreVoteResponse
	go func() { asked <- p.peerTransport.RequestPreVote(id, to, &n, &answer) }()
	timer := time.NewTimer(p.patience)
	defer timer.Stop()
	failed := errors.New("no answer")
	for {
		select {
		case err := <-asked:
			if err == nil {
				*resp = answer
				return nil
			}
			failed, asked = err, nil
		case <-turned:
			if turned, yes = stoodIn(); yes {
				return nil
			}
		case <-timer.C:
			return failed
		case <-p.quit:
			return raft.ErrTransportShutdown
		}
	}
}

// InstallSnapshot implements raft.Transport.
func (p *pairTransport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if _, yes, _ := p.stands(id); yes {
		return errStoodIn
	}
	n := *req
	n.RPCHeader = p.tagged(n.RPCHeader)
	return p.peerTransport.InstallSnapshot(id, to, &n, resp, data)
}

// TimeoutNow implements raft.Transport.
func (p *pairTransport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if _, yes, _ := p.stands(id); yes {
		return errStoodIn
	}
	n := *req
	n.RPCHeader = p.tagged(n.RPCHeader)
	return p.peerTransport.TimeoutNow(id, to, &n, resp)
}

var errStoodIn = errors.New("the server is absent")
