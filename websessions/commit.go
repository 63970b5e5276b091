package websessions

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func (s *Session) loadLocked(ctx context.Context, key string) (wire.Session, error) {
	s.m.stats.loads.Add(1)
	l := &s.usualLocked().load
	*l = wire.Load{Key: s.keyLocked(key), Mode: wire.LoadRead}
	if s.phase == unread { // later loads must not touch what was read
		l.Room = s.own.read[:]
	}
	return ask(ctx, &s.patience, s.m.b, "read session", backend.load, l)
}

func (s *Session) create(ctx context.Context, w *wire.Create) (wire.Outcome, error) {
	return ask(ctx, &s.patience, s.m.b, "create session", backend.create, w)
}

func (s *Session) commit(ctx context.Context, w *wire.Commit) (wire.Outcome, error) {
	s.m.stats.commits.Add(1)
	return ask(ctx, &s.patience, s.m.b, "commit session", backend.commit, w)
}

// invalidate counts a session that has ended already as success.
func invalidate(ctx context.Context, p *patience, b backend, w *wire.Invalidate) (wire.Outcome, error) {
	out, err := ask(ctx, p, b, "end session", backend.invalidate, w)
	if errors.Is(err, ErrInvalidated) {
		return wire.Outcome{}, nil
	}
	return out, err
}

func (s *Session) renew(ctx context.Context, w *wire.Renew) error {
	_, err := ask(ctx, &s.patience, s.m.b, "renew session", backend.renew, w)
	return err
}

// Save commits now what the request has changed so far, and creates the session
// where there is none, even an empty one: call it before the first Flush of a
// streamed response. ErrConflict says that another request was first with an attribute.
func (s *Session) Save(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if err := s.beginLocked(); err != nil {
		return err
	}
	if s.phase == pending {
		s.saving = true
		return s.createLocked(ctx)
	}
	dropped, err := s.commitLocked(ctx, nil)
	if err == nil && len(dropped) > 0 {
		err = fmt.Errorf("%w: %q", ErrConflict, dropped)
	}
	return err
}

// createLocked has the cluster agree on the pending session; only then is there
// a cookie to send. An empty one is not worth it.
func (s *Session) createLocked(ctx context.Context) error {
	w := wire.Create{Idle: s.idleMax, Absolute: s.m.cfg.AbsoluteTimeout, User: []byte(s.user)}
	w.Key = []byte(s.key)
	for _, a := range s.attrs {
		if err := s.foldLocked(a); err != nil {
			return err
		}
		if a.has {
			w.Set = append(w.Set, wire.Attribute{Name: a.arg, Value: a.cur})
		}
	}
	if len(w.Set) == 0 && !s.saving {
		return nil
	}
	out, err := s.create(ctx, &w)
	if err != nil {
		return err
	}
	s.phase, s.ticket, s.idleSet, s.saving = live, out.Token, false, false
	s.cookie = s.m.setCookie(s.r, s.token)
	s.token = ""
	for _, a := range s.attrs {
		a.base, a.hasBase, a.ticket = a.cur, a.has, out.Token
		a.gen++
	}
	s.m.stats.created(s.m.now())
	s.hookLocked(s.m.cfg.Hooks.Created)
	s.changedLocked(w.Set, nil)
	return nil
}

// commitLocked sends what differs from the cluster: one commit per ticket, and
// there is one ticket unless Update was used. only, if not nil, restricts it to
// one attribute. It returns the attributes that another request changed first.
func (s *Session) commitLocked(ctx context.Context, only *attr) (dropped []string, err error) {
	var few [1]*wire.Commit
	commits := few[:0]
	under := func(t wire.Token) *wire.Commit {
		for _, c := range commits {
			if c.Token == t {
				return c
			}
		}
		var c *wire.Commit
		if own := s.usualLocked(); len(commits) == 0 {
			c = &own.commit
			*c = wire.Commit{Idle: wire.KeepIdle, Set: own.set[:0]}
		} else {
			c = &wire.Commit{Idle: wire.KeepIdle}
		}
		c.Token, c.Key = t, s.keyLocked(s.key)
		commits = append(commits, c)
		return c
	}
	for _, a := range s.attrs {
		if only != nil && a != only {
			continue
		}
		if err := s.foldLocked(a); err != nil {
			return nil, err
		}
		if !a.dirty() {
			continue
		}
		c := under(a.ticket)
		if a.has {
			c.Set = append(c.Set, wire.Attribute{Name: a.arg, Value: a.cur})
		} else {
			c.Remove = append(c.Remove, a.arg)
		}
	}
	if s.idleSet && only == nil {
		under(s.ticket).Idle = s.idleMax
	}
	for _, c := range commits {
		out, err := s.commit(ctx, c)
		if err != nil {
			return dropped, err
		}
		for _, name := range out.Dropped {
			dropped = append(dropped, string(name))
		}
		s.committedLocked(c, out)
	}
	if len(dropped) > 0 {
		s.conflictLocked(dropped)
	}
	return dropped, nil
}

// committedLocked notes that the cluster now has what c says. A dropped change
// is over too: the request goes on seeing its own value, and does not send it again.
func (s *Session) committedLocked(c *wire.Commit, out wire.Outcome) {
	if c.Idle != wire.KeepIdle {
		s.idleSet = false
	}
	for _, set := range c.Set {
		a := s.attrLocked(string(set.Name))
		a.base, a.hasBase = a.cur, true
	}
	for _, name := range c.Remove {
		a := s.attrLocked(string(name))
		a.base, a.hasBase = nil, false
	}
	if len(out.Dropped) < len(c.Set)+len(c.Remove) {
		s.changedLocked(c.Set, c.Remove)
	}
}

// Invalidate ends the session on all nodes, for good: what other requests of it
// still commit is void. It returns when the cluster has agreed. The request then
// has no session; a Set begins a new one, with an id of its own.
func (s *Session) Invalidate(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.phase == live {
		w := wire.Invalidate{Reason: []byte("logout")}
		w.Key, w.Token = []byte(s.key), s.ticket
		if _, err := invalidate(ctx, &s.patience, s.m.b, &w); err != nil {
			return err
		}
		s.m.stats.ended(s.m.now().Sub(s.readAt) + s.age)
		s.endedLocked(s.key, "logout")
	}
	if len(s.m.candidates(nil, s.r)) > 0 || s.cookie != "" {
		s.cookie = s.m.setCookie(s.r, "")
	}
	s.forgetLocked()
	s.attrs = nil
	return nil
}

// forgetLocked puts the request into the state of one that came without session.
func (s *Session) forgetLocked() {
	s.phase, s.isNew, s.renewed, s.saving = absent, true, false, false
	s.key, s.user, s.token, s.ticket, s.read = "", "", "", wire.Token{}, nil
	s.idleSet = false
}

// RenewID gives the session a new id and the browser a new cookie, against old
// cookies that lie about. The old one leads to the session for another 5 s,
// because other requests of the browser are under way with it; a request that
// came with it renews nothing, so that the browser's newest cookie stays good.
func (s *Session) RenewID(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.phase != live || s.renewed {
		return nil
	}
	if s.sent {
		return s.lateLocked("renewed")
	}
	err := s.renewLocked(ctx, &wire.Renew{Grace: renewGrace})
	if !errors.Is(err, ErrInvalidated) {
		return err
	}
	// Perhaps another request has renewed it since this one read it.
	answer, again := s.loadLocked(ctx, s.key)
	if again != nil || string(answer.Key) == s.key {
		return err
	}
	s.key, s.renewed = string(answer.Key), true
	return nil
}

// Login makes user the session's user and gives it a new id. The old id is dead
// from this moment, in all requests and on all nodes: whoever had planted or
// stolen it has nothing. Attributes stay. Without a session it begins one.
func (s *Session) Login(ctx context.Context, user string) error {
	if user == "" || len(user) > wire.MaxUser {
		return fmt.Errorf("user name has %d bytes; 1 to %d are allowed", len(user), wire.MaxUser)
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.sent {
		return s.lateLocked("logged in")
	}
	const rounds = 3 // other requests may renew it at the same time
	for round := 1; s.phase == live; round++ {
		err := s.renewLocked(ctx, &wire.Renew{SetUser: true, User: []byte(user)})
		if err == nil {
			s.user = user
			return nil
		}
		if !errors.Is(err, ErrInvalidated) || round == rounds {
			return err
		}
		answer, err := s.loadLocked(ctx, s.key)
		switch {
		case err == nil:
			s.key = string(answer.Key)
		case errors.Is(err, ErrInvalidated):
			s.restartLocked()
		default:
			return err
		}
	}
	if err := s.beginLocked(); err != nil {
		return err
	}
	s.user, s.saving = user, true
	return s.createLocked(ctx)
}

// restartLocked leaves a session that has ended under the request. Only what
// the request has itself set goes into the next one.
func (s *Session) restartLocked() {
	s.forgetLocked()
	s.attrs = slices.DeleteFunc(s.attrs, func(a *attr) bool { return !a.has || !a.dirty() })
	for _, a := range s.attrs {
		a.base, a.hasBase = nil, false
	}
}

func (s *Session) lateLocked(deed string) error {
	s.m.log.Error("a session cannot be "+deed+": the response has begun", "path", s.r.URL.Path)
	return ErrHeadersSent
}

// renewLocked moves the session to a new key. The request keeps its ticket, not
// the outcome's: its values are as old as they were.
func (s *Session) renewLocked(ctx context.Context, w *wire.Renew) error {
	token := newToken(s.key[:tagLen])
	w.Key, w.Token, w.NewKey = []byte(s.key), s.ticket, []byte(keyOf(token))
	if err := s.renew(ctx, w); err != nil {
		return err
	}
	before := s.key
	s.key, s.renewed = string(w.NewKey), false
	s.cookie = s.m.setCookie(s.r, token)
	s.m.stats.renewed.Add(1)
	if f := s.m.cfg.Hooks.Renewed; f != nil {
		ctx, after := s.r.Context(), s.key
		s.events = append(s.events, func() { f(ctx, before, after) })
	}
	return nil
}

// settle does at the end of the handler what remains: create or commit. The
// browser may be gone; its changes are made all the same.
func (s *Session) settle() error {
	s.mu.Lock()
	defer s.unlock()
	defer func() { s.finished = true }()
	switch {
	case s.loadErr != nil && !s.seen:
		return s.loadErr
	case s.phase < pending:
		return nil
	}
	ctx, cancel := s.m.outlive(s.r.Context())
	defer cancel()
	switch {
	case s.phase == pending:
		return s.createLocked(ctx)
	case s.phase == live:
		_, err := s.commitLocked(ctx, nil)
		if errors.Is(err, ErrInvalidated) {
			// Ended by another request meanwhile. That is no failure: it stays ended.
			s.m.stats.late.Add(1)
			s.m.log.Debug("changes came after the end of their session", "path", s.r.URL.Path)
			return nil
		}
		return err
	}
	return nil
}

// abandon ends the request without committing: its handler has panicked.
func (s *Session) abandon() {
	s.mu.Lock()
	s.finished = true
	s.unlock()
}

// beforeHeader is called once, before the header leaves. It agrees on a pending
// session and returns the Set-Cookie line, "" = none, and whether the session was looked at.
func (s *Session) beforeHeader() (cookie string, used bool, err error) {
	s.mu.Lock()
	defer s.unlock()
	if !s.finished { // else settle has done it
		switch {
		case s.loadErr != nil && !s.seen:
			err = s.loadErr
		case s.phase == pending:
			if err = s.createLocked(s.r.Context()); err == nil && s.phase == pending {
				s.forgetLocked() // empty: from here on it is too late
			}
		}
	}
	s.sent = true
	return s.cookie, s.phase != unread, err
}

// beforeHijack commits what the request has changed: a connection that its
// handler takes over may live for hours. A pending session is refused, because no
// header of ours will carry its cookie. That of a session just saved or renewed is
// returned, for handlers that send w.Header themselves.
func (s *Session) beforeHijack() (cookie string, err error) {
	s.mu.Lock()
	defer s.unlock()
	switch {
	case s.finished, s.sent:
		return "", nil
	case s.loadErr != nil && !s.seen:
		return "", s.loadErr
	case s.phase == pending:
		return "", fmt.Errorf("hijack with a new session: %w", s.lateLocked("created"))
	case s.phase == live:
		if _, err := s.commitLocked(s.r.Context(), nil); err != nil && !errors.Is(err, ErrInvalidated) {
			return "", err
		}
	}
	return s.cookie, nil
}

// headerSent notes that no cookie can be sent any more.
func (s *Session) headerSent() {
	s.mu.Lock()
	defer s.unlock()
	s.sent = true
}
