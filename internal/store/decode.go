package store

import (
	"encoding/binary"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// maxMillis bounds time-outs to a hundred years, as the wire does.
const maxMillis = 100 * 366 * 24 * 3600 * 1000

func badRequest(text string) *wire.Error {
	return &wire.Error{Word: wire.ErrBadRequest, Text: text}
}

// decoder walks an operation. What it returns aliases the operation. The first
// fault sticks, and end reports it.
type decoder struct {
	b     []byte // what is left
	fault string
}

func (d *decoder) fail(what string) {
	if d.fault == "" {
		d.fault = what
	}
	d.b = nil
}

func (d *decoder) end() *wire.Error {
	if len(d.b) > 0 {
		d.fail("operation has bytes too many")
	}
	if d.fault != "" {
		return badRequest(d.fault)
	}
	return nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("operation is cut short")
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail("operation is cut short")
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) raw() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail("operation is cut short")
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

// name reads what must have 1 to most bytes.
func (d *decoder) name(what string, most int) []byte {
	b := d.raw()
	if d.fault == "" && (len(b) == 0 || len(b) > most) {
		d.fail(what + " is empty or too long")
	}
	return b
}

// text reads what may be empty.
func (d *decoder) text(what string, most int) []byte {
	b := d.raw()
	if len(b) > most {
		d.fail(what + " is too long")
	}
	return b
}

// count reads how many things follow that take at least size bytes each, so that
// a made-up count cannot make us allocate.
func (d *decoder) count(size int) int {
	n := d.uint()
	if n > uint64(len(d.b)/size) {
		d.fail("operation is cut short")
		return 0
	}
	return int(n)
}

func (d *decoder) millis() time.Duration {
	n := d.uint()
	if n > maxMillis {
		d.fail("time-out is longer than a hundred years")
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

func (d *decoder) node() (id wire.NodeID) {
	if len(d.b) < len(id) {
		d.fail("operation is cut short")
		return id
	}
	d.b = d.b[copy(id[:], d.b):]
	if id.IsZero() {
		d.fail("node id is zero")
	}
	return id
}

func (d *decoder) token() wire.Token {
	return wire.Token{Incarnation: d.uint(), Term: d.uint(), Counter: d.uint(), Index: d.uint()}
}

func (d *decoder) write(w *wire.Write) {
	w.Dataset = d.name("dataset", wire.MaxDatasetName)
	w.Key = d.name("key", wire.MaxKey)
	w.Node = d.node()
	w.Seq = d.uint()
	w.Low = d.uint()
	w.Token = d.token()
	if d.fault == "" && (w.Low == 0 || w.Low > w.Seq) {
		d.fail("lowest unacknowledged number is not within 1 and the sequence number")
	}
}

// attributes appends to dst, which the caller uses again for the next operation.
func (d *decoder) attributes(dst []wire.Attribute) []wire.Attribute {
	for n := d.count(2); n > 0; n-- {
		name := d.text("attribute name", wire.MaxAttributeName)
		dst = append(dst, wire.Attribute{Name: name, Value: d.raw()})
	}
	return dst
}

func (d *decoder) create(c *wire.Create) {
	set := c.Set[:0]
	*c = wire.Create{}
	d.write(&c.Write)
	c.Idle = d.millis()
	c.Absolute = d.millis()
	c.User = d.text("user", wire.MaxUser)
	c.Set = d.attributes(set)
}

func (d *decoder) commit(c *wire.Commit) {
	set, remove := c.Set[:0], c.Remove[:0]
	*c = wire.Commit{Idle: wire.KeepIdle}
	d.write(&c.Write)
	if n := d.uint(); n > maxMillis+1 {
		d.fail("time-out is longer than a hundred years")
	} else if n > 0 {
		c.Idle = time.Duration(n-1) * time.Millisecond
	}
	c.Set = d.attributes(set)
	for n := d.count(1); n > 0; n-- {
		remove = append(remove, d.text("attribute name", wire.MaxAttributeName))
	}
	c.Remove = remove
}

func (d *decoder) invalidate(c *wire.Invalidate) {
	d.write(&c.Write)
	c.Reason = d.name("reason", wire.MaxReason)
	if !validReason(c.Reason) {
		d.fail("reason is not one printable word")
	}
}

func validReason(reason []byte) bool {
	for _, b := range reason {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return len(reason) > 0 && len(reason) <= wire.MaxReason
}

func (d *decoder) renew(c *wire.Renew) {
	d.write(&c.Write)
	c.NewKey = d.name("new key", wire.MaxKey)
	c.Grace = d.millis()
	switch d.byte() {
	case 0:
	case 1:
		c.SetUser, c.User = true, d.text("user", wire.MaxUser)
	default:
		d.fail("operation is not understood")
	}
	if d.fault == "" && string(c.NewKey) == string(c.Key) {
		d.fail("new key is the old key")
	}
}

func (d *decoder) open() (o wire.Open) {
	o.Dataset = d.name("dataset", wire.MaxDatasetName)
	o.Offheap = d.text("off-heap resource", wire.MaxUser)
	o.Disk = d.text("disk resource", wire.MaxUser)
	n := d.uint()
	if n > wire.MaxConcurrency {
		d.fail("concurrency is too large")
		n = 0
	}
	o.Concurrency = int(n)
	o.Tags = d.text("tags", wire.MaxUser)
	o.LockMode = d.raw()
	if m := string(o.LockMode); d.fault == "" && m != "none" && m != "session" {
		d.fail("lock mode is neither none nor session")
	}
	return o
}

func (d *decoder) touches() (dataset []byte, list []Touch) {
	dataset = d.name("dataset", wire.MaxDatasetName)
	n := d.count(2)
	list = make([]Touch, 0, n)
	for ; n > 0; n-- {
		key := d.name("key", wire.MaxKey)
		list = append(list, Touch{Key: key, When: Time(min(d.uint(), 1<<63-1))})
	}
	return dataset, list
}

func (d *decoder) expire() (dataset []byte, keys [][]byte) {
	dataset = d.name("dataset", wire.MaxDatasetName)
	n := d.count(1)
	keys = make([][]byte, 0, n)
	for ; n > 0; n-- {
		keys = append(keys, d.name("key", wire.MaxKey))
	}
	return dataset, keys
}

func (d *decoder) join() (j wire.Join) {
	j.Node = d.node()
	j.Generation = d.uint()
	j.Low = d.uint()
	j.Label = d.text("label", wire.MaxLabel)
	if d.fault == "" && (j.Generation == 0 || j.Low == 0) {
		d.fail("generation and lowest unacknowledged number start at 1")
	}
	return j
}
