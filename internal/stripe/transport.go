package stripe

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// How raft uses the group port.
const (
	callTimeout   = 2 * time.Second // of a message and its answer; of a snapshot, for each 256 KiB
	pooledStreams = 3               // idle connections kept for each server
	appendEntries = 32              // in one message, and of up to half a mebibyte each: see shorten
	appendBytes   = 8 << 20         // in one message
	besideBytes   = 1 << 20         // likewise, while changes are made
)

// transport is raft's own over connections of the group port. It notes who
// confirms that this server is the active one. A rule about whom raft may hear or
// ask (the stand-in vote of a pair) belongs here.
type transport struct {
	*raft.NetworkTransport
	questions *raft.NetworkTransport // those of an election go out here; nothing comes in
	contact   *contact
	incoming  *incoming
	terms     *terms
	ballot    *ballot // nil for a pair
	fsm       *fsm
	heartbeat time.Duration
	hushed    *atomic.Bool    // the others are to take this server for one that is gone
	stop      <-chan struct{} // closed when the stripe closes
}

func (s *Stripe) newTransport(terms *terms) *transport {
	t, questions := overStreams(s.group, callTimeout, hclogTo(s.log))
	in := newIncoming(t.Consumer(), snapshotPatience)
	s.told = in.agreed.Load
	if !s.cfg.pair() {
		s.ballot = newBallot(s.cfg.Timers.Heartbeat)
		in.question = s.question
	}
	in.refuse = s.insane
	return &transport{t, questions, s.contact, in, terms, s.ballot, s.fsm, s.cfg.Timers.Heartbeat, &s.withdrawn, s.stop}
}

// overStreams returns raft's transport over l, and one for questions alone: raft closes idle
// connections only together with all that others have opened (v1.7.3, net_transport.go,
// CloseStreams), and over those the active server is heard. patience is for one message.
func overStreams(l raft.StreamLayer, patience time.Duration, log hclog.Logger) (all, questions *raft.NetworkTransport) {
	c := raft.NetworkTransportConfig{Stream: l, MaxPool: pooledStreams, Timeout: patience, Logger: log}
	all = raft.NewNetworkTransportWithConfig(&c)
	c.Stream = dialOnly{l, make(chan struct{})}
	return all, raft.NewNetworkTransportWithConfig(&c)
}

// dialOnly is a stream layer on which nothing comes in.
type dialOnly struct {
	raft.StreamLayer
	closed chan struct{}
}

// Accept implements net.Listener: it waits for Close.
func (d dialOnly) Accept() (net.Conn, error) {
	<-d.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener. It is called once, and leaves the layer below open.
func (d dialOnly) Close() error {
	close(d.closed)
	return nil
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.incoming.out }

// SetHeartbeatHandler implements raft.Transport.
func (t *transport) SetHeartbeatHandler(f func(raft.RPC)) {
	t.NetworkTransport.SetHeartbeatHandler(t.terms.beside(f, func(rpc raft.RPC) { t.incoming.pass(rpc) }))
}

// Close implements raft.WithClose.
func (t *transport) Close() error {
	t.incoming.close()
	t.questions.Close()
	return t.NetworkTransport.Close()
}

// shorten takes from the end of a message what is beyond limit: raft counts entries only. It looks at what is left when it is answered, and sends the rest next.
// It returns the bytes that are left, and whether more entries follow, as it seems.
func shorten(args *raft.AppendEntriesRequest, limit int) (size int, more bool) {
	for i, e := range args.Entries {
		if size+len(e.Data) > limit && i > 0 {
			args.Entries = args.Entries[:i]
			return size, true
		}
		size += len(e.Data)
	}
	return size, len(args.Entries) == appendEntries
}

var errOutdated = errors.New("the message is outdated: its receiver was away")

var errHushed = errors.New("the disk of this server hangs: the others are to go on without it")

// AppendEntries implements raft.Transport. Heartbeats come this way. Anything
// else waits while the server does not answer heartbeats: raft pauses for up to
// ten seconds after repeated failures, and would go on pausing once it is back. What
// has waited is not sent: it says up to where all agreed long ago, and a server that was
// away would take itself for one that has caught up. Raft makes a new message.
// A server that catches up gets one message after the other here; beside changes short ones, at
// logRate: neither disk nor processors are taken for long at a time.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.hushed.Load() {
		return errHushed
	}
	limit := appendBytes
	if len(args.Entries) > 1 && t.fsm.busy() {
		limit = besideBytes
	}
	size, more := shorten(args, limit)
	heartbeat := args.PrevLogEntry == 0 && args.PrevLogTerm == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
	if !heartbeat {
		switch waited, err := t.contact.reachable(id, args.Term); {
		case err != nil:
			return err
		case waited:
			return errOutdated
		}
	}
	start, log := t.contact.mono(), t.fsm.bytes.Load()
	err := t.NetworkTransport.AppendEntries(id, target, args, resp)
	switch {
	case err != nil:
		t.contact.lost(id, args.Term)
	case resp.Success && resp.Term == args.Term:
		t.contact.confirm(id, args.Term, start, resp.LastLog)
	}
	if more && err == nil && t.fsm.busy() {
		rest(logPause(size, t.contact.mono()-start, t.fsm.bytes.Load()-log), t.stop)
	}
	return err
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.ballot != nil {
		if err := t.ballot.turn(t.stop); err != nil {
			return err
		}
	}
	err := insist(resp, t.heartbeat*3/5, t.questions.CloseStreams, func(r *raft.RequestPreVoteResponse) error { // an answer may wait: see ballot
		return t.questions.RequestPreVote(id, target, args, r)
	})
	if t.ballot != nil && err == nil && !resp.Granted {
		t.ballot.failed()
	}
	return err
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return insist(resp, t.heartbeat/5, t.questions.CloseStreams, func(r *raft.RequestVoteResponse) error {
		return t.questions.RequestVote(id, target, args, r)
	})
}

// TimeoutNow implements raft.Transport: the server that is told takes over. Told again, it
// stands for election anew.
func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return onceMore(func() error { return t.NetworkTransport.TimeoutNow(id, target, args, resp) })
}

// insist asks once more on a new connection where no answer comes for a while. A server
// that was off the network keeps idle connections that lead nowhere, and of that
// nobody tells it: raft would wait for callTimeout, and not be elected meanwhile.
func insist[R any](resp *R, patience time.Duration, closeIdle func(), ask func(*R) error) error {
	type reply struct {
		resp R
		err  error
	}
	replies := make(chan reply, 2)
	try := func() { // it ends after callTimeout at the latest
		var r reply
		r.err = onceMore(func() error { return ask(&r.resp) })
		replies <- r
	}
	go try()
	again := time.NewTimer(patience)
	defer again.Stop()
	for left := 1; ; {
		select {
		case r := <-replies:
			if left--; r.err == nil || left == 0 {
				*resp = r.resp
				return r.err
			}
		case <-again.C:
			left++
			closeIdle()
			go try()
		}
	}
}

// onceMore repeats a question while the connection it was sent on proves to be broken:
// raft keeps idle ones, and those to a server that was restarted since are of no use.
// Raft itself would count that server's vote as refused, and a hand-over as failed.
func onceMore(ask func() error) (err error) {
	for range pooledStreams + 1 {
		var op *net.OpError
		err = ask()
		if !errors.Is(err, io.EOF) && (!errors.As(err, &op) || op.Timeout() || op.Op == "dial") {
			return err
		}
	}
	return err
}

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if _, err := t.contact.reachable(id, args.Term); err != nil {
		return err
	}
	return t.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
}

// An address as raft keeps it names the server and not a place: "NAME@ID". Where
// it is found is looked up at every dial. So a server that moves stays itself,
// and every member knows every other's name.
func raftAddress(name, id string) raft.ServerAddress {
	return raft.ServerAddress(name + "@" + id)
}

// splitAddress takes it apart. The address of a stripe that always had one server
// is its id alone.
func splitAddress(a raft.ServerAddress) (name, id string) {
	if i := strings.LastIndexByte(string(a), '@'); i >= 0 {
		return string(a[:i]), string(a[i+1:])
	}
	return "", string(a)
}

// groupAddress is a raft address as a net.Addr.
type groupAddress raft.ServerAddress

// Network implements net.Addr.
func (groupAddress) Network() string { return "stripe" }

// String implements net.Addr.
func (a groupAddress) String() string { return string(a) }

var _ net.Addr = groupAddress("")

// startGroup opens the group port to the others.
func (s *Stripe) startGroup(speaks versions) {
	s.group = &group{
		log: s.log, listener: s.cfg.Listener, secret: s.cfg.Secret, members: s.cfg.Members, speaks: speaks,
		self: s.self, judge: s.judge, serve: s.tell, finish: s.admit,
	}
	s.fsm.follow, s.guard = s.clock.follow, newGuard()
	s.led.Store(int64(s.contact.mono()))
	if s.stripe() != "" {
		s.opens = s.contact.mono() + s.cfg.Timers.Heartbeat
	}
	s.group.start()
}
