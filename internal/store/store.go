// Package store is what the cluster remembers: the cluster's configuration and
// licence, datasets, sessions (records), tombstones, joined nodes and the
// outcomes of their writes, in bounded off-heap resources.
//
// It is deterministic: no clock, no network, no randomness. Everything that
// changes it is an operation from the agreed log, applied in order with the log
// time of its entry; two stores that applied the same log are equal, byte for
// byte in their snapshots. Whether an operation is accepted depends on nothing
// but the store's content (DESIGN sections 2 and 4).
package store

import (
	"io"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Time is log time: milliseconds on the stripe's own clock, which only the
// active advances, by what it stamps into log entries. It never goes back.
type Time int64

// Store is the state of one stripe's server. Apply and Restore are for one
// goroutine; all other methods may be called at any time.
type Store struct{}

// New returns an empty, unconfigured store.
func New() *Store { panic("not built") }

// Apply applies one operation. It never fails as a whole: a refusal is an
// outcome and is remembered like any other. op's memory is copied out of.
// An op that does not decode, or of an unknown kind, is ErrBadRequest and
// changes nothing but the store index.
func (s *Store) Apply(now Time, op []byte) wire.Outcome { panic("not built") }

// Index returns the store index: the number of operations applied since the
// stripe was born. A record's version is the index of its last change.
func (s *Store) Index() uint64 { panic("not built") }

// Now returns the largest log time applied.
func (s *Store) Now() Time { panic("not built") }

// The operations: each appends its log form to dst. The first byte is the kind.

func AppendCreate(dst []byte, c *wire.Create) []byte         { panic("not built") }
func AppendCommit(dst []byte, c *wire.Commit) []byte         { panic("not built") }
func AppendInvalidate(dst []byte, c *wire.Invalidate) []byte { panic("not built") }
func AppendRenew(dst []byte, c *wire.Renew) []byte           { panic("not built") }

// AppendOpen opens a dataset; it is idempotent, and refused where the dataset
// has another off-heap resource, disk resource or lock mode.
func AppendOpen(dst []byte, o *wire.Open) []byte { panic("not built") }

// AppendTouch records accesses. When is the log time of each key's last access;
// an older one than the record's changes nothing.
func AppendTouch(dst []byte, dataset []byte, list []Touch) []byte { panic("not built") }

// AppendExpire ends those of the keys whose time is up at the entry's log time
// (others are left alone), with tombstones of reason "expired".
func AppendExpire(dst []byte, dataset []byte, keys [][]byte) []byte { panic("not built") }

// AppendPrune drops tombstones and old keys after renewals whose time is up, at most limit of them.
func AppendPrune(dst []byte, limit int) []byte { panic("not built") }

// AppendJoin makes node known, or updates its label; generation 1 of an unknown
// node joins it, a later one is refused with ErrNodeGone.
func AppendJoin(dst []byte, j *wire.Join) []byte { panic("not built") }

// AppendLeave forgets node and its outcomes: its writes are refused from here on.
func AppendLeave(dst []byte, node wire.NodeID) []byte { panic("not built") }

// AppendConfigure installs the cluster's configuration and licence. Refused
// (ErrConfigured, ErrConflict) where another name is installed; the same again is a success.
func AppendConfigure(dst []byte, c *wire.Cluster) []byte { panic("not built") }

// Touch is one access to a record.
type Touch struct {
	Key  []byte
	When Time
}

// Record is a view of one record. It and its byte slices are valid only inside
// the function they were handed to.
type Record struct {
	Key        []byte
	Version    uint64
	Created    Time
	LastAccess Time
	Idle       time.Duration // idle timeout, 0 = none
	Deadline   Time          // absolute timeout, 0 = none
	User       []byte
	attrs      []wire.Attribute
}

// Attributes returns the attributes in a fixed order; do not change them.
func (r *Record) Attributes() []wire.Attribute { return r.attrs }

// View calls f with the record of key and returns nil; or returns the refusal
// (ErrNoDataset, ErrSessionGone with the reason as first word of its text, ErrSessionUnknown).
// f must be quick: writes to the record's segment wait for it. A key that was
// renewed within its grace leads to the record under its new key.
// A record past its time-outs that no entry has expired yet is still returned:
// the active decides about time.
func (s *Store) View(dataset, key []byte, f func(*Record)) *wire.Error { panic("not built") }

// UserSessions lists the sessions of user in dataset, oldest first, at most limit.
func (s *Store) UserSessions(dataset, user []byte, limit int) ([]UserSession, *wire.Error) {
	panic("not built")
}

// UserSession is one session of a user.
type UserSession struct {
	Key                 []byte
	Created, LastAccess Time
}

// Due returns up to limit keys per dataset whose time is up at now, for
// AppendExpire, and whether AppendPrune has work.
func (s *Store) Due(now Time, limit int) (due []DueSessions, prune bool) { panic("not built") }

// DueSessions names the sessions of one dataset whose time is up.
type DueSessions struct {
	Dataset []byte
	Keys    [][]byte
}

// Cluster returns the installed configuration with its licence, or nil.
func (s *Store) Cluster() *wire.Cluster { panic("not built") }

// Datasets and Offheap tell what is stored and how full the resources are.
func (s *Store) Datasets() []wire.DatasetStatus { panic("not built") }
func (s *Store) Offheap() []wire.OffheapStatus  { panic("not built") }

// Nodes lists the joined nodes.
func (s *Store) Nodes() []Node { panic("not built") }

// Node is one joined application process.
type Node struct {
	ID     wire.NodeID
	Label  string
	Joined Time
}

// Snapshot is a point in time of the store. Writes go on beside it.
type Snapshot struct{}

// Snapshot returns the state as it is now. Call Release when done. It is for the
// goroutine that calls Apply.
func (s *Store) Snapshot() *Snapshot { panic("not built") }

// WriteTo writes the snapshot: a format version, sections with checksums, an end
// mark. Equal stores write equal bytes.
func (n *Snapshot) WriteTo(w io.Writer) (int64, error) { panic("not built") }

// Release gives back what the snapshot held.
func (n *Snapshot) Release() { panic("not built") }

// Restore replaces the whole state by a snapshot. On error the store is empty.
func (s *Store) Restore(r io.Reader) error { panic("not built") }
