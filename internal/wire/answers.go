package wire

import (
	"fmt"
	"strconv"
	"time"
)

// Answers are flat lists too. Each starts with the number of header fields, so
// that a later version can add fields that an older client skips.

// AppendTo appends the answer:
// 10 key token owned version age-ms idle-ms idlemax-ms remaining-ms user (name value)*
// The count is that of the fields before the attributes, itself included.
func (s *Session) AppendTo(dst [][]byte) [][]byte {
	dst, _ = s.AppendWith(dst, make([]byte, 0, 160))
	return dst
}

// AppendWith is AppendTo for a server that answers many: the numbers are
// written behind scratch, which is returned longer, and dst points into it.
func (s *Session) AppendWith(dst [][]byte, scratch []byte) ([][]byte, []byte) {
	n := numbers(scratch)
	dst = append(dst, sessionHeader, s.Key, n.token(s.Token), boolArg(s.Owned), n.uint(s.Version),
		n.millis(s.Age), n.millis(s.Idle), n.millis(s.IdleMax), n.millis(s.Remaining), s.User)
	for _, a := range s.Attributes {
		dst = append(dst, a.Name, a.Value)
	}
	return dst, n
}

var sessionHeader = []byte("10") // never changed

// numbers is memory for the digits of one answer. What it has handed out stays
// valid where it grows.
type numbers []byte

func (n *numbers) from(start int) []byte { return (*n)[start:len(*n):len(*n)] }

func (n *numbers) token(t Token) []byte {
	start := len(*n)
	*n = t.AppendTo(*n)
	return n.from(start)
}

func (n *numbers) uint(v uint64) []byte {
	start := len(*n)
	*n = strconv.AppendUint(*n, v, 10)
	return n.from(start)
}

func (n *numbers) millis(d time.Duration) []byte {
	start := len(*n)
	*n = appendMillis(*n, d)
	return n.from(start)
}

// ParseSession parses the answer to a TC.LOAD.
func ParseSession(a [][]byte) (s Session, err error) {
	p, rest := answer(CmdLoad, a, 10)
	s.Key = p.bytes("key")
	s.Token = p.token()
	s.Owned = p.bool("owned")
	s.Version = p.uint("version")
	s.Age = p.millis("age")
	s.Idle = p.millis("idle")
	s.IdleMax = p.millis("idle timeout")
	s.Remaining = p.millis("remaining")
	s.User = p.bytes("user")
	if p.err != nil {
		return Session{}, p.err
	}
	if len(rest)%2 != 0 {
		return Session{}, fmt.Errorf("%s: answer has an attribute without a value", CmdLoad)
	}
	if len(rest) > 0 {
		s.Attributes = make([]Attribute, len(rest)/2)
		for i := range s.Attributes {
			s.Attributes[i] = Attribute{Name: rest[2*i], Value: rest[2*i+1]}
		}
	}
	return s, nil
}

// AppendTo appends the answer: 4 version existed token (dropped attribute name)*
// A refusal travels as an error reply, not here.
func (o *Outcome) AppendTo(dst [][]byte) [][]byte {
	dst, _ = o.AppendWith(dst, make([]byte, 0, 64))
	return dst
}

// AppendWith is to AppendTo what it is for a Session.
func (o *Outcome) AppendWith(dst [][]byte, scratch []byte) ([][]byte, []byte) {
	n := numbers(scratch)
	dst = append(dst, outcomeHeader, n.uint(o.Version), boolArg(o.Existed), n.token(o.Token))
	return append(dst, o.Dropped...), n
}

var outcomeHeader = []byte("4") // never changed

// ParseOutcome parses the answer to any Write.
func ParseOutcome(a [][]byte) (o Outcome, err error) {
	p, rest := answer("write", a, 4)
	o.Version = p.uint("version")
	o.Existed = p.bool("existed")
	o.Token = p.token()
	if len(rest) > 0 {
		o.Dropped = rest
	}
	return o, p.err
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

var zero, one = []byte("0"), []byte("1") // never changed

func boolArg(b bool) []byte {
	if b {
		return one[:1:1]
	}
	return zero[:1:1]
}

func (p *args) bool(what string) bool {
	b := p.bytes(what)
	if p.err == nil && string(b) != "0" && string(b) != "1" {
		p.fail("%s is neither 0 nor 1", what)
	}
	return string(b) == "1"
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
