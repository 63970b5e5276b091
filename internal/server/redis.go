package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// This file keeps the order of Redis commands on a connection: each sees what those before
// it did, and nothing of those behind it, although nobody waits for an answer.
//
// Changes are proposed in their order. A read with no change of its connection under way is
// answered from memory at once. Else it is proposed, too: it is answered
// in its place in the log, in the same batch as the changes before it mostly, and costs no disk
// synchronisation that they do not cost anyway. One with a large answer waits instead until
// the changes are made, so that answers do not pile up.

// redisTurns is what a connection must know of its commands on keys.
type redisTurns struct {
	ahead    atomic.Int64 // proposed and not yet answered
	written  atomic.Int64 // bytes of the changes among them
	promised atomic.Int64 // bytes that the answers of the reads among them may have

	query store.RedisQuery // of the reading goroutine
	op    []byte           // its scratch
}

const (
	loggedAnswer  = 64 << 10 // a read with a larger answer is not proposed
	loggedSlack   = 4 << 10  // what other connections may add meanwhile
	loggedAnswers = 4 << 20  // the answers of all proposed reads of a connection
)

// redisSlot is what a slot needs to answer a command on keys.
type redisSlot struct {
	c        *conn
	form     answerForm
	proto    int
	written  int
	promised int
	finish   func(wire.Outcome, error) // made once
}

// proposeRedis proposes op, which is a change, or a read whose answer may have promised bytes.
func (c *conn) proposeRedis(op []byte, promised int, form answerForm) {
	s := c.wait()
	r := &s.redis
	r.c, r.form, r.proto, r.promised, r.written = c, form, c.proto, promised, 0
	if promised == 0 {
		r.written = len(op)
	}
	if r.finish == nil {
		r.finish = s.redisOutcome
	}
	c.redis.ahead.Add(1)
	c.redis.written.Add(int64(r.written))
	c.redis.promised.Add(int64(promised))
	c.srv.stripe.Gather(op, r.finish) // what waits for it, or for input, calls propose first
	if cap(op) <= keepBuffer {
		c.redis.op = op[:0]
	}
}

// redisOutcome is the callback of proposeRedis and must not block.
func (s *slot) redisOutcome(o wire.Outcome, err error) {
	r := &s.redis
	// Before the answer can be seen: who has it finds nothing ahead.
	r.c.redis.written.Add(int64(-r.written))
	r.c.redis.promised.Add(int64(-r.promised))
	r.c.redis.ahead.Add(-1)
	if err == nil && o.Err != nil {
		err = o.Err
	}
	s.settle(func(dst []byte) []byte {
		if err != nil {
			return appendError(dst, err)
		}
		return r.form(dst, r.proto, o.Redis)
	})
}

// changeRedis proposes a change.
func (c *conn) changeRedis(op []byte, form answerForm) {
	if err := c.srv.redisGrowth(); err != nil {
		c.fail(err)
		return
	}
	c.proposeRedis(op, 0, form)
}

// redisGrowth returns why the licence does not allow the first Redis command to make
// its dataset, or nil.
func (s *Server) redisGrowth() error {
	if s.redisThere.Load() {
		return nil
	}
	if s.isNew([]byte(store.RedisDataset)) {
		return s.growth()
	}
	s.redisThere.Store(true)
	return nil
}

// reading returns the command that asks for what.
func reading(what store.RedisWhat, form answerForm) func(*conn, [][]byte) {
	return func(c *conn, args [][]byte) {
		q := &c.redis.query
		q.What, q.Args = what, args
		// Where changes are refused those before it are, too, and reads go on.
		if c.redis.ahead.Load() > 0 && c.srv.stripe.Takes() {
			if limit := c.loggedLimit(q); limit > 0 {
				c.proposeRedis(store.AppendRedisRead(c.redis.op[:0], q, limit), limit, form)
				return
			}
		}
		c.fromMemory(func(now store.Time) error {
			err := c.srv.store.RedisRead(now, q, func(r *wire.RedisReply) { c.inline = form(c.inline, c.proto, r) })
			if err != nil {
				return err
			}
			return nil
		})
	}
}

// loggedLimit returns how large the answer to q may be in the log; 0 where it must wait instead.
func (c *conn) loggedLimit(q *store.RedisQuery) int {
	size := 0
	_ = c.srv.store.RedisRead(c.srv.stripe.Now(), q, func(r *wire.RedisReply) {
		for _, v := range r.Values {
			size += len(v)
		}
	})
	size += int(c.redis.written.Load()) * len(q.Args)
	if size > loggedAnswer || int(c.redis.promised.Load())+size+loggedSlack > loggedAnswers {
		return 0
	}
	return size + loggedSlack
}

// fromMemory answers a read: read appends the answer to inline. It waits until the changes before
// it are made, and holds up what comes behind it until it is certain that this server is active.
func (c *conn) fromMemory(read func(now store.Time) error) {
	c.awaitRedis()
	now := c.srv.stripe.Now()
	if now == 0 {
		if err := c.confirm(); err != nil {
			c.fail(err)
			return
		}
		now = c.srv.stripe.Now()
	}
	_, reign := c.srv.stripe.Reign()
	mark := len(c.inline)
	refusal := read(now)
	if refusal != nil {
		c.inline = c.inline[:mark]
	}
	if err := c.srv.stripe.Confirm(hurried); err != nil {
		answer := append([]byte(nil), c.inline[mark:]...)
		c.inline = c.inline[:mark]
		if err := c.confirm(); err != nil {
			c.fail(err)
			return
		}
		mark = len(c.inline) // what stood before is handed over
		c.inline = append(c.inline, answer...)
	}
	if _, still := c.srv.stripe.Reign(); still != reign {
		// What was read before another server was active proves nothing now.
		c.inline = c.inline[:mark]
		refusal = errMeanwhile
	}
	if refusal != nil {
		c.fail(refusal)
	}
}

var errMeanwhile = &wire.Error{Word: wire.ErrNotActive, Text: "another server was active meanwhile: try again"}

// confirmTimeout bounds how long a read may hold its connection up.
const confirmTimeout = 10 * time.Second

// confirm waits until it is certain that this server is active. What is answered already leaves meanwhile.
func (c *conn) confirm() error {
	c.propose()
	c.mu.Lock()
	c.handOverLocked()
	c.startFlushLocked()
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.ctx, confirmTimeout)
	defer cancel()
	return busyInstead(c.srv.stripe.Confirm(ctx))
}

// awaitRedis waits until no change of this connection is under way.
func (c *conn) awaitRedis() {
	if c.redis.ahead.Load() == 0 {
		return
	}
	c.propose()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handOverLocked()
	c.startFlushLocked()
	for c.redis.ahead.Load() > 0 && !c.broken {
		c.changed.Wait()
	}
}
