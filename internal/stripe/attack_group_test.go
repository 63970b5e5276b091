package stripe

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// taped remembers what is written through it.
type taped struct {
	net.Conn
	sent bytes.Buffer
}

func (c *taped) Write(b []byte) (int, error) {
	c.sent.Write(b)
	return c.Conn.Write(b)
}

// What a member said once opens nothing when a stranger says it again, and neither
// does what the server itself says.
func TestAttackReplayedAndReflectedProofs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Config{Secret: "sesame"})
	c.form()
	member := c.servers[1].self()
	member.Run = "a stranger"
	conn, err := net.Dial("tcp", c.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tape := &taped{Conn: conn}
	if _, err := meet(tape, time.Minute, "sesame", hello{Purpose: forAsk, peer: member}); err != nil {
		t.Fatal(err)
	}
	again, err := net.Dial("tcp", c.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Write(tape.sent.Bytes()); err != nil {
		t.Fatal(err)
	}
	var w welcome
	var v verdict
	if _, err := readFrame(again, &w); err != nil {
		t.Fatal(err)
	}
	if _, err := readFrame(again, &v); err != nil || v.Refusal == nil || v.Refusal.Code != refusedSecret || v.Answer != nil {
		t.Errorf("a replayed handshake: %+v, %v", v, err)
	}
	said := transcript{[]byte("all that was said")}
	if proven(said.prove("sesame", accepting), said.prove("sesame", dialing)) {
		t.Error("the acceptor's proof is the dialer's")
	}
}

// asMember lets a test's raft transport dial as a server of the stripe does.
type asMember struct {
	net.Listener
	c    *cluster
	to   int
	peer peer
}

func (m asMember) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	conn, err := net.Dial("tcp", m.c.addrs[m.to])
	if err != nil {
		return nil, err
	}
	_, err = meet(conn, time.Minute, m.c.cfg.Secret, hello{Purpose: forRaft, peer: m.peer})
	return conn, err
}

// A member that sends garbage, lies about lengths, or sends a snapshot that is none,
// harms neither memory nor the active server. Not beside other tests: it looks at what the
// process allocates.
func TestAttackConfusedMember(t *testing.T) {
	c := newCluster(t, 3, Config{Secret: "sesame"})
	c.form()
	a := c.settle()
	c.do("a")
	confused := (a + 1) % 3
	peer := c.servers[confused].self()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stream := asMember{l, c, a, peer}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, garbage := range []string{
		"\x00\x81\xa6Leader\xc6\xff\xff\xff\xff", // four gibibytes follow, it says
		"\x00\x81\xa7Entries\xdd\xff\xff\xff\xff",
		"\x01\xdf\xff\xff\xff\xff",
		"\x03\x81\xa4Size\xd3\x7f\xff\xff\xff\xff\xff\xff\xff",
		"\x63", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\xff", 1<<20),
	} {
		conn, err := stream.Dial("", 0)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, garbage)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		io.Copy(io.Discard, conn)
		conn.Close()
	}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: stream, MaxPool: 1, Timeout: time.Second})
	defer trans.Close()
	header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte(peer.ID), Addr: []byte(raftAddress(peer.Name, peer.ID))}
	for _, size := range []int64{0, 10} { // ten bytes that are no snapshot, in a term that is over
		var resp raft.InstallSnapshotResponse
		err := trans.InstallSnapshot("", "", &raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: 1, Term: 1, Size: size, LastLogIndex: 99,
		}, &resp, strings.NewReader("0123456789"))
		if err == nil && resp.Success {
			t.Error("it took garbage for a snapshot")
		}
	}
	// One that says it has a tebibyte, and stops: the active is free again after a while.
	nothing, never := io.Pipe()
	begun := make(chan struct{})
	paused := sync.WaitGroup{}
	paused.Go(func() {
		var resp raft.InstallSnapshotResponse
		trans.InstallSnapshot("", "", &raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: 1, Term: 1, Size: 1 << 40,
		}, &resp, readFunc(func(b []byte) (int, error) { close(begun); return nothing.Read(b) }))
	})
	defer paused.Wait()
	defer never.CloseWithError(io.ErrUnexpectedEOF)
	<-begun
	time.Sleep(100 * time.Millisecond) // and it was heard
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 1<<30 {
		t.Errorf("garbage made the process take %d MiB", grown>>20)
	}
	c.do("b")
	c.settle()
	c.equal("a", "b")
}

// readFunc is an io.Reader.
type readFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readFunc) Read(b []byte) (int, error) { return f(b) }
