package model

const lateEntry = 1 << 7 // in an entry: not of the owner's token, as the active saw it

type entries = [4]uint8

func (m *machine) propose(id uint8, late bool) {
	if late {
		id |= lateEntry
	}
	for i := range m.s.log {
		if m.s.log[i] == 0 {
			m.s.log[i] = id
			return
		}
	}
	m.overflow = true
}

func (m *machine) shift() uint8 {
	l := &m.s.log
	e := l[0]
	copy(l[:], l[1:])
	l[len(l)-1] = 0
	return e
}

// logSteps applies the next entry, and its proposer answers.
func (m *machine) logSteps() {
	if m.from.log[0] == 0 {
		return
	}
	m.step(func(s *state) {
		e := m.shift()
		id := e &^ lateEntry
		ok := m.apply(e)
		switch {
		case id == expiry:
			m.say("the log: the session has expired")
			return
		case ok:
			m.say("the log: commit %d is made; the store has %v", id, s.store.value)
		default:
			m.say("the log: commit %d is dropped; the store has %v", id, s.store.value)
		}
		m.answers(s.active, id, ok)
	})
}

// answers tells the writer of id its outcome.
func (m *machine) answers(i, id uint8, ok bool) {
	w := &m.s.write[id]
	if !ok && (m.s.made|m.s.store.value)&bit(id) != 0 {
		m.breaks(FalseAnswer)
	}
	switch {
	case w.node == nobody:
		w.status, m.s.gone = acknowledged, true
	case ok:
		m.push(i, w.node, msg(ack, id, 0, 0))
	default:
		m.push(i, w.node, msg(drop, id, 0, 0))
	}
}

// apply is what the store does with an entry. It reports the outcome of a commit.
func (m *machine) apply(entry uint8) bool {
	s, t := &m.s, &m.s.store
	id := entry &^ lateEntry
	if id == expiry {
		t.deleted, s.gone = true, true
		if s.age < idleLimit && !s.excused {
			m.breaks(ExpiredInUse)
		}
		return true
	}
	w := &s.write[id]
	if !m.without(Remember) {
		switch {
		case t.applied&bit(id) != 0:
			return true
		case t.failed&bit(id) != 0:
			return false
		}
	}
	if !m.admits(id, entry&lateEntry != 0) {
		t.failed |= bit(id)
		return false
	}
	t.applied |= bit(id)
	if w.ends {
		s.made |= bit(id)
		t.deleted = true
		return true
	}
	switch {
	case t.deleted:
		m.breaks(Resurrection)
	case s.made&bit(id) != 0:
		m.breaks(AppliedTwice)
	case s.over&bit(id) != 0:
		m.breaks(BrokenLock)
	}
	s.made |= bit(id)
	t.value, t.token, t.write, t.deleted, t.absent = w.value, w.token, id, false, false
	t.version++
	return true
}

// admits decides whether a commit has seen what it changes.
func (m *machine) admits(id uint8, late bool) bool {
	t, w := &m.s.store, &m.s.write[id]
	switch {
	case late && m.refusing() && w.node != nobody:
		return false
	case w.ends:
		return true
	case t.deleted:
		return m.without(NeverCreates)
	case m.without(Versions):
		return true
	case m.without(NoTokenOrder):
		return t.token <= w.token
	}
	return t.token == w.token && id > t.write || t.version <= w.index
}

// faults crashes nodes and the active.
func (m *machine) faults() {
	s := m.from
	if s.faults == 0 || s.calm {
		return
	}
	for n := range uint8(nodes) {
		if s.node[n].dead {
			continue
		}
		for _, lost := range []bool{false, true} {
			if lost && s.up[n].len() == 0 {
				continue
			}
			m.step(func(s *state) {
				s.faults--
				s.excused = m.Expiry
				m.unpromise(n)
				s.node[n].dead = true
				m.say("node %n crashes", n)
				if lost {
					s.up[n] = queue{}
					m.say("(what it has sent is lost)")
				}
			})
		}
	}
	if s.active != 0 {
		return
	}
	survive := uint8(0)
	for {
		m.step(func(s *state) { m.failOver(survive, false) })
		if m.without(LeadershipRenewals) || m.without(LeadershipLoads) {
			m.step(func(s *state) { m.failOver(survive, true) })
		}
		if int(survive) == len(s.log) || s.log[survive] == 0 {
			return
		}
		survive++
	}
}

// failOver makes server 1 the active one; the first entries of the log survive.
func (m *machine) failOver(survive uint8, alive bool) {
	s := &m.s
	m.say("the active dies or is cut off; another one takes over, and %d of its proposals survive", survive)
	s.faults--
	s.stale.value, s.stale.index = s.store.value, s.store.version
	for range survive {
		m.apply(m.shift())
	}
	s.log = entries{}
	s.active, s.alive, s.excused = 1, alive, m.Expiry
	s.server[1] = server{owner: nobody, window: m.activeLease(), seen: m.never()}
	if m.without(Window) {
		s.server[1].window = 0
	}
	if !alive {
		s.server[0] = server{owner: nobody}
		s.stale.value, s.stale.index = 0, 0
	}
	// What the old active alone knew of an end that was asked for is asked again.
	for i := range s.write {
		if w := &s.write[i]; w.status == sent && w.node == nobody {
			s.server[1].held |= bit(uint8(i))
		}
	}
	if m.without(TokenUnique) {
		s.tokens = s.store.token
	}
}

// unpromise takes back what may be lost with a node: what was not acknowledged.
func (m *machine) unpromise(n uint8) {
	if m.Sync || m.Strict {
		return
	}
	lost := uint8(0)
	for i := range m.s.write {
		if w := &m.s.write[i]; w.status == sent && w.node == n && !w.ends {
			lost |= bit(uint8(i))
		}
	}
	m.s.promised &^= lost
	for i := range m.s.node {
		m.s.node[i].promised &^= lost
	}
}

// clockSteps lets time pass, anywhere between two steps; after calm only when
// nothing else can happen.
func (m *machine) clockSteps() {
	s := m.from
	if s.calm {
		if !m.busy && s.calmTicks < m.patience() {
			m.quietStep(func(s *state) {
				s.calmTicks++
				m.tick(nobody)
			})
		}
		return
	}
	m.quietStep(func(*state) { m.tick(nobody) })
	for n := range uint8(nodes) {
		if d := &s.node[n]; d.dead || d.lease == 0 && !d.asked {
			continue
		}
		if s.drift > 0 {
			m.quietStep(func(s *state) { s.drift--; m.tick(n) })
		}
		if m.without(BootClock) {
			m.quietStep(func(*state) { m.tick(n) })
		}
	}
	if m.Progress {
		m.quietStep(func(s *state) {
			s.calm = true
			m.say("from here on nothing fails and no request comes")
		})
	}
}

// tick moves every clock, but for that of node slow.
func (m *machine) tick(slow uint8) {
	s := &m.s
	for n := range s.node {
		d := &s.node[n]
		if uint8(n) != slow {
			if d.lease == 1 {
				m.unpromise(uint8(n))
				d.locked = false
				s.excused = s.excused || d.owns && m.Expiry
			}
			dec(&d.lease)
			dec(&d.asks)
		}
		if m.Expiry {
			inc(&d.used)
		}
	}
	for i := range s.server {
		v := &s.server[i]
		dec(&v.lease[0])
		dec(&v.lease[1])
		dec(&v.window)
		if m.Expiry {
			inc(&v.seen)
		}
	}
	if m.Expiry {
		inc(&s.age)
	}
	if slow == nobody {
		m.say("a tick; left of the lease: node %n %d, node %n %d", 0, s.node[0].lease, 1, s.node[1].lease)
	} else {
		m.say("a tick that the clock of node %n misses; left of its lease: %d", slow, s.node[slow].lease)
	}
}

// logged reports whether an entry is proposed and not applied.
func (s *state) logged(id uint8) bool {
	for _, e := range s.log {
		if e&^lateEntry == id && e != 0 {
			return true
		}
	}
	return false
}
