package model

import "math/bits"

// acts reports whether server v does anything. A deposed one lives on only where
// that it checks its leadership is switched off.
func (s *state) acts(v uint8) bool { return v == s.active || v == 0 && s.alive }

// open reports whether v may decide about what nobody has claimed.
func (v *server) open() bool { return v.claimed[0] && v.claimed[1] || v.window == 0 }

func (m *machine) serverSteps(i uint8) {
	s := m.from
	if !s.acts(i) {
		return
	}
	v := &s.server[i]
	for n := range uint8(nodes) {
		if s.node[n].server != i {
			continue
		}
		if s.up[n].len() > 0 {
			m.step(func(s *state) { m.serverReads(i, n, s.up[n].take(0), false) })
		}
		if s.oldUp[n].len() > 0 {
			m.step(func(s *state) {
				m.say("(from the old connection)")
				m.serverReads(i, n, s.oldUp[n].take(0), true)
			})
		}
		m.answersLoad(i, n)
	}
	active := i == s.active
	if v.owner != nobody {
		m.recalls(i)
	}
	if active && v.open() {
		m.proposesHeld(i)
	}
	if !active || s.calm {
		return
	}
	if m.Admin && !s.admin {
		m.step(func(s *state) {
			s.admin = true
			id := m.newWrite(nobody, 0, 0, 0)
			s.write[id].ends = true
			m.say("the %s is told to end the session, entry %d", i, id)
			if m.without(AdminRecalls) {
				m.propose(id, false)
			} else {
				s.server[i].held |= bit(id)
			}
		})
	}
	if m.Expiry && !v.expiring && v.seen == idleLimit && !s.store.deleted && !s.logged(expiry) {
		m.step(func(s *state) {
			m.say("the %s knows of no use of the session for %d ticks", i, idleLimit)
			if m.without(ExpiryRecalls) {
				m.propose(expiry, false)
			} else {
				s.server[i].expiring = true
			}
		})
	}
}

// refusing reports whether held commits are only to be refused: nobody is recalled for them.
func (m *machine) refusing() bool { return m.Locking && !m.without(LateRefused) }

// needs reports whether the owner stands in the way of something.
func (m *machine) needs(v *server) bool {
	held := v.held
	if m.refusing() {
		held &= m.from.ending() // only what comes from outside
	}
	return v.waits[1-v.owner] || held != 0 || v.expiring
}

// ending is the entries that end the session from outside.
func (s *state) ending() (set uint8) {
	for i := range s.write {
		if w := &s.write[i]; w.status != 0 && w.node == nobody {
			set |= bit(uint8(i))
		}
	}
	return set
}

func (m *machine) recalls(i uint8) {
	s := m.from
	v := &s.server[i]
	if !m.needs(v) {
		return
	}
	if !v.recalled && s.node[v.owner].open && s.node[v.owner].server == i {
		m.step(func(s *state) {
			v := &s.server[i]
			v.recalled = true
			m.push(i, v.owner, msg(recall, v.token, 0, 0))
			m.say("the %s recalls token %d from node %n", i, v.token, v.owner)
		})
	}
	if v.lease[v.owner] == 0 && v.open() {
		m.step(func(s *state) {
			v := &s.server[i]
			m.say("the %s: the lease of owner %n has run out", i, v.owner)
			v.owner, s.excused = nobody, m.Expiry
		})
	}
}

// proposesHeld proposes what waited for the owner, now that there is none, and
// what waited only to be refused.
func (m *machine) proposesHeld(i uint8) {
	v := &m.from.server[i]
	held := v.held
	if v.owner != nobody {
		if !m.refusing() {
			return
		}
		held &^= m.from.ending()
	}
	if held != 0 {
		m.step(func(s *state) {
			id := uint8(bits.TrailingZeros8(held))
			if m.without(HeldInOrder) {
				id = uint8(bits.Len8(held)) - 1
			}
			s.server[i].held &^= bit(id)
			m.say("the %s proposes held commit %d", i, id)
			m.propose(id, true)
		})
	}
	if v.expiring && v.owner == nobody {
		m.step(func(s *state) {
			v := &s.server[i]
			v.expiring = false
			if v.seen < idleLimit && !m.without(ExpiryLooksAgain) {
				m.say("the %s: the session is not due any more", i)
				return
			}
			m.say("the %s proposes that the session has expired", i)
			m.propose(expiry, false)
		})
	}
}

// answersLoad grants the session, or tells its value with a ticket. A load by the
// owner gives back what it had.
func (m *machine) answersLoad(i, n uint8) {
	s := m.from
	v := &s.server[i]
	active := i == s.active
	if !v.waits[n] || v.owner == 1-n || v.owner == nobody && !v.open() || !active && !m.without(LeadershipLoads) {
		return
	}
	if active && !m.without(Drain) && (s.log[0] != 0 || v.held != 0) {
		return
	}
	if active && (s.store.deleted || s.store.absent) {
		m.step(func(s *state) {
			s.server[i].waits[n], s.server[i].owner = false, nobody
			m.push(i, n, msg(gone, 0, 0, 0))
			m.say("the %s tells node %n that there is no such session", i, n)
		})
		return
	}
	answer := func(s *state, k kind, owner uint8) message {
		v := &s.server[i]
		s.tokens++
		v.waits[n], v.recalled, v.owner, v.token, v.seen, s.age = false, false, owner, s.tokens, 0, 0
		value, index := s.store.value, s.store.version
		if !active {
			value, index = s.stale.value, s.stale.index
		}
		g := msg(k, s.tokens, index, value)
		m.push(i, n, g)
		return g
	}
	m.step(func(s *state) {
		g := answer(s, grant, n)
		m.say("the %s grants the session to node %n: token %d, value %v", i, n, g.a(), g.set())
	})
	if m.PassThrough {
		m.step(func(s *state) {
			g := answer(s, ticket, nobody)
			m.say("the %s answers node %n with a ticket: token %d, value %v", i, n, g.a(), g.set())
		})
	}
}

func (m *machine) serverReads(i, n uint8, g message, old bool) {
	s := &m.s
	v := &s.server[i]
	deposed := i != s.active
	switch g.kind() {
	case hello:
		s.node[n].open, v.waits[n] = true, false
		m.say("the %s reads the hello of node %n", i, n)
		if !m.without(GenerationUp) {
			s.oldUp[n] = queue{}
		}
		if m.without(ClaimAnswered) {
			v.claimed[n] = true
		}
		if m.without(ClaimStartsLease) || m.without(ClaimToSame) && i == 0 {
			m.renews(i, n)
		}
	case renew:
		if deposed && !m.without(LeadershipRenewals) {
			return
		}
		m.say("the %s renews the lease of node %n", i, n)
		if v.lease[n] = m.activeLease(); !old {
			m.push(i, n, msg(leased, 0, 0, 0))
		}
	case load:
		if !deposed || m.without(LeadershipLoads) {
			v.waits[n] = true
		}
		m.say("the %s reads the load of node %n", i, n)
	case giveBack:
		v.seen = min(v.seen, g.b())
		if v.owner != n || v.token != g.a() && !m.without(GiveToken) {
			m.say("the %s ignores that node %n gives token %d back", i, n, g.a())
			return
		}
		m.say("the %s: node %n has given token %d back", i, n, g.a())
		if d := &s.node[n]; v.token != g.a() && (d.owns && d.token == v.token && d.lease > 0 || s.down[n].grants(v.token)) {
			m.breaks(WrongGive)
		}
		v.owner, v.recalled = nobody, false
	case commit:
		if !deposed {
			m.readsCommit(i, n, g.a())
		}
	case claim:
		m.readsClaim(i, n, g.a(), g.b())
	}
}

func (q *queue) grants(token uint8) bool {
	for _, g := range q {
		if g.kind() == grant && g.a() == token {
			return true
		}
	}
	return false
}

// renews starts a node's lease and tells it.
func (m *machine) renews(i, n uint8) {
	m.s.server[i].lease[n] = m.activeLease()
	m.push(i, n, msg(leased, 0, 0, 0))
}

func (m *machine) readsCommit(i, n, id uint8) {
	v := &m.s.server[i]
	w := &m.s.write[id]
	switch {
	case v.owner == n && v.token == w.token:
		if w.ends {
			v.owner, v.recalled = nobody, false
		}
		m.say("the %s proposes commit %d of owner %n", i, id, n)
		m.propose(id, false)
	case m.without(LateRecalls), m.without(WindowHolds) && v.owner == nobody:
		m.say("the %s proposes late commit %d of node %n at once", i, id, n)
		m.propose(id, true)
	case m.refusing() && m.without(RefusedRemembers) && v.open():
		m.say("the %s refuses late commit %d of node %n", i, id, n)
		m.answers(i, id, false)
	case m.refusing() && v.open():
		m.say("the %s proposes late commit %d of node %n, to be refused", i, id, n)
		m.propose(id, true)
	default:
		v.held |= bit(id)
		m.say("the %s holds commit %d of node %n", i, id, n)
	}
}

func (m *machine) readsClaim(i, n, token, used uint8) {
	v := &m.s.server[i]
	v.seen = min(v.seen, used)
	if !m.without(ClaimStartsLease) {
		defer m.renews(i, n) // behind a refusal
	}
	late := v.claimed[n] && !(m.without(ClaimAnswered) && i == 1)
	v.claimed[n] = true
	if v.owner == n && v.token == token {
		v.recalled = v.recalled && m.without(RecallAgain)
		m.say("the %s confirms the claim of node %n: token %d", i, n, token)
		return
	}
	if !late && v.owner == nobody && (v.window > 0 || m.without(ClaimInTime)) {
		if token == 0 {
			m.say("the %s: node %n claims nothing", i, n)
		} else {
			m.say("the %s accepts the claim of node %n: token %d", i, n, token)
			v.owner, v.token, v.recalled = n, token, false
			m.releases(v)
		}
		return
	}
	if v.owner == n && !m.without(ClaimReleases) {
		v.owner, v.recalled = nobody, false
	}
	if token == 0 {
		m.say("the %s: node %n claims nothing", i, n)
		return
	}
	m.say("the %s refuses the claim of node %n: token %d", i, n, token)
	if !m.without(ClaimRefusals) {
		m.push(i, n, msg(refused, token, 0, 0))
	}
}

// releases proposes the commits of a claimed token, which were held: nothing of
// the owner may overtake them.
func (m *machine) releases(v *server) {
	for id := uint8(1); id <= m.s.writes && !m.without(HeldInOrder); id++ {
		if w := &m.s.write[id]; v.held&bit(id) != 0 && w.token == v.token {
			v.held &^= bit(id)
			m.say("and proposes held commit %d", id)
			m.propose(id, false)
		}
	}
}
