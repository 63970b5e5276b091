package store

import (
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// kind is the first byte of an operation. Numbers are never reused.
type kind byte

const (
	kindCreate     kind = 1
	kindCommit     kind = 2
	kindInvalidate kind = 3
	kindRenew      kind = 4
	kindOpen       kind = 5
	kindTouch      kind = 6
	kindExpire     kind = 7
	kindPrune      kind = 8
	kindJoin       kind = 9
	kindLeave      kind = 10
	kindConfigure  kind = 11

	kindRedisSet    kind = 12
	kindRedisDelete kind = 13
	kindRedisExpire kind = 14
	kindRedisHSet   kind = 15
	kindRedisHDel   kind = 16
	kindRedisRead   kind = 17

	kindLast = kindRedisRead // a kind beyond it needs a later format: internal/stripe, formats.go
)

// Asked reports whether op changes what clients keep here, because one of them asked
// for it: not an access, nor what the servers do by themselves.
func Asked(op []byte) bool {
	if len(op) == 0 {
		return false
	}
	switch kind(op[0]) {
	case kindCreate, kindCommit, kindInvalidate, kindRenew,
		kindRedisSet, kindRedisDelete, kindRedisExpire, kindRedisHSet, kindRedisHDel:
		return true
	}
	return false
}

// The operations: each appends its log form to dst. The first byte is the kind;
// byte strings follow their length, numbers are unsigned varints, a node is its
// 16 bytes.

// AppendCreate creates a session. Refused with ErrSessionExists where the key is
// taken and ErrSessionGone where a session under it has ended. The caller fills in the outcome's Token.
func AppendCreate(dst []byte, c *wire.Create) []byte {
	dst = appendWrite(append(dst, byte(kindCreate)), &c.Write)
	dst = appendMillis(dst, c.Idle)
	dst = appendMillis(dst, c.Absolute)
	dst = appendBytes(dst, c.User)
	return appendAttributes(dst, c.Set)
}

// AppendCommit changes each attribute whose last change the token covers
// (docs/protocol.md, "Changes are made once"). Also a commit
// whose changes were all dropped is an access. The outcome's Version is the
// record's. A session whose time is up but that no entry has expired still takes
// commits: a coalesced access may be on its way that keeps it alive.
func AppendCommit(dst []byte, c *wire.Commit) []byte {
	dst = appendWrite(append(dst, byte(kindCommit)), &c.Write)
	if c.Idle < 0 {
		dst = append(dst, 0) // wire.KeepIdle; else the milliseconds and one
	} else {
		dst = binary.AppendUvarint(dst, millis(c.Idle)+1)
	}
	dst = appendAttributes(dst, c.Set)
	dst = binary.AppendUvarint(dst, uint64(len(c.Remove)))
	for _, name := range c.Remove {
		dst = appendBytes(dst, name)
	}
	return dst
}

// AppendInvalidate ends a session and leaves a tombstone under its key and
// every key that led to it. Ending one that is gone or unknown is a success with
// Existed false.
func AppendInvalidate(dst []byte, c *wire.Invalidate) []byte {
	dst = appendWrite(append(dst, byte(kindInvalidate)), &c.Write)
	return appendBytes(dst, c.Reason)
}

// AppendRenew moves a session to a new key. The old key, and those that led to
// it, lead to the new one for Grace at most. The outcome's Token is the
// command's: its holder has seen no more of the session than before.
func AppendRenew(dst []byte, c *wire.Renew) []byte {
	dst = appendWrite(append(dst, byte(kindRenew)), &c.Write)
	dst = appendBytes(dst, c.NewKey)
	dst = appendMillis(dst, c.Grace)
	if !c.SetUser {
		return append(dst, 0)
	}
	return appendBytes(append(dst, 1), c.User)
}

// AppendOpen opens a dataset; it is idempotent, and refused where the dataset
// has another off-heap resource, disk resource, lock mode or, where one is
// named, another concurrency. The tags of the last open count.
func AppendOpen(dst []byte, o *wire.Open) []byte {
	dst = appendBytes(append(dst, byte(kindOpen)), o.Dataset)
	dst = appendBytes(dst, o.Offheap)
	dst = appendBytes(dst, o.Disk)
	dst = binary.AppendUvarint(dst, uint64(max(o.Concurrency, 0)))
	dst = appendBytes(dst, o.Tags)
	return appendBytes(dst, o.LockMode)
}

// Touch is one access to a record.
type Touch struct {
	Key  []byte
	When Time
}

// AppendTouch records accesses. When is the log time of each key's last access;
// an older one than the record's changes nothing, a later one than the entry's
// counts as the entry's. Keys of no session are passed over.
func AppendTouch(dst []byte, dataset []byte, list []Touch) []byte {
	dst = appendBytes(append(dst, byte(kindTouch)), dataset)
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, t := range list {
		dst = binary.AppendUvarint(appendBytes(dst, t.Key), uint64(max(t.When, 0)))
	}
	return dst
}

// AppendExpire ends those of the keys whose time is up at the entry's log time
// (others are left alone), with tombstones of reason "expired". Existed in the
// outcome says whether any was.
func AppendExpire(dst []byte, dataset []byte, keys [][]byte) []byte {
	dst = appendBytes(append(dst, byte(kindExpire)), dataset)
	dst = binary.AppendUvarint(dst, uint64(len(keys)))
	for _, key := range keys {
		dst = appendBytes(dst, key)
	}
	return dst
}

// AppendPrune drops tombstones and old keys after renewals whose time is up, at most limit of them.
func AppendPrune(dst []byte, limit int) []byte {
	return binary.AppendUvarint(append(dst, byte(kindPrune)), uint64(max(limit, 0)))
}

// AppendJoin makes node known, or updates its label; generation 1 of an unknown
// node joins it, a later one is refused with ErrNodeGone. A generation below the
// node's highest is ErrStale.
func AppendJoin(dst []byte, j *wire.Join) []byte {
	dst = append(append(dst, byte(kindJoin)), j.Node[:]...)
	dst = binary.AppendUvarint(dst, j.Generation)
	dst = binary.AppendUvarint(dst, j.Low)
	return appendBytes(dst, j.Label)
}

// AppendLeave forgets node and its outcomes: its writes are refused from here on.
func AppendLeave(dst []byte, node wire.NodeID) []byte {
	return append(append(dst, byte(kindLeave)), node[:]...)
}

// AppendConfigure installs the cluster's configuration and licence. The same
// again is a success. Refused with ErrConfigured where another name or licence
// is installed (the text names the cluster), with ErrConflict where the name is
// the same and the configuration is not.
func AppendConfigure(dst []byte, c *wire.Cluster) []byte {
	document, err := json.Marshal(c)
	if err != nil {
		panic("store: a cluster configuration does not encode: " + err.Error()) // strings and numbers always do
	}
	dst = appendBytes(append(dst, byte(kindConfigure)), document)
	return appendBytes(dst, []byte(c.License))
}

func appendWrite(dst []byte, w *wire.Write) []byte {
	dst = appendBytes(dst, w.Dataset)
	dst = appendBytes(dst, w.Key)
	dst = append(dst, w.Node[:]...)
	dst = binary.AppendUvarint(dst, w.Seq)
	dst = binary.AppendUvarint(dst, w.Low)
	return appendToken(dst, w.Token)
}

func appendToken(dst []byte, t wire.Token) []byte {
	dst = binary.AppendUvarint(dst, t.Incarnation)
	dst = binary.AppendUvarint(dst, t.Term)
	dst = binary.AppendUvarint(dst, t.Counter)
	return binary.AppendUvarint(dst, t.Index)
}

func appendAttributes(dst []byte, set []wire.Attribute) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(set)))
	for _, at := range set {
		dst = appendBytes(appendBytes(dst, at.Name), at.Value)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// millis rounds up, so that a short time does not become none.
func millis(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	whole := d / time.Millisecond
	if d%time.Millisecond != 0 {
		whole++
	}
	return uint64(whole)
}

func appendMillis(dst []byte, d time.Duration) []byte { return binary.AppendUvarint(dst, millis(d)) }
