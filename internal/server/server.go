// Package server speaks with clients and tools on port 9410: it reads commands,
// checks them, asks the rooms below and writes the answers.
//
// The one idea: everything that has arrived on a connection is executed in
// order and answered with one write; a command that must wait for the stripe
// keeps its place among the answers and holds up nobody (answers.go). Each
// connection has one goroutine that reads; a second one lives only while
// answers of waiting commands are written.
//
// It decides nothing about sessions: package ownership does. It trusts nobody:
// every input is bounded (Limits), more tightly before AUTH.
//
//	srv := server.New(cfg, own, stripe, store)
//	go srv.Serve(listener)
//	...
//	srv.Shutdown(ctx)
//
// docs/protocol.md tells what is spoken here.
package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/internal/ownership"
	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/spin"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

// Config is what a Server is made of. Self and Running are required.
type Config struct {
	Self       wire.ServerConfig // this server, among Running.Servers
	Running    wire.StripeConfig // what this server was started with
	Durability string            // shown in TC.STATUS
	Version    string            // of the build
	Password   string            // shared secret, "" = everybody may come in
	Keys       *license.Keys     // trusted keys; nil trusts nobody
	Limits     Limits
	Stop       func(whole bool) // called once, after the answer to TC.STOP, and must not block; whole: all servers of the stripe stop; nil: TC.STOP is refused
	Settings   []wire.Setting   // shown in TC.DUMP, without secrets
	Now        func() time.Time // wall clock, for the licence only; nil = time.Now
	Logger     *slog.Logger     // nil = slog.Default()
}

// Server answers the connections of one listener. All methods may be called at
// any time.
type Server struct {
	cfg      Config
	log      *slog.Logger
	own      *ownership.Ownership
	stripe   *stripe.Stripe
	store    *store.Store
	started  time.Time
	password [sha256.Size]byte // hash of cfg.Password: its length is hidden from the compare
	input    *resp.Budget      // of large commands
	behind   behind            // of answers that peers have not taken
	volley   volley
	licence  licenceWatch
	backups  backups
	rejects  rateLimited // log lines that a stranger can cause

	activations atomic.Uint64 // how often this server became active in this run
	licenceTold atomic.Bool   // how the licence stands was logged
	configured  atomic.Bool   // the store has a cluster; never goes back
	redisThere  atomic.Bool   // the Redis commands have their dataset; never goes back
	configuring chan struct{} // holds a value while TC.CONFIGURE runs
	stopOnce    sync.Once
	lastID      atomic.Uint64
	crowd       spin.Crowd

	stopping atomic.Bool     // new commands are answered STOPPING
	ctx      context.Context // ends with Shutdown
	quit     context.CancelFunc

	mu       sync.Mutex // guards listener, conns, lobby, closed
	listener net.Listener
	conns    map[uint64]*conn // connection id -> connection
	lobby    lobby            // those of conns that have not introduced themselves
	closed   bool
	work     sync.WaitGroup // connections and the watches
}

// New returns a Server on top of the three rooms, which it does not close.
func New(cfg Config, own *ownership.Ownership, sp *stripe.Stripe, st *store.Store) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Logger, own: own, stripe: sp, store: st,
		started:     time.Now(),
		password:    sha256.Sum256([]byte(cfg.Password)),
		configuring: make(chan struct{}, 1),
		conns:       make(map[uint64]*conn),
	}
	s.ctx, s.quit = context.WithCancel(context.Background())
	s.rejects.log = cfg.Logger
	s.input = resp.NewBudget(cfg.Limits.MaxInput)
	s.behind.max = int64(cfg.Limits.MaxBehind)
	s.licence.keys = cfg.Keys
	if sp != nil {
		sp.Bracket(s.volley.begin, s.volley.end)
	}
	return s
}

// errClosed is returned by Serve after Shutdown.
var errClosed = errors.New("server is closed")

// Serve accepts connections on ln until Shutdown, which closes ln. It returns
// nil after Shutdown, else the error of the listener.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.Join(errClosed, ln.Close())
	}
	s.listener = ln
	s.work.Go(s.watchLicence)
	s.work.Go(s.watchState)
	s.mu.Unlock()
	for {
		nc, err := ln.Accept()
		if err == nil {
			s.admit(nc)
			continue
		}
		if s.stopping.Load() {
			return nil
		}
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return err
		}
		// Out of file descriptors, mostly: some are given back as connections end.
		s.rejects.warn("cannot accept a connection", "error", err)
		select {
		case <-time.After(50 * time.Millisecond):
		case <-s.ctx.Done():
			return nil
		}
	}
}

// admit starts a connection, or turns it away where there are too many.
func (s *Server) admit(nc net.Conn) {
	c := newConn(s, nc, s.lastID.Add(1))
	s.mu.Lock()
	if s.lobby.strangers > 0 && (s.lobby.strangers >= s.cfg.Limits.MaxConnections/2 || len(s.conns) >= s.cfg.Limits.MaxConnections) {
		longest := s.lobby.turnOut()
		delete(s.conns, longest.id)
		s.rejects.warn("too many connections without a handshake: the one that has waited longest is closed", "peer", longest.nc.RemoteAddr())
		_ = longest.nc.Close() // its goroutine learns it from that
	}
	full := len(s.conns) >= s.cfg.Limits.MaxConnections
	if !full && !s.closed {
		s.conns[c.id] = c
		s.lobby.enter(c)
		s.work.Go(c.run)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if full {
		s.rejects.warn("too many connections: one is turned away", "limit", s.cfg.Limits.MaxConnections, "peer", nc.RemoteAddr())
		// The socket's buffer is empty, so this does not wait for the peer.
		_ = nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = nc.Write([]byte("-" + string(wire.ErrBusy) + " too many connections; try again later\r\n"))
	}
	_ = nc.Close()
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c.id)
	s.lobby.leave(c)
	s.mu.Unlock()
}

// introduce takes c, which has shown who it is, out of the lobby.
func (s *Server) introduce(c *conn) {
	s.mu.Lock()
	s.lobby.leave(c)
	s.mu.Unlock()
}

// connections returns the open connections, in no order.
func (s *Server) connections() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for _, c := range s.conns {
		list = append(list, c)
	}
	return list
}

// Connections returns how many connections are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown stops accepting, lets the commands that run finish until ctx ends,
// sends their answers and closes every connection. It returns when all
// goroutines of the server have ended: nil, or ctx's error where answers were
// cut off. The rooms below must still be open.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.quit()
		if s.listener != nil {
			_ = s.listener.Close()
		}
	}
	s.mu.Unlock()
	for _, c := range s.connections() {
		c.stopReading()
	}
	done := make(chan struct{})
	go func() { s.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range s.connections() {
		_ = c.Close()
	}
	<-done
	return ctx.Err()
}
