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
// A stripe of several servers is plain Raft: a majority agrees on every entry.
// Form founds it on one server, and the others join by themselves (join.go).
package stripe

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
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

	Members  []Member     // the configured servers of the stripe, this one included; nil or one: the sole server
	Self     string       // names this server in Members
	Listener net.Listener // the group port, opened by the caller, owned by the stripe; nil for the sole server
	Secret   string       // shared by the servers, "" for none. Both ends prove that they know it, and never send it
	Priority string       // Availability or Consistency
	Timers   Timers

	// Agreement is a text that must be the same on all servers, such as the sizes
	// of off-heap resources; a server that joins with another one is refused.
	Agreement string
	// MayJoin is asked on the active server before a server of a new identity is
	// let in. Its error is told to that server. nil: every configured name may.
	MayJoin func(name string) error

	Faults *Faults // for tests; nil: none
}

// Stripe is this server's part in its stripe. Its methods may be called by many
// goroutines at once.
type Stripe struct {
	cfg  Config
	log  *slog.Logger
	id   string
	root *dataRoot // nil with MemoryOnly

	journal   *raftlog.Journal // nil with MemoryOnly
	raft      *raft.Raft
	fsm       *fsm
	clock     *logClock
	queue     *queue
	confirmer *confirmer

	formed  atomic.Bool   // there is a configuration: Form was called, once
	leading atomic.Bool   // this server may propose
	served  atomic.Bool   // it was active at least once in this run
	synced  atomic.Bool   // it has all that the active server had, and a vote
	told    func() uint64 // up to which entry all agree, as the active one last said; nil where sole
	// wasActive is whether it was active when it last knew an active server.
	wasActive atomic.Bool
	met       atomic.Bool // it followed another active server in this run
	counts    atomic.Bool // and applied what that one had stamped meanwhile, so it knows the time
	sole      atomic.Bool // it is the only voter
	direct    bool        // changes are applied without raft's log: nothing is kept, and there is nobody to agree with
	// hinders is why raft's leader could not become active the last time; nil where it
	// could, or is not leader.
	hinders atomic.Pointer[string]
	term    atomic.Uint64
	ill     atomic.Pointer[wire.Error] // the disk cannot be written
	stalled atomic.Pointer[wire.Error] // the disk hangs

	withdrawn atomic.Bool // because the disk hangs: another server is to be active

	// With several servers; group is nil where there is one.
	group    *group
	contact  *contact
	guard    *guard
	marked   bool                    // see runningFile
	diverged atomic.Pointer[string]  // how the state differs from the active server's
	run      string                  // names this run of the process to the others
	stripeID atomic.Pointer[string]  // the stripe that this server belongs to
	unwanted atomic.Pointer[refusal] // why the stripe does not let this server in
	lost     chan struct{}           // see Lost
	loseOnce sync.Once
	ballot   *ballot    // nil for a pair
	standing sync.Mutex // see stand
	waking   waking
	opens    time.Duration // contact.mono from which on raft may be reached
	led      atomic.Int64  // contact.mono when an active server was last known
	changing sync.Mutex    // held while the configuration is changed
	woken    chan struct{} // lets the keeper look now

	// With two servers in availability mode; pair is nil otherwise.
	pair  *pair
	again chan struct{} // makes raft's leader try again to become active
	hangs chan struct{} // tells it that its disk hangs
	aside *LostChanges  // what a former start has set aside
	logs  raft.LogStore // raft's

	subscribers struct {
		sync.Mutex
		list []chan struct{}
	}

	leaving   atomic.Bool // see Leave
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
	files raftlog.Files // but for Dir and Lazy

	trailing uint64          // entries kept behind a snapshot
	guard    time.Duration   // between comparisons of the servers' states
	stall    time.Duration   // instead of stallInterval
	speaks   versions        // instead of groupMin and groupMax
	newest   int             // format, instead of formatNewest
	pace     func(id string) // called by a pair's server before each of its looks
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
	s := &Stripe{cfg: cfg, log: cfg.Logger, clock: p.clock, stop: make(chan struct{}), woken: make(chan struct{}, 1), again: make(chan struct{}, 1), hangs: make(chan struct{}), lost: make(chan struct{}), run: newNonce()}
	s.queue = newQueue(s.watch)
	if p.speaks == (versions{}) {
		p.speaks = versions{groupMin, groupMax}
	}
	if p.newest == 0 {
		p.newest = formatNewest
	}
	s.fsm = &fsm{newest: p.newest, trouble: s.changed, agree: s.agreed, m: m, log: s.log, memoryOnly: cfg.Durability == MemoryOnly, grown: make(chan struct{}, 1), stop: s.stop, starting: p.starting}
	defer func() {
		if err != nil {
			if s.group != nil {
				s.group.Close()
			} else if cfg.Listener != nil {
				cfg.Listener.Close()
			}
			s.closeFiles()
		}
	}()
	if err := s.cfg.complete(); err != nil {
		return nil, err
	}
	s.fsm.pair = s.cfg.pair()
	s.direct = s.cfg.Durability == MemoryOnly && !s.cfg.several()
	p = cfg.Faults.upon(p)
	st, err := s.openStorage(p.files)
	if err != nil {
		return nil, err
	}
	if p.trailing == 0 {
		p.trailing = trailingLogs
	}
	if s.fsm.pair && s.root != nil {
		s.fsm.dir, s.fsm.deleted = s.root.dir, readDeletions(s.root.dir, s.log)
	}
	s.logs = st.logs
	if err := s.startRaft(st, p); err != nil {
		if cause := context.Cause(p.starting); cause != nil {
			return nil, fmt.Errorf("open the stripe: %w", cause)
		}
		return nil, err
	}
	if s.pair != nil {
		if err := s.pair.start(); err != nil {
			s.raft.Shutdown().Error()
			return nil, err
		}
	}
	if s.root != nil {
		if p.stall == 0 {
			p.stall = stallInterval
		}
		s.work.Go(s.rootWatcher)
		s.work.Go(func() { s.stallWatcher(p.stall) })
	}
	if s.group != nil {
		if p.guard == 0 {
			p.guard = guardInterval
		}
		s.work.Go(s.keeper)
		s.work.Go(s.lookout)
		s.work.Go(func() { s.guardian(p.guard) })
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

func (s *Stripe) openStorage(files raftlog.Files) (storage, error) {
	switch s.cfg.Durability {
	case MemoryOnly:
		if s.cfg.Dir != "" {
			return storage{}, fmt.Errorf("durability %q takes no data root, and %q is given", MemoryOnly, s.cfg.Dir)
		}
		s.id = newIdentity().ID
		if s.cfg.several() {
			logs := heldLog{&raftlog.Memory{}, new(hold)}
			return storage{logs, raft.NewInmemStore(), &memorySnapshots{fsm: s.fsm, logs: logs, held: logs.held}}, nil
		}
		return storage{&raftlog.Memory{}, raft.NewInmemStore(), raft.NewDiscardSnapshotStore()}, nil
	case EveryWrite, EverySecond:
	default:
		return storage{}, fmt.Errorf("durability %q is none of %q, %q, %q", s.cfg.Durability, EveryWrite, EverySecond, MemoryOnly)
	}
	if s.cfg.Dir == "" {
		return storage{}, fmt.Errorf("durability %q needs a data root", s.cfg.Durability)
	}
	if s.cfg.several() && s.cfg.Durability == EverySecond {
		if err := s.renewForgetful(bootID()); err != nil {
			return storage{}, err
		}
	}
	root, err := openDataRoot(s.cfg.Dir)
	if err != nil {
		return storage{}, err
	}
	s.root = root
	if err := root.setAside(s.log); err != nil {
		return storage{}, err
	}
	if root.wal, err = os.Stat(filepath.Join(s.cfg.Dir, walFolder)); err != nil {
		return storage{}, explain(s.cfg.Dir, err)
	}
	s.id, s.aside = root.ID, lastLost(s.cfg.Dir)
	if s.cfg.several() {
		if err := s.recall(); err != nil {
			return storage{}, err
		}
	}
	stripeID, err := readBelonging(s.cfg.Dir, s.id)
	if err != nil {
		return storage{}, err
	}
	if stripeID != "" {
		s.stripeID.Store(&stripeID)
	}
	files.Dir, files.Lazy = filepath.Join(s.cfg.Dir, walFolder), s.cfg.Durability == EverySecond
	files.Needed, files.Owner = root.hadLog(stripeID), s.id
	if files.SyncDir == nil {
		files.SyncDir = syncDir
	}
	s.journal, err = raftlog.Open(raftlog.Options{
		Files: files, Log: s.log, Engine: hclogTo(s.log), Present: root.present, Changed: s.diskChanged, Verify: checkEnvelope,
		Reread: raftlog.Reread{Entries: appendEntries, Above: besideBytes / appendEntries, UpTo: maxBatchBytes},
	})
	if err != nil {
		return storage{}, damaged(s.cfg.Dir, "log", err)
	}
	if err := undoBirth(s.journal); err != nil {
		return storage{}, explain(s.cfg.Dir, err)
	}
	if s.cfg.several() && s.cfg.Durability == EverySecond {
		if err := s.markRunning(bootID()); err != nil {
			return storage{}, err
		}
	}
	snaps, err := openSnapshots(s)
	if err != nil {
		return storage{}, explain(s.cfg.Dir, err)
	}
	list, err := snaps.List() // raft will ask again
	if err != nil {
		return storage{}, damaged(s.cfg.Dir, "state", err)
	}
	next := uint64(1)
	if len(list) > 0 {
		next = list[0].Index + 1
	}
	err = s.journal.VerifyFrom(s.fsm.starting, next)
	if cause := context.Cause(s.fsm.starting); cause != nil {
		return storage{}, fmt.Errorf("open the stripe: %w", cause)
	}
	if err != nil {
		return storage{}, damaged(s.cfg.Dir, "log", err)
	}
	if first, err := s.journal.FirstIndex(); err != nil || first > next {
		return storage{}, damaged(s.cfg.Dir, "state", cmp.Or(err, errMissing(next, first)))
	}
	if s.cfg.several() {
		snaps.held = new(hold)
		return storage{heldLog{s.journal, snaps.held}, s.journal, snaps}, nil
	}
	return storage{s.journal, s.journal, snaps}, nil
}

// diskChanged is told why the disk cannot be written now; nil: it can again.
func (s *Stripe) diskChanged(ill error) {
	if ill == nil {
		s.ill.Store(nil)
		s.log.Info("the data root can be written again")
		if s.cfg.Durability == EverySecond {
			s.fsm.want() // a sync that failed late may have dropped what was acknowledged before
		}
	} else {
		hint := diskHint(ill)
		ill = explain(s.cfg.Dir, ill)
		was := s.ill.Swap(&wire.Error{Word: wire.ErrReadOnly, Text: ill.Error()})
		if was == nil || !strings.Contains(was.Text, hint) { // the first error need not say what to do
			s.log.Error("the data root cannot be written: changes are refused until it can, reads go on", "error", ill)
		}
		if s.group != nil && s.pair == nil && s.leading.Load() && !s.contact.needed(s.suspendedAfter()) {
			// Raft resigns when a write fails, and none comes where changes are refused. Where the
			// others can elect nobody, or are a pair's, nobody would answer reads then.
			go s.raft.Barrier(enqueueTimeout)
		}
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
		return s.notActive()
	}
	if e := s.stalled.Load(); e != nil {
		return e
	}
	return nil
}

// notActive is the refusal that tells clients where to go, if that is known.
func (s *Stripe) notActive() *wire.Error {
	if name, addr, ok := s.Active(); ok && addr != "" && !s.active() {
		return &wire.Error{Word: wire.ErrNotActive, Text: "this server is not active: " + addr + " is, server " + strconv.Quote(name)}
	}
	return errNotActive
}

// readRefusal says why nothing can be read now, or nil.
func (s *Stripe) readRefusal() *wire.Error {
	switch {
	case s.closing.Load():
		return errStopping
	case !s.formed.Load():
		return errUnconfigured
	case !s.active():
		return s.notActive()
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

// Reign names the time in which this server is the active one: the number of the
// pair's incarnation (0 where it is no pair), and a term that no other time of it has.
func (s *Stripe) Reign() (incarnation, term uint64) {
	return s.fsm.history().tip().Number, s.term.Load()
}

// Branch names the history of this server's state, for tokens: while the two servers
// of a pair go on without each other, each has its own. 0 where it is no pair.
func (s *Stripe) Branch() uint64 { return s.fsm.branch.Load() }

// Covers returns up to which store index t's holder has seen this server's state:
// t's own, but for a token that the other server of a pair gave while both went on by
// themselves. Of that only counts what both have; 0 where that is not known.
func (s *Stripe) Covers(t wire.Token) uint64 {
	if t.Incarnation == s.fsm.branch.Load() {
		return t.Index
	}
	return s.fsm.history().covers(t)
}

// waitActive returns when this server may propose, or with why it can't.
func (s *Stripe) waitActive(ctx context.Context) error {
	changes, leave := s.subscribe()
	defer leave()
	for {
		refusal := s.refusal()
		if refusal == nil {
			return nil
		}
		if _, id := s.raft.LeaderWithID(); refusal.Word != wire.ErrNotActive || id != "" && string(id) != s.id {
			return refusal
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("wait for this server to become active: %w", ctx.Err())
		}
	}
}
