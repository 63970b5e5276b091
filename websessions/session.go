package websessions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// renewGrace is how long the id before a RenewID still leads to the session:
// parallel requests of the browser were sent with it.
const renewGrace = 5 * time.Second

// phase is what a request knows of its session.
type phase int

const (
	unread  phase = iota // not asked yet
	absent               // there is none
	pending              // this request has begun one; the cluster does not know it yet
	live                 // agreed by the cluster
)

// Session is the session of one request. It belongs to the request's handler
// and the goroutines that it awaits; its methods may be called concurrently.
//
// It is read from the cluster at first use. The methods that return no error
// return zero values where that fails, and the request then answers with the
// error page unless its handler has seen the error from another method.
//
// Changes are kept in the request and committed together when the handler
// returns, before the end of the response is sent, so that whoever has seen the
// response finds them on any node. Save, Invalidate, RenewID, Login and
// Attribute.Update act at once.
type Session struct {
	m        *Sessions
	r        *http.Request
	patience patience // for the cluster

	// mu guards what follows. It is held while the cluster is asked: the state
	// belongs to one request, so nobody else's request waits for it, and the
	// wait is bounded by patience.
	mu       sync.Mutex
	phase    phase
	finished bool   // the handler has returned
	sent     bool   // the response's header has left
	cookie   string // Set-Cookie line for the header
	loadErr  error  // why the session could not be read
	seen     bool   // the handler was told of loadErr
	isNew    bool   // created by this request
	renewed  bool   // found by a key from before a renewal
	saving   bool   // Save was called: create it even if it is empty
	token    string // secret of a pending session
	key      string
	user     string
	ticket   wire.Token       // of the values read
	read     []wire.Attribute // as they were read; immutable
	readAt   time.Time        // when Age, Idle and Remaining were true
	age      time.Duration
	idle     time.Duration
	left     time.Duration // until the absolute timeout, wire.KeepIdle = none
	idleMax  time.Duration
	idleSet  bool     // idleMax is to be committed
	attrs    []*attr  // those touched, by name
	events   []func() // hooks to call once mu is free
	own      *usual   // made with the first load or change
}

// usual is the memory of what a usual request needs once it uses its session:
// one load, one attribute, one commit.
type usual struct {
	load   wire.Load
	commit wire.Commit
	set    [1]wire.Attribute
	attr   attr
	attrs  [4]*attr
	read   [4]wire.Attribute
	key    [tagLen + 1 + hashLen]byte
}

func (s *Session) usualLocked() *usual {
	if s.own == nil {
		s.own = &usual{}
		s.attrs = s.own.attrs[:0]
	}
	return s.own
}

// keyLocked returns key as bytes, which the next call may overwrite.
func (s *Session) keyLocked(key string) []byte { return append(s.usualLocked().key[:0], key...) }

// attr is an attribute that the request has touched.
type attr struct {
	name    string
	arg     []byte // name, as the cluster takes it; never changed
	base    []byte // as the cluster has it, so far as the request knows
	hasBase bool
	cur     []byte // as the request has it
	has     bool
	ticket  wire.Token // of base
	gen     int        // grows with every change of cur or ticket
	view    viewer     // the decoded value that the handler holds, or nil
}

func (a *attr) dirty() bool { return a.has != a.hasBase || !bytes.Equal(a.cur, a.base) }

func (a *attr) put(value []byte, has bool) {
	a.cur, a.has, a.view = value, has, nil
	a.gen++
}

// unlock frees mu and then calls the hooks that became due: they may use the session.
func (s *Session) unlock() {
	events := s.events
	s.events = nil
	s.mu.Unlock()
	for _, f := range events {
		f()
	}
}

// open locks the session and makes sure that it was read. On error it is not locked.
func (s *Session) open(ctx context.Context) error {
	s.mu.Lock()
	err := s.readyLocked(ctx)
	if err != nil {
		s.seen = true
		s.unlock()
	}
	return err
}

// peek does the same for the methods that return no error; after the request
// they still tell what was known.
func (s *Session) peek() {
	s.mu.Lock()
	_ = s.readyLocked(s.r.Context()) // the request's end answers for it: see settle
}

func (s *Session) readyLocked(ctx context.Context) error {
	switch {
	case s.finished:
		return ErrFinished
	case s.loadErr != nil:
		return s.loadErr
	case s.phase != unread:
		return nil
	}
	var few [maxCandidates]string
	for _, token := range s.m.candidates(few[:0], s.r) {
		key := keyOf(token)
		answer, err := s.loadLocked(ctx, key)
		if err == nil {
			s.adoptLocked(key, answer)
			return nil
		}
		if !errors.Is(err, ErrInvalidated) {
			if ctx.Err() == nil { // the caller's own impatience says nothing about the next call
				s.loadErr = err
			}
			return err
		}
		s.m.stats.misses.Add(1)
		if reason(err) == "expired" {
			s.endedLocked(key, "expired")
		}
	}
	// An unknown id is never adopted: a session that this request begins gets its own.
	s.phase, s.isNew = absent, true
	return nil
}

// reason returns the word that says how a session ended, or "".
func reason(err error) string {
	var e *wire.Error
	if !errors.As(err, &e) || e.Word != wire.ErrSessionGone {
		return ""
	}
	word, _, _ := bytes.Cut([]byte(e.Text), []byte(" "))
	return string(word)
}

func (s *Session) adoptLocked(asked string, a wire.Session) {
	s.phase, s.key, s.user, s.ticket = live, asked, string(a.User), a.Token
	if s.renewed = string(a.Key) != asked; s.renewed {
		s.key = string(a.Key)
	}
	s.read, s.readAt = a.Attributes, s.m.now()
	s.age, s.idle, s.idleMax, s.left = a.Age, a.Idle, a.IdleMax, a.Remaining
}

// attrLocked returns the entry of name, made from what was read.
func (s *Session) attrLocked(name string) *attr {
	i, ok := s.touchedLocked(name)
	if ok {
		return s.attrs[i]
	}
	a := &s.usualLocked().attr
	if a.arg != nil { // in use
		a = &attr{}
	}
	*a = attr{name: name, ticket: s.ticket}
	if r := slices.IndexFunc(s.read, func(r wire.Attribute) bool { return string(r.Name) == name }); r >= 0 {
		a.arg = s.read[r].Name
		a.base, a.hasBase = s.read[r].Value, true
		a.cur, a.has = a.base, true
	} else {
		a.arg = []byte(name)
	}
	s.attrs = slices.Insert(s.attrs, i, a)
	return a
}

// touchedLocked returns where in attrs name is, or would be.
func (s *Session) touchedLocked(name string) (int, bool) {
	return slices.BinarySearchFunc(s.attrs, name, func(a *attr, name string) int { return strings.Compare(a.name, name) })
}

// foldLocked takes over what the handler has changed in the decoded value.
func (s *Session) foldLocked(a *attr) error {
	if a.view == nil {
		return nil
	}
	enc, changed, err := a.view.encode(s.m.cfg.Codec, a.cur)
	if err != nil {
		return fmt.Errorf("encode attribute %q: %w", a.name, err)
	}
	if changed {
		a.cur, a.has = enc, true
		a.gen++
	}
	return nil
}

// beginLocked gives a request without session a pending one.
func (s *Session) beginLocked() error {
	if s.phase != absent {
		return nil
	}
	if s.sent {
		s.m.log.Error("a session cannot be created: the response has begun; call Save before the first Flush",
			"path", s.r.URL.Path)
		return ErrHeadersSent
	}
	s.token = newToken("")
	s.phase, s.key, s.isNew = pending, keyOf(s.token), true
	s.readAt, s.age, s.idle, s.left = s.m.now(), 0, 0, wire.KeepIdle
	if s.m.cfg.AbsoluteTimeout > 0 {
		s.left = s.m.cfg.AbsoluteTimeout
	}
	if !s.idleSet {
		s.idleMax = s.m.cfg.IdleTimeout
	}
	return nil
}

// ID returns the session's public id: the same on all nodes, new after RenewID
// and Login, and worthless as a cookie. It is "" while there is no session; the
// first Set gives one.
func (s *Session) ID() string {
	s.peek()
	defer s.unlock()
	return s.key
}

// IsNew reports whether the browser came without a living session.
func (s *Session) IsNew() bool {
	s.peek()
	defer s.unlock()
	return s.isNew
}

// Created returns when the session was created, by this node's clock; zero where there is none.
func (s *Session) Created() time.Time {
	s.peek()
	defer s.unlock()
	if s.phase < pending {
		return time.Time{}
	}
	return s.readAt.Add(-s.age)
}

// LastAccess returns when the request before this one used the session; in a
// new session, its creation. The cluster notes reads lazily, so it may be early by
// a second or a hundredth of the idle timeout, whichever is more.
func (s *Session) LastAccess() time.Time {
	s.peek()
	defer s.unlock()
	if s.phase < pending {
		return time.Time{}
	}
	return s.readAt.Add(-s.idle)
}

// IdleTimeout returns how long the session lives unused; 0 = for ever.
func (s *Session) IdleTimeout() time.Duration {
	s.peek()
	defer s.unlock()
	if s.phase < pending && !s.idleSet {
		return s.m.cfg.IdleTimeout
	}
	return s.idleMax
}

// ExpiresIn returns the time until the session ends if this request is its
// last: the smaller of what idle and absolute timeout leave. It is 0 where there
// is no session and negative where nothing ends it.
func (s *Session) ExpiresIn() time.Duration {
	s.peek()
	defer s.unlock()
	if s.phase < pending {
		return 0
	}
	d := time.Duration(-1)
	if s.idleMax > 0 {
		d = s.idleMax
	}
	if s.left >= 0 {
		if left := max(0, s.left-s.m.now().Sub(s.readAt)); d < 0 || left < d {
			d = left
		}
	}
	return d
}

// SetIdleTimeout changes the idle timeout of this session alone; 0 = none. It
// creates no session: without one it holds for the one that this request may begin.
func (s *Session) SetIdleTimeout(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("idle timeout %v is negative; 0 means none", d)
	}
	if err := s.open(s.r.Context()); err != nil {
		return err
	}
	defer s.unlock()
	s.idleMax, s.idleSet = d, true
	return nil
}

// User returns who is logged in; "" = nobody.
func (s *Session) User() string {
	s.peek()
	defer s.unlock()
	return s.user
}

// Attributes returns the names of the session's attributes, sorted.
func (s *Session) Attributes() ([]string, error) {
	if err := s.open(s.r.Context()); err != nil {
		return nil, err
	}
	defer s.unlock()
	var names []string
	for _, r := range s.read {
		if _, ok := s.touchedLocked(string(r.Name)); !ok {
			names = append(names, string(r.Name))
		}
	}
	for _, a := range s.attrs {
		if a.has {
			names = append(names, a.name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Bytes returns a copy of an attribute as it is encoded, and nil where there is none.
func (s *Session) Bytes(name string) ([]byte, error) {
	if err := s.open(s.r.Context()); err != nil {
		return nil, err
	}
	defer s.unlock()
	a := s.attrLocked(name)
	if err := s.foldLocked(a); err != nil || !a.has {
		return nil, err
	}
	return append([]byte{}, a.cur...), nil
}

// SetBytes sets an attribute to bytes that are already encoded; it keeps a copy.
func (s *Session) SetBytes(name string, value []byte) error {
	if len(name) > wire.MaxAttributeName {
		return fmt.Errorf("attribute name has %d bytes; at most %d are allowed", len(name), wire.MaxAttributeName)
	}
	return s.put(s.r.Context(), name, append([]byte{}, value...))
}

func (s *Session) put(ctx context.Context, name string, value []byte) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if err := s.beginLocked(); err != nil {
		return err
	}
	s.attrLocked(name).put(value, true)
	return nil
}

// Remove removes an attribute; one that is not there is no error.
func (s *Session) Remove(name string) error {
	if err := s.open(s.r.Context()); err != nil {
		return err
	}
	defer s.unlock()
	s.attrLocked(name).put(nil, false)
	return nil
}
