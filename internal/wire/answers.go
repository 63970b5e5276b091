package wire

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Answers are flat lists too. Each starts with its header. Those of loads and changes
// are one string of words, which costs less to write and read than as many strings; a later
// version adds words at its end, which an older client skips. The others start with the
// number of header fields.

// AppendTo appends the answer: header key user (name value)*, with the header
// "token owned version age-ms idle-ms idlemax-ms remaining-ms".
func (s *Session) AppendTo(dst [][]byte) [][]byte {
	dst, _ = s.AppendWith(dst, make([]byte, 0, 96))
	return dst
}

// AppendWith is AppendTo for a server that answers many: the header is written into
// the room behind scratch, which is returned longer, and dst points into it.
func (s *Session) AppendWith(dst [][]byte, scratch []byte) ([][]byte, []byte) {
	h := s.Token.AppendTo(scratch)
	h = append(h, ' ', digits[bit(s.Owned)], ' ')
	h = append(strconv.AppendUint(h, s.Version, 10), ' ')
	h = append(appendMillis(h, s.Age), ' ')
	h = append(appendMillis(h, s.Idle), ' ')
	h = append(appendMillis(h, s.IdleMax), ' ')
	h = appendMillis(h, s.Remaining)
	dst = append(dst, h[len(scratch):], s.Key, s.User)
	for _, a := range s.Attributes {
		dst = append(dst, a.Name, a.Value)
	}
	return dst, h
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ParseSession parses the answer to a TC.LOAD. The attributes go into room where it is long enough.
func ParseSession(a [][]byte, room []Attribute) (s Session, err error) {
	if len(a) < 3 || len(a)%2 == 0 {
		return Session{}, fmt.Errorf("%s: answer has %d parts; a header, a key, a user, and names with values are needed", CmdLoad, len(a))
	}
	w := words{cmd: CmdLoad, rest: a[0]}
	s.Token = w.token()
	s.Owned = w.bool("owned")
	s.Version = w.uint("version")
	s.Age = w.millis("age")
	s.Idle = w.millis("idle")
	s.IdleMax = w.millis("idle timeout")
	s.Remaining = w.millis("remaining")
	if w.err != nil {
		return Session{}, w.err
	}
	s.Key, s.User, a = a[1], a[2], a[3:]
	if len(a) > 2*len(room) {
		room = make([]Attribute, len(a)/2)
	}
	if len(a) > 0 {
		s.Attributes = room[:len(a)/2]
	}
	for i := range s.Attributes {
		s.Attributes[i] = Attribute{Name: a[2*i], Value: a[2*i+1]}
	}
	return s, nil
}

// AppendTo appends the answer: header (dropped attribute name)*, with the header
// "version existed token". A refusal travels as an error reply, not here.
func (o *Outcome) AppendTo(dst [][]byte) [][]byte {
	dst, _ = o.AppendWith(dst, make([]byte, 0, 64))
	return dst
}

// AppendWith is to AppendTo what it is for a Session.
func (o *Outcome) AppendWith(dst [][]byte, scratch []byte) ([][]byte, []byte) {
	h := strconv.AppendUint(scratch, o.Version, 10)
	h = append(h, ' ', digits[bit(o.Existed)], ' ')
	h = o.Token.AppendTo(h)
	return append(append(dst, h[len(scratch):]), o.Dropped...), h
}

// ParseOutcome parses the answer to any Write.
func ParseOutcome(a [][]byte) (o Outcome, err error) {
	if len(a) == 0 {
		return Outcome{}, errors.New("the answer to a change is empty")
	}
	w := words{cmd: "write", rest: a[0]}
	o.Version = w.uint("version")
	o.Existed = w.bool("existed")
	o.Token = w.token()
	if len(a) > 1 {
		o.Dropped = a[1:]
	}
	return o, w.err
}

// AppendTo appends the answer: 6 version server cluster lease-ms max-value
func (j *Joined) AppendTo(dst [][]byte) [][]byte {
	return append(dst, []byte("6"), uintArg(uint64(j.Version)), []byte(j.ServerName), []byte(j.ClusterName),
		msArg(j.Lease), uintArg(uint64(j.MaxValue)))
}

// ParseJoined parses the answer to a TC.JOIN.
func ParseJoined(a [][]byte) (j Joined, err error) {
	p, _ := answer(CmdJoin, a, 6)
	j.Version = int(p.uint("version"))
	j.ServerName = string(p.bytes("server"))
	j.ClusterName = string(p.bytes("cluster"))
	j.Lease = p.millis("lease")
	j.MaxValue = int(p.uint("largest value"))
	return j, p.err
}

// answer splits an answer into a walker over the header fields that this build
// knows and what follows the header.
func answer(cmd string, a [][]byte, known int) (p args, rest [][]byte) {
	p = args{cmd: cmd, a: a}
	n := p.uint("number of header fields")
	if p.err == nil && (n < uint64(known) || n-1 > uint64(len(p.a))) {
		p.fail("answer announces %d header fields and has %d; at least %d are needed", n, len(a), known)
	}
	if p.err != nil {
		return p, nil
	}
	rest = p.a[n-1:]
	p.a = p.a[:known-1]
	return p, rest
}

// words walks the header of an answer; the first fault sticks.
type words struct {
	cmd  string
	rest []byte // what is left, without the space before it
	err  error
}

func (w *words) fail(what string, err error) {
	if w.err == nil {
		w.err = &Error{Word: ErrBadRequest, Text: fmt.Sprintf("%s: answer: %s: %v", w.cmd, what, err)}
	}
}

// next returns the next word; there is none, or an empty one, at the end.
func (w *words) next() []byte {
	b := w.rest
	for i, c := range b {
		if c == ' ' {
			w.rest = b[i+1:]
			return b[:i]
		}
	}
	w.rest = nil
	return b
}

func (w *words) uint(what string) uint64 {
	n, err := parseUint(w.next())
	if err != nil {
		w.fail(what, err)
	}
	return n
}

func (w *words) millis(what string) time.Duration {
	if len(w.rest) > 1 && w.rest[0] == '-' && w.rest[1] == '1' && (len(w.rest) == 2 || w.rest[2] == ' ') {
		w.next()
		return KeepIdle
	}
	n := w.uint(what)
	if n > maxMillis {
		w.fail(what, errors.New("longer than a hundred years"))
	}
	return time.Duration(n) * time.Millisecond
}

func (w *words) bool(what string) bool {
	n := w.uint(what)
	if n > 1 {
		w.fail(what, errors.New("neither 0 nor 1"))
	}
	return n == 1
}

func (w *words) token() Token {
	t, err := ParseToken(w.next())
	if err != nil {
		w.fail("token", err)
	}
	return t
}

// UserSession is one line of the answer to TC.USER.
type UserSession struct {
	Key  []byte
	Age  time.Duration
	Idle time.Duration
}

// AppendUserSessions appends the answer to TC.USER dataset user:
// 1 (key age-ms idle-ms)*
func AppendUserSessions(dst [][]byte, list []UserSession) [][]byte {
	dst = append(dst, []byte("1"))
	for _, s := range list {
		dst = append(dst, s.Key, msArg(s.Age), msArg(s.Idle))
	}
	return dst
}

// ParseUserSessions parses the answer to TC.USER.
func ParseUserSessions(a [][]byte) ([]UserSession, error) {
	p, rest := answer(CmdUser, a, 1)
	if p.err != nil {
		return nil, p.err
	}
	p.a = rest
	var list []UserSession
	for len(p.a) > 0 && p.err == nil {
		list = append(list, UserSession{Key: p.bytes("key"), Age: p.millis("age"), Idle: p.millis("idle")})
	}
	return list, p.err
}
