package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/internal/ownership"
	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/spin"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// conn is one connection. Its fields belong to the reading goroutine unless
// said otherwise.
type conn struct {
	answers
	srv    *Server
	id     uint64
	since  time.Time
	rd     *resp.Reader
	sp     *spin.Conn      // nil where it always waits for the poller
	gates  [2]spin.Gate    // where commands come one at a time: behind an answer given at once, and behind another
	trial  spin.Trial      // where several come at a time
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	proto      int
	authed     bool              // may use every command
	failures   int               // wrong passwords
	served     bool              // a command was executed: the handshake is over
	introduced bool              // out of the lobby
	member     *ownership.Member // nil before TC.JOIN
	leaving    bool              // close after the answers that are there
	encode     func(*wire.Session)
	fields     [][]byte // scratch of encode, and digits
	digits     []byte
	loads      waitingLoads
	redis      redisTurns
	aside      sync.WaitGroup // commands that run beside the reading goroutine

	commands int       // executed since the last call of Read
	lone     int       // reads in a row that brought one command
	reads    int       // calls of Read since the last command
	began    time.Time // when the first byte of the command being read came
	deadline time.Time // of reads, as set on nc

	stranger bool        // is in the lobby; guarded by srv.mu
	retired  atomic.Bool // Retire was called

	about aboutConn // shown by CLIENT; guarded by answers.mu
}

// aboutConn is what a peer told of itself.
type aboutConn struct {
	name, lib, libVersion string
	node                  string   // of a joined node
	last                  *command // executed; set by the reading goroutine alone
}

func newConn(s *Server, nc net.Conn, id uint64) *conn {
	c := &conn{srv: s, id: id, since: time.Now(), proto: 2, authed: s.cfg.Password == ""}
	c.answers.init(nc, &s.cfg.Limits, &s.behind, &s.volley)
	c.hurry = s.own.Hurry
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.encode = c.appendSession
	limits := strangers
	if c.authed {
		limits = s.cfg.Limits.input()
	}
	c.sp = spin.New(nc)
	c.rd = resp.NewReader(c, limits)
	c.rd.Share(s.input)
	return c
}

// run serves the connection until it ends, and leaves nothing of it behind.
func (c *conn) run() {
	defer c.srv.forget(c)
	c.ended(c.serve())
	c.drain(c.srv.cfg.Limits.Drain)
	if c.cutOff {
		c.srv.rejects.warn("connection closed: it does not take its answers, and all together take too much memory", "peer", c.nc.RemoteAddr(), "limit", c.srv.cfg.Limits.MaxBehind)
	}
	c.cancel()
	if c.member != nil {
		c.member.Left()
	}
	c.aside.Wait()
	c.rd.Release()
}

// Close ends the connection without waiting: ownership calls it when the node
// has opened a newer one.
func (c *conn) Close() error {
	c.cancel() // a join or load that waits ends, too
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakLocked()
	return nil
}

// Retire ends the connection after the commands that have arrived: ownership
// calls it when this server is no longer active, so that the node goes and looks
// for the one that is.
func (c *conn) Retire() {
	c.retired.Store(true)
	c.stopReading()
}

// stopReading lets the connection end after the commands that have arrived.
func (c *conn) stopReading() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

// errLeft ends a connection that needs no log line.
var errLeft = errors.New("connection is done")

func (c *conn) serve() error {
	for !c.leaving {
		c.reads, c.began = 0, time.Time{}
		args, err := c.rd.ReadCommand()
		if err != nil {
			return err
		}
		if len(args) == 0 {
			continue
		}
		c.commands++
		c.execute(args)
		if c.crowded() && !c.flush() {
			return errLeft
		}
	}
	return errLeft
}

// Read feeds the codec. It runs when everything that had arrived is executed,
// so this is the moment to answer.
func (c *conn) Read(p []byte) (int, error) {
	if !c.flush() {
		return 0, errLeft
	}
	now := time.Now()
	if err := c.setDeadline(now); err != nil {
		return 0, err
	}
	// After the deadline is set: Shutdown does it the other way round.
	if c.srv.stopping.Load() || c.retired.Load() {
		return 0, errLeft
	}
	first := !c.served && c.reads == 0
	c.reads++
	if n := c.look(p, now); n > 0 {
		return n, nil
	}
	n, err := c.nc.Read(p)
	if first && n > 1 && p[0] == 22 && p[1] == 3 {
		return 0, errTLS
	}
	return n, err
}

// loneReads is after how many commands in a row that came one at a time the next one is
// expected to do so, too.
const loneReads = 16

// look waits a moment for the next command of a node. What has come instead of one, such as
// the connection's end, is found by the read behind it.
func (c *conn) look(p []byte, now time.Time) (n int) {
	if c.sp == nil {
		return 0
	}
	if c.commands == 1 {
		c.lone++
	} else if c.commands > 1 {
		c.lone = 0
	}
	alone := c.commands > 0 && c.srv.crowd.Alone(c.id, now.Sub(c.srv.started))
	switch {
	case c.member == nil || c.commands == 0:
	case c.lone > loneReads:
		gate := &c.gates[0]
		if c.waited {
			gate = &c.gates[1]
		}
		if c.settled && gate.Open() {
			var took time.Duration
			n, took = c.sp.Look(p)
			gate.Note(n > 0, took)
		}
	case alone && c.trial.Open(now, c.commands) && c.settled:
		n, _ = c.sp.Look(p)
	}
	if n == 0 {
		c.sp.Rest()
	}
	c.commands, c.waited = 0, false
	return n
}

var errTLS = errors.New("the peer speaks TLS and this port does not")

// setDeadline bounds the read to come: a stranger must introduce itself in
// time, a command that has begun must end, and an idle tool is sent away. A
// joined node may be idle: TCP keep-alive finds out whether it still lives.
func (c *conn) setDeadline(now time.Time) error {
	l := &c.srv.cfg.Limits
	var d time.Time
	switch {
	case !c.authed || !c.served:
		d = c.since.Add(l.Handshake)
	case c.reads > 0: // the command was not whole with the read before
		if c.began.IsZero() {
			c.began = now
		}
		d = c.began.Add(l.Command)
	case c.member == nil:
		d = now.Add(l.Idle)
		if late := d.Sub(c.deadline); late >= 0 && late < l.Idle/16 {
			return nil // near enough, and cheaper
		}
	}
	if d.Equal(c.deadline) {
		return nil
	}
	c.deadline = d
	return c.nc.SetReadDeadline(d)
}

// ended tells the peer and the log why the connection ends, where it is worth it.
func (c *conn) ended(err error) {
	var protocol *resp.ProtocolError
	peer := c.nc.RemoteAddr()
	switch {
	case errors.Is(err, errLeft), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	case errors.As(err, &protocol):
		c.inline = appendError(c.inline, &wire.Error{Word: wire.ErrGeneric, Text: protocol.Error()})
		c.srv.rejects.warn("connection closed: not RESP, or above a limit", "peer", peer, "error", protocol)
	case errors.Is(err, resp.ErrBudget):
		c.inline = appendError(c.inline, &wire.Error{Word: wire.ErrBusy, Text: err.Error() + "; try again"})
		c.srv.rejects.warn("connection closed: "+err.Error(), "peer", peer, "limit", c.srv.cfg.Limits.MaxInput)
	case errors.Is(err, errTLS):
		c.srv.rejects.warn("connection closed: "+errTLS.Error(), "peer", peer)
	case errors.Is(err, os.ErrDeadlineExceeded):
		if c.srv.stopping.Load() || c.retired.Load() {
			return
		}
		why := "idle for too long"
		if !c.authed || !c.served {
			why = "no complete handshake in time"
		} else if !c.began.IsZero() {
			why = "a command did not end in time"
		}
		c.srv.rejects.warn("connection closed: "+why, "peer", peer)
	default:
		c.srv.log.Debug("connection lost", "peer", peer, "error", err)
	}
}

// execute runs one command: its answer is in inline, or has a slot.
func (c *conn) execute(args [][]byte) {
	name := args[0]
	if browser(args) {
		c.srv.rejects.warn("connection closed: an HTTP request came to the RESP port", "peer", c.nc.RemoteAddr())
		c.leaving = true
		return
	}
	cmd := c.about.last
	if cmd == nil || string(name) != cmd.name {
		cmd = lookup(name)
	}
	if cmd == nil {
		if !c.authed {
			c.refuse(wire.ErrNoAuth, needAuth)
			return
		}
		c.refuse(wire.ErrGeneric, unknownCommand(name))
		return
	}
	switch {
	case !c.authed && !cmd.anybody:
		c.refuse(wire.ErrNoAuth, needAuth)
	case (cmd.arity > 0 && len(args) != cmd.arity || cmd.arity < 0 && len(args) < -cmd.arity) && cmd.redis:
		c.refuse(wire.ErrGeneric, wrongArguments(cmd))
	case cmd.arity > 0 && len(args) != cmd.arity, cmd.arity < 0 && len(args) < -cmd.arity:
		if cmd.name == wire.CmdJoin && len(args) > 1 {
			if err := wire.JoinVersion(args[1:]); err != nil {
				c.fail(err)
				return
			}
		}
		c.refuse(wire.ErrBadRequest, "wrong number of arguments; usage: "+cmd.usage())
	case cmd.cluster && c.srv.stopping.Load():
		c.refuse(wire.ErrStopping, "this server is shutting down")
	case cmd.cluster && !c.srv.serves():
		c.fail(c.srv.notServing())
	default:
		c.note(cmd)
		cmd.run(c, args[1:])
	}
	if c.authed && !c.introduced {
		c.introduced = true
		c.srv.introduce(c)
	}
	c.served = true
}

const needAuth = "this server wants a password: AUTH or HELLO 3 AUTH default PASSWORD first"

func (c *conn) note(cmd *command) {
	if c.about.last == cmd {
		return
	}
	c.mu.Lock()
	c.about.last = cmd
	c.mu.Unlock()
}

// browser recognises HTTP: a page in a browser can make it post to any port of
// the machine, and lines of its body would be commands.
func browser(args [][]byte) bool {
	switch name := args[0]; len(name) {
	case 4:
		if bytes.EqualFold(name, []byte("POST")) {
			return true
		}
	case 5:
		if bytes.EqualFold(name, []byte("Host:")) {
			return true
		}
	}
	return len(args) == 3 && bytes.HasPrefix(args[2], []byte("HTTP/")) && bytes.HasPrefix(args[1], []byte("/"))
}

// beside runs a command that may wait for long in a goroutine of its own, when
// its turn has come: for the few of which nobody sends many. f gets the
// connection's context and returns the answer; the arguments it uses must be copies.
func (c *conn) beside(f func(ctx context.Context) ([]byte, error)) {
	place := c.wait()
	c.aside.Go(func() {
		place.turn(true)
		answer, err := f(c.ctx)
		place.settle(func(dst []byte) []byte {
			if err != nil {
				return appendError(dst, busyInstead(err))
			}
			return append(dst, answer...)
		})
	})
}

// refuse answers the command being executed with an error.
func (c *conn) refuse(w wire.Word, text string) {
	c.inline = appendError(c.inline, &wire.Error{Word: w, Text: text})
}

// fail answers the command being executed with err.
func (c *conn) fail(err error) { c.inline = appendError(c.inline, err) }

// ok answers the command being executed with OK.
func (c *conn) ok() { c.inline = resp.AppendSimple(c.inline, "OK") }

// appendError appends err in wire form. An error without a word is ours to
// explain: it gets ERR.
func appendError(dst []byte, err error) []byte {
	var refusal *wire.Error
	if !errors.As(err, &refusal) {
		refusal = &wire.Error{Word: wire.ErrGeneric, Text: err.Error()}
	}
	return resp.AppendError(dst, refusal.Error())
}
