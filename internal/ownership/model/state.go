package model

// state is everything at one moment. It holds no pointers and nothing that does not
// matter: two states that behave alike are equal.
type state struct {
	up, down       [nodes]queue // on each node's connection
	oldUp, oldDown [nodes]queue // on the one before, not read yet

	node   [nodes]node
	server [2]server // the first active, and the one after a fail-over
	log    [4]uint8  // proposed and not applied: write | late<<7; 0 ends it
	store  store
	write  [maxWrites + 1]write // by number, from 1

	active uint8 // index in server
	alive  bool  // after a fail-over: the old active lives on and does not know
	stale  struct{ value, index uint8 }

	writes, tokens               uint8 // given out
	loads, breaks, faults, drift uint8 // left
	renews                       uint8 // left, where they are bounded
	admin                        bool  // the active has ended the session once
	calm                         bool  // nothing fails or begins any more
	calmTicks                    uint8

	// What users were told, and what is true, which nobody in the protocol knows.
	promised, acked uint8 // writes
	made            uint8 // writes that changed the store
	gone            bool  // the end of the session was told
	over            uint8 // writes whose lock has passed on to another node meanwhile
	age             uint8 // ticks since the session was used
	excused         bool  // a failure may have lost when it was used
}

type node struct {
	dead   bool
	server uint8
	open   bool  // the server has read the HELLO of this connection
	lease  uint8 // ticks left
	asked  bool  // a renewal is not answered yet
	asks   uint8 // ticks left of the lease that it would give

	owns                bool
	token, index, value uint8
	used                uint8 // ticks since a request used the session here

	loading  bool
	promised uint8 // when the load began
	gone     bool  // when the load began
	voided   uint8 // the highest token that was recalled

	running                bool // a request that will change the session
	rtoken, rindex, rvalue uint8
	locked                 bool  // it holds the lock, as far as it can know
	over                   bool  // another node's request has begun since
	due                    uint8 // the recall that a lock holds up
}

type server struct {
	owner, token uint8
	recalled     bool
	waits        [nodes]bool  // a load
	lease        [nodes]uint8 // ticks left
	claimed      [nodes]bool
	window       uint8 // ticks left to claim
	held         uint8 // commits that wait, as bits
	expiring     bool
	seen         uint8 // ticks since the last access that it knows of
}

// store is what the log has made.
type store struct {
	value, version  uint8
	token, write    uint8 // who wrote last
	applied, failed uint8 // remembered outcomes, as bits
	deleted, absent bool
}

type write struct {
	node, token, index, value uint8
	status                    uint8
	ends                      bool // it ends the session
}

const (
	sent = iota + 1
	acknowledged
	dropped
)

func bit(i uint8) uint8 { return 1 << i }

// message is kind, a, b and c in four bits each; a is a token or the number of a
// write, b an index or a number of ticks, c a set of writes shifted right by one.
type message uint16

type kind uint8

const (
	hello kind = iota + 1
	claim
	renew
	load
	commit
	giveBack
	leased // answers renew and claim
	grant
	ticket
	gone
	recall
	ack
	drop
	refused // answers a claim
)

func msg(k kind, a, b, set uint8) message {
	return message(k)<<12 | message(a&15)<<8 | message(b&15)<<4 | message(set>>1&15)
}

func (g message) kind() kind { return kind(g >> 12) }
func (g message) a() uint8   { return uint8(g >> 8 & 15) }
func (g message) b() uint8   { return uint8(g >> 4 & 15) }
func (g message) set() uint8 { return uint8(g&15) << 1 }

// queue is what one end has sent and the other has not read, in order; 0 ends it.
type queue [8]message

func (q *queue) len() uint8 {
	for i, g := range q {
		if g == 0 {
			return uint8(i)
		}
	}
	return uint8(len(q))
}

// put reports whether there was room.
func (q *queue) put(g message) bool {
	n := q.len()
	if int(n) == len(q) {
		return false
	}
	q[n] = g
	return true
}

// take removes the message at i.
func (q *queue) take(i uint8) message {
	g := q[i]
	copy(q[i:], q[i+1:])
	q[len(q)-1] = 0
	return g
}

// swapped is the same state with the nodes' names exchanged: whatever the one can
// do, the other can.
func (s *state) swapped() state {
	t := *s
	for _, p := range []*[nodes]queue{&t.up, &t.down, &t.oldUp, &t.oldDown} {
		p[0], p[1] = p[1], p[0]
	}
	t.node[0], t.node[1] = t.node[1], t.node[0]
	for i := range t.server {
		v := &t.server[i]
		v.waits[0], v.waits[1] = v.waits[1], v.waits[0]
		v.lease[0], v.lease[1] = v.lease[1], v.lease[0]
		v.claimed[0], v.claimed[1] = v.claimed[1], v.claimed[0]
		if v.owner < nobody {
			v.owner = 1 - v.owner
		}
	}
	for i := range t.write {
		if w := &t.write[i]; w.status != 0 && w.token != 0 {
			w.node = 1 - w.node
		}
	}
	return t
}

// clean forgets what nothing depends on any more.
func (s *state) clean(oldDown bool) {
	for i := range s.node {
		d := &s.node[i]
		if d.dead {
			*d = node{dead: true, server: d.server}
			s.down[i], s.oldDown[i] = queue{}, queue{}
		}
		if !d.owns {
			d.token, d.index, d.value = 0, 0, 0
		}
		if !d.loading {
			d.promised, d.gone = 0, false
			if !oldDown && !s.down[i].has(grant) { // only that could be void
				d.voided = 0
			}
		}
		if !d.running {
			d.rtoken, d.rindex, d.rvalue, d.locked, d.over = 0, 0, 0, false, false
		}
		if s.active == 1 && !s.alive && d.server == 0 {
			s.up[i], s.oldUp[i] = queue{}, queue{}
		}
	}
	for i := range s.server {
		if v := &s.server[i]; v.owner == nobody {
			v.token, v.recalled = 0, false
		}
	}
	s.settle()
	if s.calm {
		s.loads, s.breaks, s.faults, s.drift, s.renews, s.admin = 0, 0, 0, 0, 0, true
	}
}

// settle forgets what is answered and will not come again.
func (s *state) settle() {
	about := s.server[0].held | s.server[1].held
	for _, e := range s.log {
		about |= bit(e & 7)
	}
	for _, queues := range []*[nodes]queue{&s.up, &s.oldUp, &s.down, &s.oldDown} {
		for i := range queues {
			for _, g := range queues[i] {
				if k := g.kind(); k == commit || k == ack || k == drop {
					about |= bit(g.a())
				}
			}
		}
	}
	for i := uint8(1); i <= s.writes; i++ {
		if w := &s.write[i]; (w.status > sent || w.node < nobody && s.node[w.node].dead) && about&bit(i) == 0 {
			*w = write{status: acknowledged}
			s.made &^= bit(i)
			s.over &^= bit(i)
			s.store.applied &^= bit(i)
			s.store.failed &^= bit(i)
		}
	}
}

func (q *queue) has(k kind) bool {
	for _, g := range q {
		if g.kind() == k {
			return true
		}
	}
	return false
}

func dec(p *uint8) {
	if *p > 0 {
		*p--
	}
}

func inc(p *uint8) {
	if *p < idleLimit {
		*p++
	}
}
