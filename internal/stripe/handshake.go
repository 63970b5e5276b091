package stripe

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Every connection to the group port begins with a handshake of five frames: the
// dialer's hello, the acceptor's welcome, the dialer's proof, the verdict, and,
// unless that is a refusal, the acceptor's proof. A
// frame is JSON behind its length (two bytes, big endian); the first has
// groupMagic before it. The proofs are HMAC-SHA-256 under the shared secret over
// both nonces and all else that was said, one for each side, so that the secret
// itself never travels and nothing can be played back. They do not encrypt what
// follows, and whoever sits between the two can change it: that is what TLS is for.
const groupMagic = "TCG\x01"

// The versions of what is spoken on the group port after the handshake. A server
// speaks all from groupMin to groupMax, and both ends take the highest that both know.
const (
	groupMin = 1
	groupMax = 1
)

// versions is a range of them.
type versions struct{ min, max int }

// Purposes of a connection.
const (
	forRaft = "raft" // the Raft library's own messages follow
	forAsk  = "ask"  // the verdict answers who and what the server is
	forJoin = "join" // the dialer wants to become a member
)

const maxFrame = 32 << 10 // bytes

// hello is what the dialer says of itself.
type hello struct {
	Min     int    `json:"min"`
	Max     int    `json:"max"`
	Purpose string `json:"purpose"`
	Nonce   string `json:"nonce"`
	Expect  string `json:"expect,omitempty"` // the server id that is dialled
	peer
	Agreement string `json:"agreement,omitempty"`
	Pair      *note  `json:"pair,omitempty"` // forAsk between the servers of a pair
}

// peer is how a server names itself to another.
type peer struct {
	Stripe string `json:"stripe,omitempty"` // "" while it belongs to none
	ID     string `json:"id"`
	Name   string `json:"name"`
	Run    string `json:"run"` // another one at each start
	Group  string `json:"group"`
	Client string `json:"client"`
	Timers string `json:"timers"`
	Format int    `json:"format,omitempty"` // the newest that it reads; 0 is 1
}

type welcome struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Nonce   string `json:"nonce"`
	Secret  bool   `json:"secret"` // whether the acceptor has one
}

type proof struct {
	Proof string `json:"proof,omitempty"`
}

// verdict is the acceptor's last word. With a refusal the connection ends.
type verdict struct {
	Refusal *refusal `json:"refusal,omitempty"`
	Peer    peer     `json:"peer"`
	Answer  *answer  `json:"answer,omitempty"` // forAsk and forJoin
}

// refusal says why a connection is not wanted.
type refusal struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Error returns the text.
func (r *refusal) Error() string { return r.Text }

// Codes of refusals, for those who must decide.
const (
	refusedVersion   = "version"
	refusedSecret    = "secret"
	refusedIdentity  = "identity"  // not the server that was dialled, or one that runs twice
	refusedStripe    = "stripe"    // of another stripe
	refusedName      = "name"      // the name is another server's
	refusedTimers    = "timers"    // other timers
	refusedAgreement = "agreement" // other settings
	refusedJoin      = "join"      // not configured, or not licensed
	refusedNotActive = "not-active"
	refusedStarting  = "starting"
	refusedPurpose   = "purpose"
	refusedBusy      = "busy"
)

func refuse(code, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// refusedAs returns the code of a refusal within err, or "".
func refusedAs(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func newNonce() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// transcript sums what was said, byte for byte.
type transcript struct{ h []byte }

func (t *transcript) add(frame []byte) {
	sum := sha256.New()
	sum.Write(t.h)
	sum.Write(frame)
	t.h = sum.Sum(nil)
}

// prove returns the proof of one side; "" without a secret.
func (t *transcript) prove(secret, side string) string {
	if secret == "" {
		return ""
	}
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(side))
	m.Write(t.h)
	return hex.EncodeToString(m.Sum(nil))
}

// Sides of a proof. They differ, so that nobody can answer with what it was told.
const (
	dialing   = "dial\n"
	accepting = "accept\n"
)

func proven(got, want string) bool { return hmac.Equal([]byte(got), []byte(want)) }

// writeFrame writes v, and returns the bytes that count for the transcript.
func writeFrame(w io.Writer, prefix string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes; at most %d are allowed", len(b), maxFrame)
	}
	f := binary.BigEndian.AppendUint16([]byte(prefix), uint16(len(b)))
	_, err = w.Write(append(f, b...))
	return b, err
}

// readFrame reads into v. It reads no byte beyond the frame.
func readFrame(r io.Reader, v any) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes; at most %d are allowed", n, maxFrame)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, json.Unmarshal(b, v)
}

// meet is the dialer's side of the handshake. On success the connection is ready
// for its purpose and has no deadline.
func meet(conn net.Conn, patience time.Duration, secret string, h hello) (verdict, error) {
	conn.SetDeadline(time.Now().Add(patience))
	if h.Max == 0 {
		h.Min, h.Max = groupMin, groupMax
	}
	h.Nonce = newNonce()
	var t transcript
	said, err := writeFrame(conn, groupMagic, h)
	if err != nil {
		return verdict{}, err
	}
	t.add(said)
	var w welcome
	if said, err = readFrame(conn, &w); err != nil {
		return verdict{}, fmt.Errorf("it does not answer as a server of a stripe does: %w", err)
	}
	t.add(said)
	if w.Secret != (secret != "") {
		return verdict{}, refuse(refusedSecret, "only one of the two servers has a secret: set the same password on all servers of the stripe")
	}
	if _, err = writeFrame(conn, "", proof{t.prove(secret, dialing)}); err != nil {
		return verdict{}, err
	}
	var v verdict
	if said, err = readFrame(conn, &v); err != nil {
		return verdict{}, err
	}
	if v.Refusal != nil {
		return verdict{}, v.Refusal
	}
	t.add(said)
	var p proof
	if _, err = readFrame(conn, &p); err != nil {
		return verdict{}, err
	}
	switch {
	case !proven(p.Proof, t.prove(secret, accepting)):
		return verdict{}, refuse(refusedSecret, "it does not know the stripe's secret: set the same password on all servers")
	case h.Expect != "" && v.Peer.ID != h.Expect:
		return verdict{}, refuse(refusedIdentity, "server %s answers where %s was expected", v.Peer.ID, h.Expect)
	}
	return v, conn.SetDeadline(time.Time{})
}

// greet is the acceptor's side up to the verdict, which the caller decides and
// sends with settle.
func greet(conn net.Conn, patience time.Duration, secret, id string, speaks versions) (hello, *transcript, *refusal, error) {
	conn.SetDeadline(time.Now().Add(patience))
	var magic [len(groupMagic)]byte
	if _, err := io.ReadFull(conn, magic[:]); err != nil {
		return hello{}, nil, nil, err
	}
	if string(magic[:]) != groupMagic {
		return hello{}, nil, nil, errors.New("what was sent is no handshake of a stripe's server")
	}
	var h hello
	t := new(transcript)
	said, err := readFrame(conn, &h)
	if err != nil {
		return hello{}, nil, nil, err
	}
	t.add(said)
	said, err = writeFrame(conn, "", welcome{Version: min(speaks.max, h.Max), ID: id, Nonce: newNonce(), Secret: secret != ""})
	if err != nil {
		return hello{}, nil, nil, err
	}
	t.add(said)
	var p proof
	if _, err := readFrame(conn, &p); err != nil {
		return hello{}, nil, nil, err
	}
	switch {
	case !proven(p.Proof, t.prove(secret, dialing)):
		return h, t, refuse(refusedSecret, "the secret is another one: set the same password on all servers of the stripe"), nil
	case h.Min > speaks.max || h.Max < speaks.min:
		return h, t, refuse(refusedVersion, "this server speaks versions %d to %d of the group protocol, and server %q speaks %d to %d: upgrade in smaller steps",
			speaks.min, speaks.max, h.Name, h.Min, h.Max), nil
	}
	return h, t, nil, nil
}

// settle sends the verdict, and the proof.
func settle(conn net.Conn, t *transcript, secret string, v verdict) error {
	if v.Refusal != nil {
		_, err := writeFrame(conn, "", verdict{Refusal: v.Refusal})
		return err
	}
	said, err := writeFrame(conn, "", v)
	if err != nil {
		return err
	}
	t.add(said)
	if _, err := writeFrame(conn, "", proof{t.prove(secret, accepting)}); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}
