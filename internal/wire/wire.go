// Package wire is the TC.* vocabulary that clients and servers share: command
// names, the order of their arguments, error words, and the documents that the
// cluster tool exchanges with servers.
//
// The one idea: every TC.* command is a flat list of byte strings, and so is
// every answer (or an error, or null). Each command is a struct with
// AppendArgs, used by the client, and a Parse function, used by the server, so
// the two ends cannot drift apart. Framing (RESP) is not this package's
// business, and it imports nothing of ours.
//
// Parsed structs alias the argument buffers they were parsed from: copy what
// outlives the command. Durations cross machines, instants never do.
//
// docs/protocol.md is the same vocabulary for readers who don't write Go.
package wire

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// Version is the version of what application nodes and servers say to each other, the
// first argument of TC.JOIN. It is raised by whatever the other side would misread.
const Version = 2

// The commands.
const (
	CmdJoin       = "TC.JOIN"       // open a connection generation of a node
	CmdLeave      = "TC.LEAVE"      // end a node in order
	CmdOpen       = "TC.OPEN"       // open a dataset, make it where missing
	CmdCreate     = "TC.CREATE"     // create a session
	CmdLoad       = "TC.LOAD"       // read a session, with a ticket for its commit
	CmdCommit     = "TC.COMMIT"     // change attributes of a session
	CmdInvalidate = "TC.INVALIDATE" // end a session for good
	CmdRenew      = "TC.RENEW"      // give a session a new key, and perhaps a user
	CmdUser       = "TC.USER"       // list the sessions of a user
	CmdStatus     = "TC.STATUS"     // a Status document
	CmdConfigure  = "TC.CONFIGURE"  // a ConfigureRequest document
	CmdStop       = "TC.STOP"       // stop this server in order
	CmdDump       = "TC.DUMP"       // a Dump document
	CmdBackup     = "TC.BACKUP"     // back this stripe up, in steps
	CmdPromote    = "TC.PROMOTE"    // wake a suspended server
)

// NodeID names one incarnation of an application process: 16 random bytes made
// at its start, never reused. The zero NodeID is no node.
type NodeID [16]byte

// String returns the 32 lower-case hexadecimal digits that stand on the wire.
func (n NodeID) String() string { return hex.EncodeToString(n[:]) }

// IsZero reports whether n names no node.
func (n NodeID) IsZero() bool { return n == NodeID{} }

// ParseNodeID parses 32 lower-case hexadecimal digits.
func ParseNodeID(b []byte) (n NodeID, err error) {
	if len(b) != 32 {
		return n, fmt.Errorf("node id has %d characters, not 32", len(b))
	}
	for i := range n {
		high, low := digit(b[2*i]), digit(b[2*i+1])
		if high|low > 15 {
			return NodeID{}, fmt.Errorf("node id %q is not 32 lower-case hexadecimal digits", b)
		}
		n[i] = high<<4 | low
	}
	return n, nil
}

// digit returns the value of a lower-case hexadecimal digit; more than 15 where c is none.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// Token names one grant or ticket for one session: it says which state of the
// store a commit is based on. It is never reused.
// The zero Token goes with a create, which is based on nothing.
type Token struct {
	Incarnation uint64 // names the history of an available pair; 0 otherwise
	Term        uint64 // Raft term of the active that granted it
	Counter     uint64 // counts grants within the term
	Index       uint64 // store index that the value read reflects
}

// AppendTo appends the wire form, "incarnation.term.counter.index" in decimal.
func (t Token) AppendTo(dst []byte) []byte {
	dst = append(strconv.AppendUint(dst, t.Incarnation, 10), '.')
	dst = append(strconv.AppendUint(dst, t.Term, 10), '.')
	dst = append(strconv.AppendUint(dst, t.Counter, 10), '.')
	return strconv.AppendUint(dst, t.Index, 10)
}

// String returns the wire form.
func (t Token) String() string { return string(t.AppendTo(nil)) }

// SameGrant reports whether t and u come from the same grant.
func (t Token) SameGrant(u Token) bool {
	return t.Incarnation == u.Incarnation && t.Term == u.Term && t.Counter == u.Counter
}

// ParseToken parses the wire form.
func ParseToken(b []byte) (t Token, err error) {
	parts := [4]*uint64{&t.Incarnation, &t.Term, &t.Counter, &t.Index}
	for i, p := range parts {
		end := len(b)
		if i < 3 {
			if end = indexByte(b, '.'); end < 0 {
				return Token{}, fmt.Errorf("token has %d of 4 numbers", i+1)
			}
		}
		if *p, err = parseUint(b[:end]); err != nil {
			return Token{}, fmt.Errorf("token: %w", err)
		}
		b = b[min(end+1, len(b)):]
	}
	return t, nil
}

// Attribute is one named value of a session. Names and values are bytes; a
// value is opaque to every server.
type Attribute struct{ Name, Value []byte }

// Write is what every change of a session carries: which record, which
// node, the node's sequence number, the lowest number whose outcome the node
// has not seen yet (the store forgets outcomes below it), and the token of the
// value that the change is based on.
type Write struct {
	Dataset []byte
	Key     []byte
	Node    NodeID
	Seq     uint64 // from 1, never reused by this node
	Low     uint64 // 1 <= Low <= Seq
	Token   Token
}

// KeepIdle as Commit.Idle leaves the session's idle timeout as it is.
const KeepIdle time.Duration = -1

// Create makes a new session. Idle and Absolute are time-outs in milliseconds
// on the wire; 0 means none.
type Create struct {
	Write
	Idle     time.Duration
	Absolute time.Duration
	User     []byte // empty: nobody is logged in
	Set      []Attribute
}

// Commit changes attributes of an existing session: it never creates one.
// A Commit with neither Set nor Remove only counts as an access.
type Commit struct {
	Write
	Idle   time.Duration // new idle timeout, or KeepIdle
	Set    []Attribute
	Remove [][]byte
}

// Invalidate ends a session and leaves a tombstone with Reason, a single word
// such as "logout".
type Invalidate struct {
	Write
	Reason []byte
}

// Renew moves a session to NewKey. For Grace the old key still leads to it; with
// Grace zero the old key is gone at once. A Renew with Grace through an old key is
// refused (ErrSessionGone, renewed): of parallel rotations the first counts, or a browser
// could keep the cookie that dies first. With SetUser the session's user becomes
// User (empty: nobody) in the same step.
type Renew struct {
	Write
	NewKey  []byte
	Grace   time.Duration
	SetUser bool
	User    []byte
}

// LoadMode says what a Load is for.
type LoadMode byte

const (
	// LoadRead reads for a request: it counts as an access and yields a ticket.
	LoadRead LoadMode = 'R'
	// LoadPeek looks without being an access, and yields no ticket.
	LoadPeek LoadMode = 'P'
	// LoadOwn asks for ownership. A server may always answer with a ticket instead.
	LoadOwn LoadMode = 'O'
)

// Load reads one session.
type Load struct {
	Dataset []byte
	Key     []byte
	Node    NodeID
	Mode    LoadMode
	Room    []Attribute // memory for the answer's attributes, not sent; nil or too short: the answer has its own
}

// Session is the answer to a Load.
type Session struct {
	Key        []byte        // the key the record has now: another one than asked for after a Renew
	Token      Token         // for the commit of this request; zero with LoadPeek
	Owned      bool          // Token is a grant of ownership, not a ticket
	Version    uint64        // store index of the last change
	Age        time.Duration // since it was created
	Idle       time.Duration // since the access before this one
	IdleMax    time.Duration // idle timeout, 0 = none
	Remaining  time.Duration // until the absolute timeout, KeepIdle (-1) = none
	User       []byte
	Attributes []Attribute
}

// Outcome is the answer to a Write, and what the store remembers for a repeat.
// Err is nil or the refusal. Token is set for a Create, as the ticket for
// further commits of the same request, and is the command's own for a Renew. Dropped names the attributes whose change came too late.
type Outcome struct {
	Err     *Error
	Version uint64 // store index of this change
	Existed bool   // Invalidate: there was such a session
	Token   Token
	Dropped [][]byte
	Redis   *RedisReply // of a Redis operation; never changed, nor remembered
}

// Open opens a dataset.
type Open struct {
	Dataset     []byte
	Offheap     []byte // name of an off-heap resource; empty: the first
	Disk        []byte // name of a data directory; empty: the platform's
	Concurrency int    // segments; 0: the server chooses
	Tags        []byte // comma separated, shown to operators
	LockMode    []byte // "none" or "session": all nodes of a dataset must agree
}

// Join is the first command of a node on a connection. Generation starts at 1 and
// grows with each connection of the node; a larger one closes the smaller one.
type Join struct {
	Node       NodeID
	Generation uint64
	Low        uint64 // lowest unacknowledged sequence number
	Label      []byte // shown to operators, e.g. the host name
}

// Leave is the last command of a node: the cluster forgets it, its outcomes too,
// so everything that it has sent must be answered.
type Leave struct {
	Node NodeID
}

// Joined is the answer to a Join.
type Joined struct {
	Version     int // handshake version of the server
	ServerName  string
	ClusterName string
	Lease       time.Duration
	MaxValue    int // largest value in bytes
}
