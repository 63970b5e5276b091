package stripe

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// memorySnapshots is raft's store of snapshots of a server without a data root.
// Its own ones only cut the log short, and hold nothing. What another server is
// sent is made while it is sent, from a view of that moment. What another server
// sends is kept until it is restored.
type memorySnapshots struct {
	fsm  *fsm
	logs raft.LogStore
	held *hold

	mu       sync.Mutex
	received *spool // nil once it is restored
}

// liveSnapshot is the id of the one snapshot there always is.
const liveSnapshot = "live"

var errNoSnapshot = errors.New("there is no such snapshot")

// List implements raft.SnapshotStore.
func (m *memorySnapshots) List() ([]*raft.SnapshotMeta, error) {
	if m.fsm.applied.Load() == 0 {
		return nil, nil
	}
	return []*raft.SnapshotMeta{{ID: liveSnapshot}}, nil
}

// Create implements raft.SnapshotStore.
func (m *memorySnapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, cIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s := &spool{in: m, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term, Configuration: c, ConfigurationIndex: cIndex,
	}}
	return &received{SnapshotSink: s, f: m.fsm}, nil
}

// Open implements raft.SnapshotStore.
func (m *memorySnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id == liveSnapshot {
		return m.live()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.received
	if s == nil || s.meta.ID != id {
		return nil, nil, errNoSnapshot
	}
	m.received = nil
	meta := s.meta
	return &meta, described{s, &meta}, nil
}

// live opens a snapshot of this moment. Raft sends exactly as many bytes as its
// description says, so they are counted first.
func (m *memorySnapshots) live() (*raft.SnapshotMeta, io.ReadCloser, error) {
	v, at, err := m.fsm.viewNow()
	if err != nil {
		return nil, nil, err
	}
	release := m.held.begin(at.index)
	var entry raft.Log
	if err := m.logs.GetLog(at.index, &entry); err != nil {
		release()
		v.Release()
		return nil, nil, err
	}
	var size counter
	if _, err := v.WriteTo(&size); err != nil {
		release()
		v.Release()
		return nil, nil, err
	}
	head := snapshotHead(at.past, at.format)
	r, w := io.Pipe()
	go func() {
		_, err := w.Write(head)
		if err == nil {
			_, err = v.Drain(w)
		}
		w.CloseWithError(err)
		v.Release()
	}()
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: liveSnapshot, Index: at.index, Term: entry.Term,
		Configuration: at.config, ConfigurationIndex: at.configIndex, Size: int64(size) + int64(len(head)),
	}, heldReader{r, release}, nil
}

// counter counts what is written to it.
type counter int64

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// heldReader lets the log go when it is closed.
type heldReader struct {
	io.ReadCloser
	release func()
}

// Close implements io.Closer.
func (h heldReader) Close() error {
	defer h.release()
	return h.ReadCloser.Close()
}

// WrappedReadCloser is for descriptionOf.
func (h heldReader) WrappedReadCloser() io.ReadCloser { return h.ReadCloser }

const spoolPiece = 1 << 20

// spool is a snapshot that is received, and then read once: its memory is given
// back as it is read, while the machine that reads it grows.
type spool struct {
	in     *memorySnapshots
	meta   raft.SnapshotMeta
	pieces [][]byte
}

// Write implements raft.SnapshotSink.
func (s *spool) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := len(s.pieces)
		if n == 0 || len(s.pieces[n-1]) == cap(s.pieces[n-1]) {
			s.pieces = append(s.pieces, make([]byte, 0, spoolPiece))
			n++
		}
		last := s.pieces[n-1]
		k := min(len(rest), cap(last)-len(last))
		s.pieces[n-1] = append(last, rest[:k]...)
		rest = rest[k:]
	}
	s.meta.Size += int64(len(b))
	return len(b), nil
}

// ID implements raft.SnapshotSink.
func (s *spool) ID() string { return s.meta.ID }

// Cancel implements raft.SnapshotSink.
func (s *spool) Cancel() error {
	s.pieces = nil
	return nil
}

// Close implements raft.SnapshotSink, and later io.Closer for who reads it.
func (s *spool) Close() error {
	if s.meta.Size > 0 && s.pieces != nil {
		s.in.mu.Lock()
		defer s.in.mu.Unlock()
		s.in.received = s
	}
	return nil
}

// Read implements io.Reader.
func (s *spool) Read(b []byte) (int, error) {
	if len(s.pieces) == 0 {
		s.pieces = nil
		return 0, io.EOF
	}
	n := copy(b, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces[0] = nil
		s.pieces = s.pieces[1:]
	}
	return n, nil
}
