package store

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// model is the same promises written as plainly as can be: one dataset, maps,
// everything counted anew each time. Folding of stubs is not in it: it is only
// exact for sessions that had at most maxStubs names.
type model struct {
	now      Time
	index    uint64
	room     uint64 // for sessions and traces
	sessions map[string]mSession
	aliases  map[string]mAlias
	tombs    map[string]mTomb
	nodes    map[wire.NodeID]*mNode
}

type mSession struct {
	attrs                   map[string]mAttr
	created, last, deadline Time
	idle                    time.Duration
	user                    string
	version                 uint64
}

type mAttr struct {
	value   string
	removed bool
	version uint64
	token   wire.Token
	seq     uint64
}

type mAlias struct {
	target string
	until  Time
}

type mTomb struct {
	reason string
	until  Time
}

type mNode struct {
	generation, low uint64
	outcomes        map[uint64]wire.Outcome
}

func newModel(room uint64) *model {
	return &model{room: room, sessions: map[string]mSession{}, aliases: map[string]mAlias{},
		tombs: map[string]mTomb{}, nodes: map[wire.NodeID]*mNode{}}
}

const mLife = Time(10 * time.Minute / time.Millisecond)

func (m *model) cost() uint64 {
	n := 0
	for key, s := range m.sessions {
		n += 192 + len(key)
		if s.user != "" {
			n += 32 + len(s.user)
		}
		for name, at := range s.attrs {
			n += 48 + len(name) + len(at.value)
		}
	}
	for key, al := range m.aliases {
		n += 128 + len(key) + len(al.target)
	}
	for key, t := range m.tombs {
		n += 64 + len(key) + len(t.reason)
	}
	return uint64(n)
}

func mRefuse(w wire.Word) wire.Outcome { return wire.Outcome{Err: &wire.Error{Word: w}} }

// resolve returns the key of the session that key leads to, or the refusal.
func (m *model) resolve(key string) (string, wire.Word) {
	if al, ok := m.aliases[key]; ok && m.now < al.until {
		return al.target, ""
	} else if ok {
		return "", wire.ErrSessionGone
	}
	if _, ok := m.tombs[key]; ok {
		return "", wire.ErrSessionGone
	}
	if _, ok := m.sessions[key]; ok {
		return key, ""
	}
	return "", wire.ErrSessionUnknown
}

// write wraps what every write does.
func (m *model) write(w *wire.Write, do func() wire.Outcome) wire.Outcome {
	n := m.nodes[w.Node]
	if n == nil {
		return mRefuse(wire.ErrNodeGone)
	}
	if w.Low > n.low {
		n.low = w.Low
		maps.DeleteFunc(n.outcomes, func(seq uint64, _ wire.Outcome) bool { return seq < n.low })
	}
	if w.Seq < n.low {
		return mRefuse(wire.ErrStale)
	}
	if out, ok := n.outcomes[w.Seq]; ok {
		return out
	}
	before, aliases, tombs := maps.Clone(m.sessions), maps.Clone(m.aliases), maps.Clone(m.tombs)
	old := m.cost()
	out := do()
	if c := m.cost(); c > old && c > m.room {
		m.sessions, m.aliases, m.tombs = before, aliases, tombs
		out = mRefuse(wire.ErrOutOfOffheap)
	}
	n.outcomes[w.Seq] = out
	return out
}

func (m *model) create(c *wire.Create) wire.Outcome {
	return m.write(&c.Write, func() wire.Outcome {
		key := string(c.Key)
		if _, refusal := m.resolve(key); refusal == wire.ErrSessionGone {
			return mRefuse(refusal)
		} else if refusal == "" {
			return mRefuse(wire.ErrSessionExists)
		}
		s := mSession{attrs: map[string]mAttr{}, created: m.now, last: m.now, idle: c.Idle, user: string(c.User), version: m.index}
		if c.Absolute > 0 {
			s.deadline = m.now + Time(c.Absolute/time.Millisecond)
		}
		for _, at := range c.Set {
			if _, twice := s.attrs[string(at.Name)]; twice {
				return mRefuse(wire.ErrBadRequest)
			}
			s.attrs[string(at.Name)] = mAttr{string(at.Value), false, m.index, c.Token, c.Seq}
		}
		m.sessions[key] = s
		return wire.Outcome{Version: m.index}
	})
}

func (m *model) commit(c *wire.Commit) wire.Outcome {
	return m.write(&c.Write, func() wire.Outcome {
		changes := map[string]mAttr{}
		twice := false
		add := func(name, value []byte, removed bool) {
			_, ok := changes[string(name)]
			twice = twice || ok
			changes[string(name)] = mAttr{string(value), removed, m.index, c.Token, c.Seq}
		}
		for _, at := range c.Set {
			add(at.Name, at.Value, false)
		}
		for _, name := range c.Remove {
			add(name, nil, true)
		}
		if twice {
			return mRefuse(wire.ErrBadRequest)
		}
		key, refusal := m.resolve(string(c.Key))
		if refusal != "" {
			return mRefuse(refusal)
		}
		s := m.sessions[key]
		s.attrs = maps.Clone(s.attrs)
		var dropped [][]byte
		for _, name := range slices.Sorted(maps.Keys(changes)) {
			at, ok := s.attrs[name]
			sameGrant := at.token.SameGrant(c.Token) && at.token.Counter != 0
			if ok && at.version > c.Token.Index && !(sameGrant && at.seq < c.Seq) {
				dropped = append(dropped, []byte(name))
				continue
			}
			s.attrs[name] = changes[name]
			s.version = m.index
		}
		s.last = m.now
		if c.Idle != wire.KeepIdle && c.Idle != s.idle {
			s.idle, s.version = c.Idle, m.index
		}
		m.sessions[key] = s
		return wire.Outcome{Version: s.version, Dropped: dropped}
	})
}

// end replaces a session and its aliases by tombstones.
func (m *model) end(key, reason string) {
	delete(m.sessions, key)
	m.tombs[key] = mTomb{reason, m.now + mLife}
	for old, al := range maps.Clone(m.aliases) {
		if al.target == key {
			delete(m.aliases, old)
			how := reason
			if al.until <= m.now {
				how = "renewed"
			}
			m.tombs[old] = mTomb{how, m.now + mLife}
		}
	}
}

func (m *model) invalidate(c *wire.Invalidate) wire.Outcome {
	return m.write(&c.Write, func() wire.Outcome {
		key, refusal := m.resolve(string(c.Key))
		if refusal == "" {
			m.end(key, string(c.Reason))
		}
		return wire.Outcome{Version: m.index, Existed: refusal == ""}
	})
}

func (m *model) renew(c *wire.Renew) wire.Outcome {
	return m.write(&c.Write, func() wire.Outcome {
		key, refusal := m.resolve(string(c.Key))
		if refusal != "" {
			return mRefuse(refusal)
		}
		if key != string(c.Key) && c.Grace > 0 {
			return mRefuse(wire.ErrSessionGone)
		}
		to := string(c.NewKey)
		_, isAlias := m.aliases[to]
		if _, refusal := m.resolve(to); refusal != wire.ErrSessionUnknown || isAlias {
			return mRefuse(wire.ErrSessionExists)
		}
		s := m.sessions[key]
		s.last, s.version = m.now, m.index
		if c.SetUser {
			s.user = string(c.User)
		}
		delete(m.sessions, key)
		m.sessions[to] = s
		end := m.now + Time(c.Grace/time.Millisecond)
		olds := map[string]Time{key: end}
		for old, al := range m.aliases {
			if al.target == key {
				olds[old] = min(al.until, end)
				delete(m.aliases, old)
			}
		}
		keys := slices.SortedFunc(maps.Keys(olds), func(a, b string) int {
			return cmp.Or(-cmp.Compare(olds[a], olds[b]), -cmp.Compare(a, b))
		})
		for i, old := range keys { // the one that ends last in front
			if olds[old] > m.now && i < 8 {
				m.aliases[old] = mAlias{to, olds[old]}
			} else {
				m.tombs[old] = mTomb{"renewed", m.now + mLife}
			}
		}
		return wire.Outcome{Version: m.index, Token: c.Token}
	})
}

func (s mSession) due(now Time) bool {
	return s.idle > 0 && s.last+Time(s.idle/time.Millisecond) <= now || s.deadline > 0 && s.deadline <= now
}

func (m *model) dueKeys(now Time) (keys []string) {
	for key, s := range m.sessions {
		if s.due(now) {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	return keys
}

func (m *model) expire(keys []string) wire.Outcome {
	any := false
	for _, key := range keys {
		if s, ok := m.sessions[key]; ok && s.due(m.now) {
			m.end(key, "expired")
			any = true
		}
	}
	return wire.Outcome{Version: m.index, Existed: any}
}

func (m *model) touch(list []Touch) wire.Outcome {
	for _, t := range list {
		if key, refusal := m.resolve(string(t.Key)); refusal == "" {
			s := m.sessions[key]
			s.last = max(s.last, min(t.When, m.now))
			m.sessions[key] = s
		}
	}
	return wire.Outcome{Version: m.index}
}

func (m *model) prune(limit int, segments uint64) wire.Outcome {
	ends := map[string]Time{}
	for key, al := range m.aliases {
		ends[key] = al.until
	}
	for key, t := range m.tombs {
		ends[key] = t.until
	}
	keys := slices.SortedFunc(maps.Keys(ends), func(a, b string) int {
		return cmp.Or(cmp.Compare(hash([]byte(a))%segments, hash([]byte(b))%segments), cmp.Compare(ends[a], ends[b]), cmp.Compare(a, b))
	})
	for _, key := range keys {
		if ends[key] > m.now || limit == 0 {
			continue
		}
		limit--
		if _, ok := m.aliases[key]; ok {
			delete(m.aliases, key)
			m.tombs[key] = mTomb{"renewed", m.now + mLife}
		} else {
			delete(m.tombs, key)
		}
	}
	return wire.Outcome{Version: m.index}
}

func (m *model) join(j *wire.Join) wire.Outcome {
	n := m.nodes[j.Node]
	switch {
	case n == nil && j.Generation > 1:
		return mRefuse(wire.ErrNodeGone)
	case n == nil:
		n = &mNode{outcomes: map[uint64]wire.Outcome{}}
		m.nodes[j.Node] = n
	case j.Generation < n.generation:
		return mRefuse(wire.ErrStale)
	}
	n.generation = j.Generation
	if j.Low > n.low {
		n.low = j.Low
		maps.DeleteFunc(n.outcomes, func(seq uint64, _ wire.Outcome) bool { return seq < n.low })
	}
	return wire.Outcome{Version: m.index}
}
