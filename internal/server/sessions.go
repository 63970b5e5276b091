package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/ownership"
	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

// This file holds the session commands: parse, ask ownership, encode. Package
// wire knows their arguments and answers.

// joinTimeout bounds how long a TC.JOIN may hold its connection up: nothing
// else can be done on it before.
const joinTimeout = 10 * time.Second

func (c *conn) join(args [][]byte) {
	j, err := wire.ParseJoin(args)
	if err != nil {
		c.fail(err)
		return
	}
	if c.member != nil {
		c.refuse(wire.ErrBadRequest, "this connection has joined already; a new generation needs a new connection")
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, joinTimeout)
	defer cancel()
	member, joined, err := c.srv.own.Join(ctx, &j, c)
	if err != nil {
		c.fail(busyInstead(err))
		return
	}
	c.member = member
	member.Gather()
	c.mu.Lock()
	c.about.node = j.Node.String()
	c.mu.Unlock()
	c.inline = appendList(c.inline, joined.AppendTo(nil))
}

func (c *conn) leave(args [][]byte) {
	l, err := wire.ParseLeave(args)
	if err == nil {
		err = c.mayWrite()
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.srv.own.Leave(c.member, &l, c.wait().finish)
}

// busyInstead makes a context's end an answer that says to try again.
func busyInstead(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &wire.Error{Word: wire.ErrBusy, Text: "the stripe did not answer in time; try again"}
	}
	return err
}

// open makes a dataset where it is missing: the only session command that is
// no business of ownership, because a dataset has no owner.
func (c *conn) open(args [][]byte) {
	o, err := wire.ParseOpen(args)
	if err != nil {
		c.fail(err)
		return
	}
	if c.srv.isNew(o.Dataset) {
		if err := c.srv.growth(); err != nil {
			c.fail(err)
			return
		}
	}
	c.srv.stripe.Propose(store.AppendOpen(nil, &o), c.wait().finish)
}

// isNew reports whether there is no such dataset.
func (s *Server) isNew(dataset []byte) bool {
	err := s.store.View(dataset, nil, func(*store.Record) {})
	return err != nil && err.Word == wire.ErrNoDataset
}

// growth returns why the licence allows no new dataset, or nil.
func (s *Server) growth() error {
	st := s.licence.status(s.store.Cluster(), s.cfg.Now())
	if st == nil || st.State != string(license.Limited) {
		return nil
	}
	return &wire.Error{Word: wire.ErrLicense, Text: "no new dataset: " + st.Message}
}

func (c *conn) create(args [][]byte) {
	w, err := wire.ParseCreate(args)
	if err == nil {
		err = c.mayWrite()
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.srv.own.Create(c.member, &w, c.wait().finish)
}

func (c *conn) commit(args [][]byte) {
	w, err := wire.ParseCommit(args)
	if err == nil {
		err = c.mayWrite()
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.srv.own.Commit(c.member, &w, c.wait().finish)
}

func (c *conn) invalidate(args [][]byte) {
	w, err := wire.ParseInvalidate(args)
	if err == nil {
		err = c.mayWrite()
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.srv.own.Invalidate(c.member, &w, c.wait().finish)
}

func (c *conn) renew(args [][]byte) {
	w, err := wire.ParseRenew(args)
	if err == nil {
		err = c.mayWrite()
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.srv.own.Renew(c.member, &w, c.wait().finish)
}

func (c *conn) mayWrite() error {
	if c.member == nil {
		return errNotJoined
	}
	return nil
}

var errNotJoined = &wire.Error{Word: wire.ErrNotJoined, Text: "TC.JOIN comes first on this connection"}

// hurried is a context that has ended: a read that would wait for the stripe
// comes back at once instead, and is done by the waiting loads.
var hurried = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// load reads a session. With a valid lease of the stripe it is answered at
// once, encoded from the record into the output.
func (c *conn) load(args [][]byte) {
	if len(args) == 2 {
		c.show(args)
		return
	}
	l, err := wire.ParseLoad(args)
	if err == nil && c.member == nil && l.Mode != wire.LoadPeek {
		err = errNotJoined
	}
	if err != nil {
		c.fail(err)
		return
	}
	if !c.loads.idle() { // in order behind those that wait
		c.later(&l)
		return
	}
	mark := len(c.inline)
	err = c.srv.own.Load(hurried, c.member, &l, c.encode)
	if err == nil {
		return
	}
	c.inline = c.inline[:mark] // the lease is checked after the value was read
	if errors.Is(err, context.Canceled) {
		c.later(&l)
		return
	}
	c.fail(err)
}

func (c *conn) appendSession(s *wire.Session) {
	c.fields, c.digits = s.AppendWith(c.fields[:0], c.digits[:0])
	c.inline = appendList(c.inline, c.fields)
	clear(c.fields) // they alias the record, which is ours only here
}

// show answers TC.LOAD dataset key, for people: a labelled look that is no access.
func (c *conn) show(args [][]byte) {
	l := wire.Load{Dataset: args[0], Key: args[1], Mode: wire.LoadPeek}
	if len(l.Dataset) == 0 || len(l.Dataset) > wire.MaxDatasetName || len(l.Key) == 0 || len(l.Key) > wire.MaxKey {
		c.refuse(wire.ErrBadRequest, "dataset or key is empty or too long")
		return
	}
	l.Dataset, l.Key = bytes.Clone(l.Dataset), bytes.Clone(l.Key)
	proto, member := c.proto, c.member
	c.beside(func(ctx context.Context) (answer []byte, err error) {
		err = c.srv.own.Load(ctx, member, &l, func(s *wire.Session) { answer = appendLabelled(nil, proto, s) })
		return answer, err
	})
}

func appendLabelled(dst []byte, proto int, s *wire.Session) []byte {
	dst = resp.AppendMapHeader(dst, proto, 7+len(s.Attributes))
	text := func(name, value string) {
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, name), value)
	}
	text("key", string(s.Key))
	text("version", fmt.Sprint(s.Version))
	text("user", string(s.User))
	text("age", s.Age.Round(time.Millisecond).String())
	text("idle", s.Idle.Round(time.Millisecond).String())
	text("idle-timeout", orNone(s.IdleMax))
	text("remaining", orNone(max(s.Remaining, 0)))
	for _, a := range s.Attributes {
		dst = resp.AppendBulkString(dst, "attribute "+string(a.Name))
		dst = resp.AppendBulk(dst, a.Value)
	}
	return dst
}

func orNone(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return d.Round(time.Millisecond).String()
}

// waitingLoads are the loads of one connection that wait for the stripe to
// confirm that it is still active. They share one goroutine, which lives while
// there are any: with the first confirmation the others need not wait.
type waitingLoads struct {
	mu      sync.Mutex // guards list, running
	list    []waitingLoad
	running bool
}

type waitingLoad struct {
	l wire.Load
	s *slot
}

func (w *waitingLoads) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.running
}

// later keeps l, whose memory belongs to the reader, for the waiting loads.
func (c *conn) later(l *wire.Load) {
	kept := *l
	kept.Dataset, kept.Key = bytes.Clone(l.Dataset), bytes.Clone(l.Key)
	s := c.wait()
	w := &c.loads
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, waitingLoad{kept, s})
	if !w.running {
		w.running = true
		member := c.member
		c.aside.Go(func() { c.runLoads(member) })
	}
}

func (c *conn) runLoads(member *ownership.Member) {
	for {
		c.loads.mu.Lock()
		list := c.loads.list
		c.loads.list = nil
		c.loads.running = len(list) > 0
		c.loads.mu.Unlock()
		if len(list) == 0 {
			return
		}
		for i := range list {
			list[i].s.turn(false)
			var answer []byte
			err := c.srv.own.Load(c.ctx, member, &list[i].l, func(s *wire.Session) {
				answer = appendList(nil, s.AppendTo(nil))
			})
			if err != nil {
				answer = appendError(nil, busyInstead(err))
			}
			list[i].s.settle(func(dst []byte) []byte { return append(dst, answer...) })
		}
	}
}

// user lists the sessions of a user.
func (c *conn) user(args [][]byte) {
	dataset, user := bytes.Clone(args[0]), bytes.Clone(args[1])
	c.beside(func(ctx context.Context) ([]byte, error) {
		list, err := c.srv.own.UserSessions(ctx, dataset, user)
		return appendList(nil, wire.AppendUserSessions(nil, list)), err
	})
}

// serves reports whether this server executes commands on data: it is the
// active one, of a configured cluster.
func (s *Server) serves() bool {
	if !s.stripe.Serves() {
		return false
	}
	if s.configured.Load() {
		return true
	}
	if s.store.Cluster() == nil {
		return false
	}
	s.configured.Store(true)
	return true
}
