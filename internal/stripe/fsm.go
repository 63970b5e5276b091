package stripe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// snapshotFormat is the first byte of a snapshot file; the store's own format
// follows, which has a version and checksums itself.
const snapshotFormat = 1

// machine is what the log is applied to: the store, or a stand-in of a test.
type machine interface {
	Apply(now store.Time, op []byte) wire.Outcome
	Now() store.Time
	Snapshot() view
	Restore(r io.Reader) error
}

// view is a point in time of a machine.
type view interface {
	WriteTo(w io.Writer) (int64, error)
	Release()
}

type storeMachine struct{ *store.Store }

func (m storeMachine) Snapshot() view { return m.Store.Snapshot() }

// fsm is the machine as the Raft library sees it. Its methods are called by one
// goroutine of raft, but for what is atomic.
type fsm struct {
	m          machine
	log        *slog.Logger
	memoryOnly bool            // snapshots only cut the log short: nothing is ever restored from them
	grown      chan struct{}   // gets a value when the log is worth a snapshot
	stop       <-chan struct{} // closed when the stripe closes: a snapshot under way is given up
	starting   context.Context // ends when the start is given up

	applied   atomic.Uint64 // index of the last entry applied or restored
	time      atomic.Int64  // store.Time of the last entry applied
	bytes     atomic.Int64  // of the log since the last snapshot
	size      atomic.Int64  // of the last snapshot
	damage    atomic.Pointer[error]
	restoring error // why the last Restore failed

	flight   atomic.Pointer[batch] // proposed and not answered; who takes it out answers it
	outcomes []wire.Outcome        // scratch of Apply

	mu     sync.Mutex
	config raft.Configuration // the last committed one
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
	if err := checkEnvelope(entry.Data); err != nil {
		return f.broken(entry.Index, err)
	}
	now, _ := envelopeTime(entry.Data)
	f.outcomes = f.outcomes[:0]
	err := openEnvelope(entry.Data, func(now store.Time, op []byte) {
		f.outcomes = append(f.outcomes, f.m.Apply(now, op))
	})
	if err != nil {
		return f.broken(entry.Index, err)
	}
	f.time.Store(int64(now))
	f.applied.Store(entry.Index)
	if f.bytes.Add(int64(len(entry.Data))) >= f.enough() {
		f.signal()
	}
	if b := f.flight.Load(); b != nil && b.is(entry.Data) && f.flight.CompareAndSwap(b, nil) {
		b.answered = true
		b.answer(f.outcomes, nil)
	}
	clear(f.outcomes)
	return nil
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
	f.log.Error("the log is damaged: this server does not serve", "error", err)
	return err
}

// StoreConfiguration implements raft.ConfigurationStore. Without it raft would
// not take a snapshot right after a change of the configuration.
func (f *fsm) StoreConfiguration(index uint64, c raft.Configuration) {
	f.mu.Lock()
	f.config = c
	f.mu.Unlock()
	f.applied.Store(index)
}

// Snapshot implements raft.FSM. It is quick: the writing is Persist's.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if p := f.damage.Load(); p != nil {
		return nil, *p
	}
	s := &fsmSnapshot{f: f, bytes: f.bytes.Load()}
	if !f.memoryOnly {
		s.view = f.m.Snapshot()
	}
	return s, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) (err error) {
	defer r.Close()
	defer func() { f.restoring = err }()
	in := &progressReader{ctx: f.starting, r: r, log: f.log, what: "restoring the snapshot", next: time.Now().Add(progressInterval)}
	buf := bufio.NewReaderSize(in, 256<<10)
	format, err := buf.ReadByte()
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if format != snapshotFormat {
		return fmt.Errorf("snapshot of format %d: %w", format, errLater)
	}
	if err := f.m.Restore(buf); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	f.time.Store(int64(f.m.Now()))
	f.bytes.Store(0)
	f.size.Store(in.n)
	return nil
}

// fsmSnapshot is a snapshot on its way to disk.
type fsmSnapshot struct {
	f     *fsm
	view  view  // nil with memoryOnly
	bytes int64 // f.bytes when it was taken
}

// Persist implements raft.FSMSnapshot.
func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if s.view != nil {
		if err := s.write(sink); err != nil {
			sink.Cancel()
			return err
		}
	}
	if err := sink.Close(); err != nil {
		return err
	}
	s.f.bytes.Add(-s.bytes)
	return nil
}

func (s *fsmSnapshot) write(sink io.Writer) error {
	if _, err := sink.Write([]byte{snapshotFormat}); err != nil {
		return err
	}
	buf := bufio.NewWriterSize(newPacer(sink, s.f.stop, s.f.bytes.Load), pieceBytes)
	n, err := s.view.WriteTo(buf)
	if err != nil {
		return err
	}
	s.f.size.Store(n + 1)
	return buf.Flush()
}

// Release implements raft.FSMSnapshot.
func (s *fsmSnapshot) Release() {
	if s.view != nil {
		s.view.Release()
	}
}

// progressInterval is how often a long restore or replay tells how far it is.
const progressInterval = 2 * time.Second

// progressReader tells how far a long read is, and ends it with its context.
type progressReader struct {
	ctx  context.Context
	r    io.Reader
	log  *slog.Logger
	what string
	n    int64
	next time.Time
}

// Read implements io.Reader.
func (p *progressReader) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	p.n += int64(n)
	if now := time.Now(); now.After(p.next) {
		p.log.Info(p.what, "mebibytes", p.n>>20)
		p.next = now.Add(progressInterval)
	}
	return n, err
}
