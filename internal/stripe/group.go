package stripe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Bounds of the group port.
const (
	handshakePatience = 2 * time.Second // for the whole handshake
	maxHandshakes     = 64              // under way at once; more are closed unheard
	maxPeerStreams    = 24              // for raft, from one server
	maxKnown          = 256             // servers about which something is remembered
)

// group is the port for the other servers of the stripe: it opens and accepts
// connections, knows where each server is found, and is raft's StreamLayer.
type group struct {
	log      *slog.Logger
	listener net.Listener
	secret   string
	tls      *tls.Config // nil: plain TCP
	members  []Member    // as configured
	speaks   versions    // of the group protocol
	self     func() peer
	judge    func(hello) *refusal                                      // whether a hello is welcome
	serve    func(ctx context.Context, conn net.Conn, h hello) *answer // forAsk, and the first half of forJoin
	finish   func(ctx context.Context, conn net.Conn, h hello)         // the second half of forJoin

	streams chan net.Conn // accepted for raft
	room    chan struct{} // one token for each handshake
	stop    context.CancelFunc
	ctx     context.Context
	work    sync.WaitGroup

	mu    sync.Mutex
	known map[string]peer      // server id -> what it last said of itself
	found map[string]string    // server id -> where it was reached
	conns map[net.Conn]string  // all that are open -> server id of the accepted ones for raft, else ""
	told  map[string]time.Time // a complaint -> when it was last logged
}

func (g *group) start() {
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.streams = make(chan net.Conn)
	g.room = make(chan struct{}, maxHandshakes)
	g.known, g.found = map[string]peer{}, map[string]string{}
	g.conns, g.told = map[net.Conn]string{}, map[string]time.Time{}
}

// listen begins to accept. Those who came before wait in the system's queue.
func (g *group) listen() { g.work.Go(g.accept) }

// accept takes connections until the listener is closed.
func (g *group) accept() {
	for pause := time.Millisecond; ; {
		conn, err := g.listener.Accept()
		switch {
		case g.ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return
		case err != nil: // too many open files, mostly
			g.complain("accept", "the group port cannot accept connections", "error", err)
			select {
			case <-g.ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		select {
		case g.room <- struct{}{}:
			g.work.Go(func() { g.welcome(conn) })
		default:
			conn.Close()
		}
	}
}

// welcome is the acceptor's side of one connection.
func (g *group) welcome(conn net.Conn) {
	inRoom := true
	leave := func() {
		if inRoom {
			inRoom = false
			<-g.room
		}
	}
	defer leave()
	if g.tls != nil {
		conn = tls.Server(conn, g.tls)
	}
	if !g.track(conn, "") {
		return
	}
	h, t, refused, err := greet(conn, handshakePatience, g.secret, g.self().ID, g.speaks)
	if err != nil {
		g.complain("handshake", "a connection to the group port was no server of a stripe", "from", conn.RemoteAddr().String(), "error", err)
		g.drop(conn)
		return
	}
	if refused == nil {
		refused = g.judge(h)
	}
	if refused == nil && h.Purpose == forRaft && !g.raftMay(conn, h) {
		refused = refuse(refusedBusy, "too many connections from server %q", h.Name)
	}
	v := verdict{Refusal: refused, Peer: g.self()}
	if refused == nil && h.Purpose != forRaft {
		v.Answer = g.serve(g.ctx, conn, h)
	}
	if err := settle(conn, t, g.secret, v); err != nil || refused != nil {
		if refused != nil && h.Purpose != forJoin && refused.Code != refusedStarting && refused.Code != refusedNotActive {
			g.complain(refused.Code+h.ID, "a server was refused at the group port", "name", h.Name, "server-id", h.ID, "from", conn.RemoteAddr().String(), "reason", refused.Text)
		}
		g.drop(conn)
		return
	}
	switch h.Purpose {
	case forRaft:
		g.note(h.peer, "")
		leave()
		keepAlive(conn)
		select {
		case g.streams <- tracked{conn, g}:
		case <-g.ctx.Done():
			g.drop(conn)
		}
		return
	case forJoin:
		g.note(h.peer, "")
		g.finish(g.ctx, conn, h)
	}
	g.drop(conn)
}

// raftMay counts a server's connections for raft, and ends those of its former run.
func (g *group) raftMay(conn net.Conn, h hello) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.known[h.ID]; old.Run != h.Run {
		for c, id := range g.conns {
			if id == h.ID {
				c.Close()
			}
		}
	}
	n := 0
	for _, id := range g.conns {
		if id == h.ID {
			n++
		}
	}
	if n >= maxPeerStreams {
		return false
	}
	g.conns[conn] = h.ID
	return true
}

// keepAlive makes the system notice a host that vanished.
func keepAlive(conn net.Conn) {
	if c, ok := conn.(*net.TCPConn); ok {
		c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3})
	}
}

// track remembers an open connection, or closes it where the group has ended.
func (g *group) track(conn net.Conn, id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		conn.Close()
		return false
	}
	g.conns[conn] = id
	return true
}

func (g *group) drop(conn net.Conn) {
	conn.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, conn)
}

// tracked is a connection that the group can end.
type tracked struct {
	net.Conn
	g *group
}

// Close implements net.Conn.
func (t tracked) Close() error {
	t.g.drop(t.Conn)
	return nil
}

// note remembers what a server said of itself, and where it was reached, if it was.
func (g *group) note(p peer, reached string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.known) > maxKnown { // those that matter are soon known again
		clear(g.known)
		clear(g.found)
	}
	g.known[p.ID] = p
	if reached != "" {
		g.found[p.ID] = reached
	}
}

// about returns what the server with an id last said of itself.
func (g *group) about(id string) (peer, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.known[id]
	return p, ok
}

// places returns where a server may be found, the likeliest first: where its name
// is configured, where it was reached, where it says it is, where the others are.
func (g *group) places(name, id string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []string
	add := func(addr string) {
		for _, a := range list {
			if a == addr {
				return
			}
		}
		if addr != "" {
			list = append(list, addr)
		}
	}
	p := g.known[id]
	if p.Name != "" {
		name = p.Name
	}
	for _, m := range g.members {
		if m.Name == name {
			add(m.GroupAddr)
		}
	}
	add(g.found[id])
	add(p.Group)
	if len(list) == 0 {
		for _, m := range g.members {
			if m.Name != g.self().Name {
				add(m.GroupAddr)
			}
		}
	}
	return list
}

// dial opens a connection for a purpose. The name is resolved each time.
func (g *group) dial(ctx context.Context, addr, purpose, expect, agreement string) (net.Conn, verdict, error) {
	return g.dialAs(ctx, addr, hello{Purpose: purpose, Expect: expect, Agreement: agreement})
}

func (g *group) dialAs(ctx context.Context, addr string, h hello) (net.Conn, verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakePatience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, verdict{}, err
	}
	if g.tls != nil {
		conn = tls.Client(conn, g.tls)
	}
	if !g.track(conn, "") {
		return nil, verdict{}, net.ErrClosed
	}
	h.peer, h.Min, h.Max = g.self(), g.speaks.min, g.speaks.max
	until, _ := ctx.Deadline()
	v, err := meet(conn, time.Until(until), g.secret, h)
	if err != nil {
		g.drop(conn)
		return nil, verdict{}, fmt.Errorf("server at %s: %w", addr, err)
	}
	g.note(v.Peer, addr)
	return tracked{conn, g}, v, nil
}

// Dial implements raft.StreamLayer.
func (g *group) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(g.ctx, timeout)
	defer cancel()
	name, id := splitAddress(address)
	var errs []error
	for _, place := range g.places(name, id) {
		conn, _, err := g.dial(ctx, place, forRaft, id, "")
		if err == nil {
			keepAlive(conn.(tracked).Conn)
			return conn, nil
		}
		if code := refusedAs(err); code != "" && code != refusedStarting {
			g.complain(code+id, "another server refuses this one", "name", name, "server-id", id, "error", err)
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// Accept implements net.Listener for raft.
func (g *group) Accept() (net.Conn, error) {
	select {
	case conn := <-g.streams:
		return conn, nil
	case <-g.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener: raft takes it for this server's address.
func (g *group) Addr() net.Addr {
	p := g.self()
	return groupAddress(raftAddress(p.Name, p.ID))
}

// Close ends all connections. It does not wait: see work.
func (g *group) Close() error {
	g.stop()
	err := g.listener.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.conns {
		conn.Close()
	}
	return err
}

// complainInterval is how often the same complaint is logged.
const complainInterval = 30 * time.Second

// complain logs a warning, the same one not too often.
func (g *group) complain(key, msg string, args ...any) {
	g.mu.Lock()
	now := time.Now()
	again := now.Sub(g.told[key]) < complainInterval
	if !again {
		if len(g.told) > 1000 { // keys come from outside
			clear(g.told)
		}
		g.told[key] = now
	}
	g.mu.Unlock()
	if !again {
		g.log.Warn(msg, args...)
	}
}
