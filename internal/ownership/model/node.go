package model

// push sends to a node on its current connection; what is sent before the server has
// read the HELLO goes to the one before.
func (m *machine) push(v, n uint8, g message) {
	d := &m.s.node[n]
	switch {
	case d.dead || d.server != v:
	case d.open:
		m.overflow = !m.s.down[n].put(g) || m.overflow
	case m.without(GenerationDown):
		m.overflow = !m.s.oldDown[n].put(g) || m.overflow
	}
}

func (m *machine) send(n uint8, g message) { m.overflow = !m.s.up[n].put(g) || m.overflow }

// room reports whether one more request may begin that ends with a write.
func (m *machine) room(s *state) bool {
	running := s.writes
	for i := range s.node {
		if s.node[i].running {
			running++
		}
	}
	return int(running) < m.Writes
}

func (m *machine) nodeSteps(n uint8) {
	s := m.from
	d := &s.node[n]
	if d.dead {
		return
	}
	serves := d.owns && d.lease > 0
	if !d.owns && !d.loading && !d.running && d.lease > 0 && s.loads > 0 && !s.calm {
		m.step(func(s *state) {
			s.loads--
			d := &s.node[n]
			d.loading, d.promised, d.gone = true, s.promised, s.gone
			m.send(n, msg(load, 0, 0, 0))
			m.say("node %n: a request comes and loads the session", n)
		})
	}
	if d.lease < lease && (!d.asked || m.without(RenewalMatched) && d.asks < lease) && (m.Renews == 0 || s.renews > 0 || s.calm) {
		m.step(func(s *state) {
			dec(&s.renews)
			s.node[n].asked, s.node[n].asks = true, lease
			m.send(n, msg(renew, 0, 0, 0))
			m.say("node %n asks to renew its lease", n)
		})
	}
	if serves && !d.running && d.due == 0 && m.room(s) && !s.calm {
		m.step(func(s *state) {
			s.node[n].used, s.age = 0, 0
			m.begin(n, s.node[n].token, s.node[n].index, s.node[n].value)
			m.say("node %n: a request begins, served from memory: reads %v", n, s.node[n].rvalue)
		})
	}
	if serves && m.Expiry && !s.calm && d.used+s.age > 0 {
		m.step(func(s *state) {
			s.node[n].used, s.age = 0, 0
			m.say("node %n: a hit", n)
		})
	}
	if d.running {
		m.step(func(*state) {
			m.end(n)
			m.owes(n)
		})
	}
	if m.Sync && serves && !s.calm && d.value&^s.promised != 0 && (m.without(CleanReads) || d.value&(s.pending(0)|s.pending(1)) == 0) {
		m.step(func(s *state) {
			s.promised |= s.node[n].value
			m.say("node %n: a hit reads %v, and its response is sent", n, s.node[n].value)
		})
	}
	for i := range s.down[n].len() {
		if i == 0 || m.without(WireOrder) {
			m.step(func(s *state) {
				m.nodeReads(n, s.down[n].take(i))
				m.owes(n)
			})
		}
	}
	if s.oldDown[n].len() > 0 {
		m.step(func(s *state) {
			m.say("(from the old connection)")
			m.nodeReads(n, s.oldDown[n].take(0))
			m.owes(n)
		})
	}
	m.reconnects(n)
}

// pending is what node n has written and not been answered.
func (s *state) pending(n uint8) (set uint8) {
	for i := range s.write {
		if w := &s.write[i]; w.status == sent && w.node == n {
			set |= bit(uint8(i))
		}
	}
	return set
}

// begin starts a request that will change the session.
func (m *machine) begin(n, token, index, value uint8) {
	s, d := &m.s, &m.s.node[n]
	d.running, d.rtoken, d.rindex, d.rvalue = true, token, index, value
	if !m.Locking {
		return
	}
	d.locked = true
	if other := &s.node[1-n]; other.running {
		other.over = true
	}
	for i := range s.write {
		if w := &s.write[i]; w.status == sent && w.node == 1-n {
			s.over |= bit(uint8(i))
		}
	}
}

func (m *machine) newWrite(n, token, index, value uint8) uint8 {
	m.s.writes++
	id := m.s.writes
	m.s.write[id] = write{node: n, token: token, index: index, value: value | bit(id), status: sent}
	return id
}

// end ends a request: its change is sent, and its response where that need not wait.
func (m *machine) end(n uint8) {
	s, d := &m.s, &m.s.node[n]
	owner := d.owns && d.lease > 0 && d.token == d.rtoken
	id := m.newWrite(n, d.rtoken, d.rindex, d.rvalue)
	w := &s.write[id]
	if d.over {
		s.over |= bit(id)
	}
	m.send(n, msg(commit, id, 0, 0))
	switch {
	case m.Logout && int(id) == m.Writes:
		w.ends = true
		if owner {
			d.owns = false
		}
		if m.without(LogoutWaits) {
			s.gone = true
		}
		m.say("node %n: the request ends with a logout, sent as commit %d", n, id)
	case owner:
		d.value = w.value
		if !m.Sync {
			s.promised |= bit(id)
			m.say("node %n: the request ends, its response is sent, and commit %d with value %v", n, id, w.value)
			break
		}
		m.say("node %n: the request ends and waits for commit %d with value %v", n, id, w.value)
	case !m.Sync && m.without(LateWaits):
		s.promised |= bit(id)
		m.say("node %n: the request ends without ownership, its response is sent, and commit %d with value %v", n, id, w.value)
	default:
		m.say("node %n: the request ends without ownership and waits for commit %d with value %v", n, id, w.value)
	}
	d.running = false
}

// owes answers a recall that a lock has held up: when the request has ended and its
// commits are acknowledged, or when the lock is lost.
func (m *machine) owes(n uint8) {
	d := &m.s.node[n]
	if d.due == 0 || d.running || m.without(BusyEnds) {
		return
	}
	if d.owns && m.s.pending(n) != 0 && !m.without(LocksAcknowledged) {
		return
	}
	due := d.due
	d.due = 0
	m.giveBack(n, due)
}

// never is the age of a use that is not known of; 0 where nobody asks.
func (m *machine) never() uint8 {
	if m.Expiry {
		return idleLimit
	}
	return 0
}

// giveBack answers the recall of token.
func (m *machine) giveBack(n, token uint8) {
	d := &m.s.node[n]
	used := m.never()
	if d.owns && d.token <= token && !m.without(GiveTellsUse) {
		used = d.used
	}
	had := d.owns
	if had && (d.token <= token || m.without(GiveToken)) {
		d.owns = false
	}
	d.voided = max(d.voided, token)
	if !had && m.without(RecallAnswered) {
		m.say("node %n does not answer the recall of token %d: it owns nothing", n, token)
		return
	}
	g := msg(giveBack, token, used, 0)
	if q := &m.s.up[n]; m.without(CommitsFirst) && q.len() < uint8(len(q)) {
		copy(q[1:], q[:])
		q[0] = g
	} else {
		m.send(n, g)
	}
	m.say("node %n gives token %d back", n, token)
}

func (m *machine) nodeReads(n uint8, g message) {
	s, d := &m.s, &m.s.node[n]
	switch g.kind() {
	case leased:
		if d.lease == 0 && !m.without(LapseDrops) {
			d.owns = false
		}
		left := d.asks
		if m.without(LeaseFromSending) {
			left = lease
		}
		if d.asked {
			d.lease = max(d.lease, left)
		}
		d.asked, d.asks = false, 0
		m.say("node %n: its lease is renewed, %d ticks are left", n, d.lease)
	case grant:
		m.nodeReadsGrant(n, g)
	case ticket:
		if d.loading {
			m.checkRead(d, g.set())
			d.loading = false
			m.say("node %n gets a ticket, token %d, with value %v", n, g.a(), g.set())
			m.serveOnce(n, g)
		}
	case gone:
		if d.loading && !s.store.deleted && d.promised != 0 {
			m.breaks(StaleRead)
		}
		d.loading = false
		m.say("node %n is told that there is no such session", n)
	case recall:
		if m.Locking && d.owns && d.lease > 0 && d.token == g.a() {
			if d.running && !m.without(Busy) || !d.running && s.pending(n) != 0 && !m.without(LocksAcknowledged) {
				d.due = g.a()
				m.say("node %n answers the recall of token %d: busy", n, g.a())
				return
			}
		}
		m.giveBack(n, g.a())
	case ack:
		w := &s.write[g.a()]
		w.status = acknowledged
		if w.ends {
			s.gone = true
		} else {
			s.acked |= bit(g.a())
			s.promised |= bit(g.a())
		}
		m.say("node %n: commit %d is acknowledged", n, g.a())
	case drop:
		if w := &s.write[g.a()]; w.status == sent {
			w.status = dropped
		}
		m.say("node %n: commit %d is answered as dropped", n, g.a())
	case refused:
		if d.owns && d.token == g.a() {
			d.owns = false
		}
		m.say("node %n: its claim of token %d is refused", n, g.a())
	}
}

func (m *machine) nodeReadsGrant(n uint8, g message) {
	d := &m.s.node[n]
	valid := d.lease > 0 || m.without(GrantLease)
	valid = valid && (g.a() > d.voided || m.without(GrantRecalled))
	if d.loading {
		m.checkRead(d, g.set())
	}
	if d.loading && valid {
		d.loading = false
		d.owns, d.token, d.index, d.value, d.used = true, g.a(), g.b(), g.set(), 0
		m.s.age = 0
		m.say("node %n gets the grant: owns the session, token %d, value %v", n, g.a(), g.set())
		return
	}
	m.say("node %n gets the grant of token %d, uses value %v once and gives it back", n, g.a(), g.set())
	used := m.never()
	if d.loading {
		d.loading, used, d.used, m.s.age = false, 0, 0, 0
		m.serveOnce(n, g)
	}
	m.send(n, msg(giveBack, g.a(), used, 0))
}

// serveOnce lets one request run with the value of an answer that is no ownership.
func (m *machine) serveOnce(n uint8, g message) {
	if !m.Locking && m.room(&m.s) {
		m.begin(n, g.a(), g.b(), g.set())
	}
}

// reconnects makes new connections: after a break, or to the new active. What
// is unread on the old one may be lost or may still arrive.
func (m *machine) reconnects(n uint8) {
	s := m.from
	d := &s.node[n]
	to := s.active
	moves := d.server != to
	if !moves && (s.breaks == 0 || s.calm) {
		return
	}
	for _, arrives := range []bool{false, true} {
		if arrives && s.up[n].len() == 0 && s.down[n].len() == 0 {
			continue
		}
		if arrives && moves && !m.without(GenerationDown) {
			continue // the old active is dead, or refuses
		}
		m.step(func(s *state) {
			if !moves {
				s.breaks--
			}
			m.reconnect(n, to, arrives)
		})
	}
}

func (m *machine) reconnect(n, to uint8, arrives bool) {
	s, d := &m.s, &m.s.node[n]
	s.oldUp[n], s.oldDown[n] = queue{}, queue{}
	if arrives {
		if d.server == to {
			s.oldUp[n] = s.up[n]
		}
		if m.without(GenerationDown) {
			s.oldDown[n] = s.down[n]
		}
	}
	s.up[n], s.down[n] = queue{}, queue{}
	same := d.server == to
	d.server, d.open, d.asked, d.asks, d.due = to, false, true, lease, 0
	if d.lease == 0 && !m.without(ClaimUnbroken) {
		d.owns = false
	}
	held := uint8(0)
	if d.owns {
		held = d.token
	}
	used := d.used // a give-back that told it may be lost
	if m.without(ClaimTellsUse) {
		used = m.never()
	}
	m.say("node %n connects anew to the %s: hello, unacknowledged commits, claim of token %d", n, to, held)
	if arrives {
		m.say("(what was on the way on its old connection may arrive yet)")
	}
	claims := func() {
		if !same || !m.without(ClaimToSame) {
			m.send(n, msg(claim, held, used, 0))
		}
	}
	m.send(n, msg(hello, 0, 0, 0))
	if m.without(CommitsBeforeClaim) {
		claims()
	}
	for i := uint8(1); i <= s.writes && !m.without(Resend); i++ {
		if w := s.write[i]; w.status == sent && w.node == n {
			m.send(n, msg(commit, i, 0, 0))
		}
	}
	if !m.without(CommitsBeforeClaim) {
		claims()
	}
	if d.loading {
		m.send(n, msg(load, 0, 0, 0))
	}
}
