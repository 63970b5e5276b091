package stripe

import (
	"io"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// How raft uses the group port.
const (
	callTimeout   = 2 * time.Second // of a message and its answer; of a snapshot, for each 256 KiB
	pooledStreams = 3               // idle connections kept for each server
	appendEntries = 16              // of up to half a mebibyte each, in one message
)

// transport is raft's own over connections of the group port. It notes who
// confirms that this server is the active one. A rule about whom raft may hear or
// ask (the stand-in vote of a pair) belongs here.
type transport struct {
	*raft.NetworkTransport
	contact  *contact
	incoming *incoming
}

func (s *Stripe) newTransport() *transport {
	t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s.group, MaxPool: pooledStreams, Timeout: callTimeout, Logger: hclogTo(s.log),
	})
	in := newIncoming(t.Consumer(), snapshotPatience)
	s.told = in.agreed.Load
	return &transport{t, s.contact, in}
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.incoming.out }

// Close implements raft.WithClose.
func (t *transport) Close() error {
	t.incoming.close()
	return t.NetworkTransport.Close()
}

// AppendEntries implements raft.Transport. Heartbeats come this way. Anything
// else waits while the server does not answer heartbeats: raft pauses for up to
// ten seconds after repeated failures, and would go on pausing once it is back.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	heartbeat := args.PrevLogEntry == 0 && args.PrevLogTerm == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
	if !heartbeat {
		if err := t.contact.reachable(id, args.Term); err != nil {
			return err
		}
	}
	start := t.contact.mono()
	err := t.NetworkTransport.AppendEntries(id, target, args, resp)
	switch {
	case err != nil:
		t.contact.lost(id, args.Term)
	case resp.Success && resp.Term == args.Term:
		t.contact.confirm(id, args.Term, start, resp.LastLog)
	}
	return err
}

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.contact.reachable(id, args.Term); err != nil {
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
