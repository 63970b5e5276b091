package stripe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// machine is what the log is applied to: the store, or a stand-in of a test.
type machine interface {
	Apply(now store.Time, op []byte) wire.Outcome
	Now() store.Time
	Snapshot() view
	Restore(r io.Reader) error
	Verify(r io.Reader) error // whether Restore would read what was written; changes nothing
	Knows(op []byte) bool     // whether it is an operation that this version knows
	Index() uint64            // how many operations were applied, ever
	Forgotten() [][]byte      // keys that the last Apply deleted without a trace, valid until the next one
	Asked(op []byte) bool     // whether it is a change that a client asked for
	Changes(since uint64, after store.Time, f func(store.Change) error) error

	Crowded() bool          // views hold as much memory as they may: nothing is applied meanwhile
	Hurried() bool          // they hold half of that
	GiveUp(least int64) int // gives up views of which less was written since the last call
}

// view is a point in time of a machine.
type view interface {
	WriteTo(w io.Writer) (int64, error)
	Drain(w io.Writer) (int64, error) // the same, once: memory is let go of as it is written
	Release()
}

type storeMachine struct{ *store.Store }

func (m storeMachine) Snapshot() view { return m.Store.Snapshot() }

func (m storeMachine) Verify(r io.Reader) error { return store.VerifySnapshot(r) }
func (m storeMachine) Asked(op []byte) bool     { return store.Asked(op) }

// fsm is the machine as the Raft library sees it. Its methods are called by one
// goroutine of raft, but for what is atomic.
type fsm struct {
	m          machine
	log        *slog.Logger
	dir        string                // of a pair's server: where deletedFile is; "" with memory only
	memoryOnly bool                  // snapshots only cut the log short: nothing is ever restored from them
	grown      chan struct{}         // gets a value when the log is worth a snapshot
	stop       <-chan struct{}       // closed when the stripe closes: a snapshot under way is given up
	starting   context.Context       // ends when the start is given up
	guard      atomic.Pointer[guard] // nil while the log is read at the start, and where there is one server
	follow     func(store.Time)      // told the time of each entry applied; nil where there is one server

	applied   atomic.Uint64 // index of the last entry applied or restored
	time      atomic.Int64  // store.Time of the last entry applied
	timed     atomic.Uint64 // term of the last entry applied that has a time
	bytes     atomic.Int64  // of the log since the last snapshot
	size      atomic.Int64  // of the last snapshot
	damage    atomic.Pointer[error]
	restoring error                   // why the last Restore failed
	arrived   atomic.Pointer[arrival] // the last snapshot that another server sent; nil: none
	traffic   traffic

	// turn is held while the machine changes: raft's goroutine applies, others take views.
	turn sync.Mutex
	// Guarded by turn: the term of the last entry applied, and the last committed
	// configuration with its index.
	term        uint64
	config      raft.Configuration
	configIndex uint64
	// The state before the last batch, which both servers of a pair have: a batch is
	// proposed when the one before it was agreed. And what it was when the log last told
	// that one of two was removed, until the incarnation that begins with that; nil: none.
	settled fork
	parted  *removal

	pair    bool      // the stripe is a pair that stays available: what follows is used
	deleted deletions // while it has one voter, and in the last batch

	past    atomic.Pointer[history]  // the incarnations in the log so far; nil: none
	branch  atomic.Uint64            // names them, in tokens
	members atomic.Pointer[seatings] // the last committed configuration; nil: none

	newest  int          // format that this software reads
	agreed  atomic.Int64 // format of the stripe; 0: none was agreed on, which is 1
	trouble func()       // called after damage was set; nil in tests

	gate     gate                   // batches are answered while it is open
	flight   atomic.Pointer[flight] // out, or never to be agreed; who takes it out answers it
	agree    func(*flight)          // told of this server's own batches when they are agreed, before they are applied; nil in tests
	outcomes []wire.Outcome         // scratch of Apply
	asked    bool                   // likewise: the entry has a change that a client asked for
	serves   func()                 // called when such an entry of this server's was answered; nil where nobody counts
	untold   func() bool            // see pair.untold; nil where there is no pair

	room    room
	bracket atomic.Pointer[bracket] // of the answers to a batch; nil: nobody asked for that
}

var (
	_ raft.FSM                = (*fsm)(nil)
	_ raft.ConfigurationStore = (*fsm)(nil)
)

// Apply implements raft.FSM. It answers the batch that the entry is made of: by
// way of raft's own answer the callers would wait for two more goroutines. It
// returns an error where the entry could not be read: then nothing of it, or only
// a part, was applied, and this server must not go on.
func (f *fsm) Apply(entry *raft.Log) any {
	if p := f.damage.Load(); p != nil {
		return *p
	}
	own := f.flight.Load()
	if own != nil && own.is(entry.Data) && f.flight.CompareAndSwap(own, nil) {
		if f.agree != nil {
			f.agree(own)
		}
	} else { // what was sealed here just now, and has not left memory, needs no second look
		own = nil
		if err := checkEnvelope(entry.Data); err != nil {
			return f.broken(entry.Index, err)
		}
	}
	switch entry.Data[0] {
	case entryIncarnation:
		return f.incarnate(entry)
	case entryFormat:
		return f.raise(entry)
	}
	if err := f.applyAll(entry); err != nil {
		if own != nil {
			own.answer(nil, errDamagedHere)
		}
		return f.broken(entry.Index, err)
	}
	if f.bytes.Add(int64(len(entry.Data))) >= f.enough() {
		f.signal()
	}
	if own != nil {
		if f.gate.wait(f.stop) {
			f.answer(own)
			if f.asked && f.serves != nil {
				f.serves()
			}
		} else {
			own.answer(nil, errUnsureEnd)
		}
	}
	clear(f.outcomes)
	return nil
}

// answer answers a batch of this server's that was applied.
func (f *fsm) answer(own *flight) {
	b := f.bracket.Load()
	if b != nil {
		b.begin()
		defer b.end()
	}
	own.answer(f.outcomes, nil)
}

// applyHere applies a batch that no log has, and answers it. It returns false, and has
// answered nothing, where it could not be applied or an earlier one could not.
func (f *fsm) applyHere(b *batch, now store.Time, term uint64) bool {
	if f.damage.Load() != nil {
		return false
	}
	stamp(b.env, now, len(b.done))
	entry := raft.Log{Index: f.applied.Load() + 1, Term: term, Data: b.env}
	if err := f.applyAll(&entry); err != nil {
		f.broken(entry.Index, err)
		return false
	}
	f.bytes.Add(int64(len(b.env))) // the pace of a backup depends on it
	b.answer(f.outcomes, nil)
	clear(f.outcomes)
	return true
}

// applyAll applies the operations of an entry that is verified, and leaves their outcomes in f.
func (f *fsm) applyAll(entry *raft.Log) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	now, _ := envelopeTime(entry.Data)
	f.outcomes, f.asked = f.outcomes[:0], false
	before := fork{f.m.Index(), f.m.Now()}
	unknown := false // an operation that is skipped here, and not elsewhere, would make the states differ
	err := walkEnvelope(entry.Data, func(now store.Time, op []byte) {
		if unknown = unknown || !f.m.Knows(op); unknown {
			return
		}
		f.asked = f.asked || f.m.Asked(op)
		if f.m.Crowded() {
			f.makeRoom()
		}
		f.outcomes = append(f.outcomes, f.m.Apply(now, op))
		if f.pair {
			f.noteDeleted(len(f.outcomes) == 1)
		}
	})
	if err == nil && unknown {
		err = errUnknown
	}
	if err != nil {
		return err
	}
	if len(f.outcomes) > 0 {
		f.settled = before
	}
	f.time.Store(max(f.time.Load(), int64(now)))
	if entry.Data[0] == entryProbe {
		if g := f.guard.Load(); g != nil {
			g.take(entry.Index, f.m.Snapshot())
		}
	}
	if f.follow != nil {
		f.follow(now)
	}
	f.term = entry.Term
	f.timed.Store(entry.Term)
	f.applied.Store(entry.Index)
	return nil
}

// noteDeleted notes which keys the last operation deleted. While there are two
// voters only those of the last batch count: the other one has those before.
func (f *fsm) noteDeleted(first bool) {
	if first && len(votersOf(f.config)) != 1 {
		f.deleted.forget()
	}
	f.deleted.note(f.m.Index(), f.m.Forgotten())
}

// setPast sets what the log tells of the pair's incarnations.
func (f *fsm) setPast(h history) {
	f.past.Store(&h)
	f.branch.Store(h.branch())
}

// incarnate begins an incarnation of the pair. Where the owner could not know at
// which state that is, it is this one. Where it looked only after the partner was
// removed, the log knows better: at its restart it was at its last snapshot, and on the
// word of an operator behind what only itself had agreed on.
func (f *fsm) incarnate(entry *raft.Log) any {
	i, err := parseIncarnation(entry.Data)
	if err != nil {
		return f.broken(entry.Index, err)
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	i.Applied = f.m.Index()
	switch parted := f.parted; {
	case i.Forced:
		i.Version, i.Time = f.m.Index(), f.m.Now()
	case parted != nil && i.Fork >= parted.entry:
		i.Version, i.Time = parted.index, parted.time
	}
	f.parted = nil
	f.setPast(f.history().with(i))
	f.term = entry.Term
	f.applied.Store(entry.Index)
	return nil
}

// fork is a state of the store.
type fork struct {
	index uint64
	time  store.Time
}

// removal is that of one of two voters: the entry of the log that says so, and a
// state that both servers have.
type removal struct {
	fork
	entry uint64
}

// seatings are the servers of a committed configuration.
type seatings struct {
	all    raft.Configuration
	voters []raft.ServerID
	index  uint64 // of its entry
}

// seat notes the last committed configuration, for those who must not wait for changes. The caller holds turn.
func (f *fsm) seat(c raft.Configuration, index uint64) {
	f.config, f.configIndex = c, index
	f.members.Store(&seatings{c, votersOf(c), index})
}

// history is what the log applied so far tells of the pair's incarnations.
func (f *fsm) history() history {
	if p := f.past.Load(); p != nil {
		return *p
	}
	return nil
}

// moment is where in the log a view was taken.
type moment struct {
	index, term uint64
	time        int64 // log time

	config      raft.Configuration // the last one that was committed before
	configIndex uint64

	past   history // of a pair
	format int     // of the stripe
}

// viewNow returns the machine as it is after the last entry applied.
func (f *fsm) viewNow() (view, moment, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if p := f.damage.Load(); p != nil {
		return nil, moment{}, *p
	}
	return f.m.Snapshot(), moment{f.applied.Load(), f.term, f.time.Load(), f.config, f.configIndex, f.history(), f.format()}, nil
}

// want asks for a snapshot whatever the log's size.
func (f *fsm) want() {
	f.bytes.Add(f.enough())
	f.signal()
}

func (f *fsm) signal() {
	select {
	case f.grown <- struct{}{}:
	default:
	}
}

// enough is how many bytes of log are worth a snapshot.
func (f *fsm) enough() int64 {
	if f.memoryOnly {
		return memoryLogBytes
	}
	return max(snapshotBytes, f.size.Load())
}

func (f *fsm) broken(index uint64, err error) error {
	err = fmt.Errorf("log entry %d cannot be applied: %w", index, err)
	f.damage.Store(&err)
	if errors.Is(err, errLater) {
		f.log.Error("the log was written by a later version: this server does not serve", "error", err)
	} else {
		f.log.Error("the log is damaged: this server does not serve", "error", err)
	}
	if f.trouble != nil {
		f.trouble()
	}
	return err
}

// StoreConfiguration implements raft.ConfigurationStore. Without it raft would
// not take a snapshot right after a change of the configuration.
func (f *fsm) StoreConfiguration(index uint64, c raft.Configuration) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if len(votersOf(f.config)) == 2 && len(votersOf(c)) == 1 {
		f.parted = &removal{f.settled, index}
	}
	f.seat(c, index)
	f.applied.Store(max(f.applied.Load(), index)) // what was applied without the log counts on
}
