// Package stripe agrees on the order of operations among the servers of one
// stripe, keeps them on disk and applies them to the store. hashicorp/raft
// lives here and only here; leader and follower are words of this room.
//
// The one idea: operations that wait together become one log entry (group
// commit), stamped with log time. An entry is on disk and applied before any of
// its operations is acknowledged.
//
//	st := store.New()
//	s, err := stripe.Open(ctx, stripe.Config{Dir: dir, Durability: stripe.EveryWrite, Logger: log}, st)
//	err = s.Form(ctx) // once in the life of the stripe
//	s.Propose(op, func(o wire.Outcome, err error) { ... })
//	err = s.Confirm(ctx) // after reading st, before answering
//
// In this version a stripe has one server.
package stripe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Durability says when an acknowledged write is on disk.
type Durability string

const (
	EveryWrite  Durability = "every write"  // one fsync per batch, before the acknowledgement
	EverySecond Durability = "every second" // a crash of the machine can lose the last second
	MemoryOnly  Durability = "memory only"  // no data root: a restart starts empty
)

// Config is how a stripe's server is opened.
type Config struct {
	Dir        string // the stripe's folder in the platform data root; "" with MemoryOnly
	Durability Durability
	ServerName string
	Logger     *slog.Logger // nil: nothing is logged
}

// Stripe is this server's part in its stripe. Its methods may be called by many
// goroutines at once.
type Stripe struct {
	cfg  Config
	log  *slog.Logger
	id   string
	root *dataRoot // nil with MemoryOnly
	disk *lazyFS   // nil but with EverySecond

	journal   *journal // nil with MemoryOnly
	raft      *raft.Raft
	fsm       *fsm
	clock     *logClock
	queue     *queue
	confirmer *confirmer

	formed  atomic.Bool // there is a configuration: Form was called, once
	leading atomic.Bool // this server may propose
	served  atomic.Bool // it was active at least once in this run
	sole    atomic.Bool // it is the only voter
	term    atomic.Uint64
	ill     atomic.Pointer[wire.Error] // the disk cannot be written

	subscribers struct {
		sync.Mutex
		list []chan struct{}
	}

	closing   atomic.Bool
	closeOnce sync.Once
	closeErr  error
	stop      chan struct{}  // closed by Close
	work      sync.WaitGroup // all goroutines but raft's
}

var (
	errStopping     = &wire.Error{Word: wire.ErrStopping, Text: "this server is shutting down"}
	errBusy         = &wire.Error{Word: wire.ErrBusy, Text: "too many changes wait to be written"}
	errUnconfigured = &wire.Error{Word: wire.ErrUnconfigured, Text: "the cluster is not configured yet: run cluster-tool configure"}
	errNotActive    = &wire.Error{Word: wire.ErrNotActive, Text: "this server is not active yet"}
)

// Open starts from the state in cfg.Dir, or unformed where there is none. The
// identity of the server is read from Dir, or made there. st must be new.
// It fails where another process uses Dir, where Dir cannot be written, and
// where a file there is damaged or of a later version; the error says what to do.
// It returns before this server is active: see Status and Changes. Where ctx ends
// first it gives up with ctx's error, and the state is as it was.
func Open(ctx context.Context, cfg Config, st *store.Store) (*Stripe, error) {
	return open(cfg, storeMachine{st}, parts{starting: ctx})
}

// parts are what tests replace; zero fields are the real ones.
type parts struct {
	starting context.Context // of Open; nil: the start is never given up

	clock *logClock
	files logFiles // but for dir and lazy

	trailing uint64 // entries kept behind a snapshot
}

func open(cfg Config, m machine, p parts) (_ *Stripe, err error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if p.starting == nil {
		p.starting = context.Background()
	}
	if p.clock == nil {
		p.clock = newLogClock()
	}
	s := &Stripe{cfg: cfg, log: cfg.Logger, clock: p.clock, queue: newQueue(), stop: make(chan struct{})}
	s.fsm = &fsm{m: m, log: s.log, memoryOnly: cfg.Durability == MemoryOnly, grown: make(chan struct{}, 1), stop: s.stop, starting: p.starting}
	defer func() {
		if err != nil {
			s.closeFiles()
		}
	}()
	st, err := s.openStorage(p.files.withDefaults())
	if err != nil {
		return nil, err
	}
	if p.trailing == 0 {
		p.trailing = trailingLogs
	}
	if err := s.startRaft(st, p.trailing); err != nil {
		if cause := context.Cause(p.starting); cause != nil {
			return nil, fmt.Errorf("open the stripe: %w", cause)
		}
		return nil, err
	}
	if s.root != nil {
		s.work.Go(s.rootWatcher)
	}
	s.work.Add(3)
	go s.proposer()
	go s.watcher()
	go s.snapshotter()
	return s, nil
}

// storage is where raft keeps what it must remember.
type storage struct {
	logs   raft.LogStore
	stable raft.StableStore
	snaps  raft.SnapshotStore
}

func (s *Stripe) openStorage(files logFiles) (storage, error) {
	switch s.cfg.Durability {
	case MemoryOnly:
		if s.cfg.Dir != "" {
			return storage{}, fmt.Errorf("durability %q takes no data root, and %q is given", MemoryOnly, s.cfg.Dir)
		}
		s.id = newIdentity().ID
		return storage{&memoryLog{}, raft.NewInmemStore(), raft.NewDiscardSnapshotStore()}, nil
	case EveryWrite, EverySecond:
	default:
		return storage{}, fmt.Errorf("durability %q is none of %q, %q, %q", s.cfg.Durability, EveryWrite, EverySecond, MemoryOnly)
	}
	if s.cfg.Dir == "" {
		return storage{}, fmt.Errorf("durability %q needs a data root", s.cfg.Durability)
	}
	root, err := openDataRoot(s.cfg.Dir)
	if err != nil {
		return storage{}, err
	}
	s.root, s.id = root, root.ID
	files.dir = filepath.Join(s.cfg.Dir, walFolder)
	if s.cfg.Durability == EverySecond {
		s.disk = newLazyFS(files.vfs)
		files = files.lazily(s.disk)
	}
	s.journal, err = openJournal(files, s.log, s.diskChanged, root.present)
	if err != nil {
		return storage{}, damaged(s.cfg.Dir, "log", err)
	}
	if err := s.journal.undoBirth(); err != nil {
		return storage{}, explain(s.cfg.Dir, err)
	}
	snaps, err := openSnapshots(s)
	if err != nil {
		return storage{}, explain(s.cfg.Dir, err)
	}
	return storage{s.journal, s.journal, snaps}, nil
}

func (s *Stripe) diskChanged(ill error) {
	if ill == nil {
		s.ill.Store(nil)
		if s.disk != nil {
			s.fsm.want() // a sync that failed late may have dropped what was acknowledged before
		}
	} else {
		s.ill.Store(&wire.Error{Word: wire.ErrReadOnly, Text: ill.Error()})
	}
	s.changed()
}

// refusal says why nothing can be proposed now, or nil.
func (s *Stripe) refusal() *wire.Error {
	switch {
	case s.closing.Load():
		return errStopping
	case !s.formed.Load():
		return errUnconfigured
	}
	if e := s.ill.Load(); e != nil {
		return e
	}
	if !s.leading.Load() {
		return errNotActive
	}
	return nil
}

// readRefusal says why nothing can be read now, or nil.
func (s *Stripe) readRefusal() *wire.Error {
	switch {
	case s.closing.Load():
		return errStopping
	case !s.formed.Load():
		return errUnconfigured
	case !s.active():
		return errNotActive
	}
	return nil
}

// active reports whether this server serves. The only voter stays active while
// its disk keeps it from leading.
func (s *Stripe) active() bool {
	return s.leading.Load() || s.sole.Load() && s.served.Load()
}

// Now returns the log time at this moment; 0 where this server is not active.
func (s *Stripe) Now() store.Time {
	if !s.active() {
		return 0
	}
	return s.clock.read()
}

// Reign names the time in which this server is the active one, for tokens: an
// incarnation and term that no other server, and no other time of this one, has.
func (s *Stripe) Reign() (incarnation, term uint64) { return 0, s.term.Load() }

// Status tells the role and progress of this server.
func (s *Stripe) Status() Status {
	st := Status{
		ServerID: s.id,
		State:    wire.StateStarting,
		Formed:   s.formed.Load(),
		Term:     s.term.Load(),
		LogIndex: s.raft.LastIndex(),
		Applied:  s.fsm.applied.Load(),
	}
	if !st.Formed || s.active() {
		st.State = wire.StateActive // unformed: what it would become, for display only
	}
	if e := s.ill.Load(); e != nil {
		st.DiskError = e.Text
	} else if p := s.fsm.damage.Load(); p != nil {
		st.DiskError = (*p).Error()
	}
	return st
}

// Status is a moment of a stripe's server.
type Status struct {
	ServerID    string // the identity in the data root
	State       string // wire.StateActive and so on; an unformed server shows StateActive too
	Formed      bool
	Incarnation uint64
	Term        uint64 // of this server's last time as the active one
	LogIndex    uint64 // last entry in the log
	Applied     uint64 // last entry applied
	DiskError   string // why writes are refused, "" where they are not
}

// Changes returns a channel that gets a value (coalesced) whenever State may
// have changed. Every call makes a channel of its own, so call it once per
// reader; it is never closed.
func (s *Stripe) Changes() <-chan struct{} {
	c, _ := s.subscribe()
	return c
}

func (s *Stripe) subscribe() (c chan struct{}, leave func()) {
	c = make(chan struct{}, 1)
	s.subscribers.Lock()
	defer s.subscribers.Unlock()
	s.subscribers.list = append(s.subscribers.list, c)
	return c, func() {
		s.subscribers.Lock()
		defer s.subscribers.Unlock()
		s.subscribers.list = slices.DeleteFunc(s.subscribers.list, func(l chan struct{}) bool { return l == c })
	}
}

func (s *Stripe) changed() {
	s.subscribers.Lock()
	defer s.subscribers.Unlock()
	for _, c := range s.subscribers.list {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// closePatience bounds each wait of Close for a disk that may not answer.
const closePatience = time.Second

// Close stops taking proposals, fails those that wait with ErrStopping, and
// closes log and snapshots. Everything acknowledged is safe. With a disk that
// does not answer it gives up after two seconds and says so.
func (s *Stripe) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Stripe) close() error {
	s.closing.Store(true)
	s.changed()
	for _, b := range s.queue.close() {
		b.answer(nil, errStopping)
	}
	// What was proposed is awaited before raft ends: raft forgets to answer some.
	within(closePatience, s.queue.idle)
	close(s.stop)
	if s.journal != nil {
		s.journal.release()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.confirmer.await()
		s.raft.Shutdown().Error()
		s.giveUp()
		s.work.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(closePatience):
		s.giveUp()
		return errors.New("close the stripe: the disk does not answer")
	}
	return s.closeFiles()
}

// giveUp answers the batch that raft did not answer.
func (s *Stripe) giveUp() {
	if b := s.fsm.flight.Swap(nil); b != nil {
		b.answer(nil, s.proposalError(raft.ErrRaftShutdown))
	}
}

func (s *Stripe) closeFiles() error {
	var errs []error
	if s.journal != nil {
		errs = append(errs, s.journal.close())
	}
	if s.disk != nil {
		s.disk.close()
	}
	if s.root != nil {
		errs = append(errs, s.root.close())
	}
	return errors.Join(errs...)
}

// within polls until ok or until the time is up.
func within(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// waitActive returns when this server may propose, or with why it can't.
func (s *Stripe) waitActive(ctx context.Context) error {
	changes, leave := s.subscribe()
	defer leave()
	for {
		switch refusal := s.refusal(); {
		case refusal == nil:
			return nil
		case refusal != errNotActive:
			return refusal
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("wait for this server to become active: %w", ctx.Err())
		}
	}
}
