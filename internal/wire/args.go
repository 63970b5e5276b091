package wire

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"
)

func indexByte(b []byte, c byte) int { return bytes.IndexByte(b, c) }

// parseUint reads a decimal number without sign, spaces or leading zeros, so
// that every number has one spelling.
func parseUint(b []byte) (uint64, error) {
	if len(b) == 0 || len(b) > 20 || (b[0] == '0' && len(b) > 1) {
		return 0, fmt.Errorf("%q is not a whole number", clip(b))
	}
	var n uint64
	for i, c := range b {
		d := uint64(c - '0') // large where c is below '0', too
		if d > 9 {
			return 0, fmt.Errorf("%q is not a whole number", clip(b))
		}
		if i == 19 && n > (math.MaxUint64-d)/10 { // 19 digits always fit
			return 0, fmt.Errorf("%q is too large", b)
		}
		n = n*10 + d
	}
	return n, nil
}

// clip shortens what a peer sent before it goes into an error text.
func clip(b []byte) []byte { return b[:min(len(b), 64)] }

// uintArg writes a number. Those of one digit share memory that is never changed.
func uintArg(n uint64) []byte {
	if n < 10 {
		return digits[n : n+1 : n+1]
	}
	return strconv.AppendUint(nil, n, 10)
}

var digits = []byte("0123456789")

// nodeArg writes a node id. The zero one, which the client replaces when it sends
// a command, shares memory that is never changed.
func nodeArg(n NodeID) []byte {
	if n.IsZero() {
		return zeroNode
	}
	return []byte(n.String())
}

var zeroNode = []byte(NodeID{}.String())

// msArg writes a duration as whole milliseconds, rounded up so that a short one
// does not become "none".
func msArg(d time.Duration) []byte {
	if d == KeepIdle {
		return keepIdle
	}
	return appendMillis(nil, d)
}

var keepIdle = []byte("-1") // never changed

func appendMillis(dst []byte, d time.Duration) []byte {
	if d < 0 {
		return append(dst, "-1"...)
	}
	return strconv.AppendInt(dst, int64((d+time.Millisecond-1)/time.Millisecond), 10)
}

// maxMillis bounds durations to a hundred years, far from any overflow.
const maxMillis = 100 * 366 * 24 * 3600 * 1000

// args walks the arguments of one command; the first fault sticks.
type args struct {
	cmd string
	a   [][]byte // what is left
	err error
}

func (p *args) fail(format string, v ...any) {
	if p.err == nil {
		p.err = &Error{Word: ErrBadRequest, Text: p.cmd + ": " + fmt.Sprintf(format, v...)}
	}
}

func (p *args) bytes(what string) []byte {
	if p.err != nil {
		return nil
	}
	if len(p.a) == 0 {
		p.fail("argument %s is missing", what)
		return nil
	}
	b := p.a[0]
	p.a = p.a[1:]
	return b
}

func (p *args) name(what string, most int) []byte {
	b := p.bytes(what)
	if p.err == nil && (len(b) == 0 || len(b) > most) {
		p.fail("%s has %d bytes; 1 to %d are allowed", what, len(b), most)
	}
	return b
}

func (p *args) uint(what string) uint64 {
	b := p.bytes(what)
	if p.err != nil {
		return 0
	}
	n, err := parseUint(b)
	if err != nil {
		p.fail("%s: %v", what, err)
	}
	return n
}

func (p *args) count(what string) int {
	n := p.uint(what)
	if p.err == nil && n > uint64(len(p.a)) {
		p.fail("%s is %d, but only %d arguments follow", what, n, len(p.a))
		return 0
	}
	return int(n)
}

func (p *args) millis(what string) time.Duration {
	if p.err == nil && len(p.a) > 0 && string(p.a[0]) == "-1" {
		p.a = p.a[1:]
		return KeepIdle
	}
	n := p.uint(what)
	if p.err == nil && n > maxMillis {
		p.fail("%s is longer than a hundred years", what)
	}
	return time.Duration(n) * time.Millisecond
}

func (p *args) timeout(what string) time.Duration {
	d := p.millis(what)
	if d < 0 {
		p.fail("%s is negative; 0 means none", what)
	}
	return d
}

func (p *args) node() NodeID {
	b := p.bytes("node")
	if p.err != nil {
		return NodeID{}
	}
	n, err := ParseNodeID(b)
	if err == nil && n.IsZero() {
		err = fmt.Errorf("node id is zero")
	}
	if err != nil {
		p.fail("%v", err)
	}
	return n
}

func (p *args) token() Token {
	b := p.bytes("token")
	if p.err != nil {
		return Token{}
	}
	t, err := ParseToken(b)
	if err != nil {
		p.fail("%v", err)
	}
	return t
}

func (p *args) attributes() []Attribute {
	n := p.count("number of attributes to set")
	if p.err == nil && 2*n > len(p.a) {
		p.fail("%d attributes are announced, but only %d arguments follow", n, len(p.a))
	}
	if p.err != nil || n == 0 {
		return nil
	}
	set := make([]Attribute, n)
	for i := range set {
		set[i].Name = p.attributeName()
		set[i].Value = p.bytes("attribute value")
	}
	return set
}

func (p *args) attributeName() []byte {
	b := p.bytes("attribute name")
	if len(b) > MaxAttributeName {
		p.fail("attribute name has %d bytes; at most %d are allowed", len(b), MaxAttributeName)
	}
	return b
}

func (p *args) end() error {
	if p.err == nil && len(p.a) > 0 {
		p.fail("%d arguments too many", len(p.a))
	}
	return p.err
}

// Bounds on names, in bytes. Values are bounded by the server's own limit
// (MaxValue of Joined).
const (
	MaxDatasetName   = 128
	MaxKey           = 1024
	MaxAttributeName = 1024
	MaxUser          = 1024
	MaxLabel         = 256
	MaxReason        = 64
)
