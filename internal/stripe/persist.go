package stripe

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// The first byte of a snapshot file. The store's own format follows, which has a
// version and checksums itself; with snapshotOfPair the pair's history stands before.
const (
	snapshotFormat = 1
	snapshotOfPair = 2
	snapshotAgreed = 3 // the stripe's format where it is later than 1 (uvarint), and the history, stand before
)

// snapshotHead is what stands before the store's snapshot.
func snapshotHead(past history, format int) []byte {
	if format > 1 {
		return appendHistory(binary.AppendUvarint([]byte{snapshotAgreed}, uint64(format)), past)
	}
	if len(past) == 0 {
		return []byte{snapshotFormat}
	}
	return appendHistory([]byte{snapshotOfPair}, past)
}

func readSnapshotHead(r *bufio.Reader) (past history, format int, err error) {
	kind, err := r.ReadByte()
	if err != nil {
		return nil, 0, fmt.Errorf("read snapshot: %w", err)
	}
	switch kind {
	case snapshotFormat:
		return nil, 1, nil
	case snapshotOfPair, snapshotAgreed:
		agreed := uint64(1)
		if kind == snapshotAgreed {
			if agreed, err = binary.ReadUvarint(r); err != nil || agreed > maxFormat {
				return nil, 0, fmt.Errorf("read the snapshot's format: %d, %w", agreed, errors.Join(err, errDamaged))
			}
		}
		if past, err = readHistory(r); err != nil {
			return nil, 0, fmt.Errorf("read the snapshot's incarnations: %w", err)
		}
		return past, int(agreed), nil
	}
	return nil, 0, fmt.Errorf("snapshot of format %d: %w", kind, errLater)
}

// readHead is readSnapshotHead, and an error where this software does not read the rest.
func (f *fsm) readHead(r *bufio.Reader) (past history, format int, err error) {
	past, format, err = readSnapshotHead(r)
	if err == nil {
		err = f.reads(format)
	}
	return past, format, err
}

// errUntold keeps the log: where this server went on alone can be read nowhere else.
var errUntold = errors.New("this server goes on alone, and its log does not say so yet")

// Snapshot implements raft.FSM. It is quick: the writing is Persist's.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if p := f.damage.Load(); p != nil {
		return nil, *p
	}
	s := &fsmSnapshot{f: f, bytes: f.bytes.Load()}
	if !f.memoryOnly {
		if f.untold != nil && f.untold() {
			return nil, errUntold
		}
		f.turn.Lock()
		defer f.turn.Unlock()
		s.view, s.past, s.format, s.deleted = f.m.Snapshot(), f.history(), f.format(), f.deleted
	}
	return s, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) (err error) {
	defer r.Close()
	defer func() {
		f.restoring = err
		if err != nil {
			f.damage.Store(&err) // the machine is empty now, and must not serve
		} else {
			f.damage.Store(nil)
		}
	}()
	source, meta := r, descriptionOf(r)
	if meta != nil {
		if a := f.received(meta.ID); a != nil && a.paced {
			source = newPacedReader(r, f.stop, func() bool { return true })
		}
	}
	in := &progressReader{ctx: f.starting, r: source, log: f.log, what: "restoring the snapshot", next: time.Now().Add(progressInterval)}
	buf := bufio.NewReaderSize(in, 256<<10)
	past, format, err := f.readHead(buf)
	if err != nil {
		return err
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	if err := f.m.Restore(buf); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	if meta != nil {
		f.applied.Store(meta.Index)
		f.term = meta.Term
		f.seat(meta.Configuration, meta.ConfigurationIndex)
	}
	f.setPast(past)
	f.settled, f.parted = fork{f.m.Index(), f.m.Now()}, nil
	f.agreed.Store(int64(format))
	f.time.Store(int64(f.m.Now()))
	f.bytes.Store(0)
	f.size.Store(in.n)
	return nil
}

// fsmSnapshot is a snapshot on its way to disk.
type fsmSnapshot struct {
	f       *fsm
	view    view      // nil with memoryOnly
	past    history   // when it was taken
	deleted deletions // likewise
	format  int       // likewise
	bytes   int64     // f.bytes when it was taken
}

// Persist implements raft.FSMSnapshot.
func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if r, ok := sink.(*received); ok {
		sink, r.own = r.SnapshotSink, true // raft closes r once more
	}
	if s.view != nil {
		if err := s.write(sink); err != nil {
			sink.Cancel()
			return err
		}
	}
	if s.f.dir != "" {
		// Before the log may be cut short. An older snapshot finds too many, which are
		// told apart by their index.
		if err := s.deleted.write(s.f.dir); err != nil {
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
	head := snapshotHead(s.past, s.format)
	if _, err := sink.Write(head); err != nil {
		return err
	}
	buf := bufio.NewWriterSize(newPacer(sink, s.f.stop, s.f.bytes.Load, s.f.m.Hurried), pieceBytes)
	n, err := s.view.Drain(buf)
	if err != nil {
		return err
	}
	s.f.size.Store(n + int64(len(head)))
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
