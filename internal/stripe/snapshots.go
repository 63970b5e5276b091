package stripe

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
)

// snapshots is raft's store of snapshot files, but for two things: it shows raft
// only what may be used, and it is quick to give up.
type snapshots struct {
	raft.SnapshotStore
	dir  string
	logs raft.LogStore
	sync func() error    // syncs the log, where it is not; nil for a backup
	stop <-chan struct{} // closed when the stripe closes

	starting context.Context // ends when the start is given up
	fsm      *fsm            // nil for a backup, which has a sum of its own
	held     *hold           // nil where there is one server
	sends    func() bool     // this server is the active one: what it opens is sent to another
}

// openSnapshots removes what crashes left half written: raft never does.
func openSnapshots(s *Stripe) (snapshots, error) {
	left, _ := filepath.Glob(filepath.Join(s.cfg.Dir, snapFolder, "*.tmp"))
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return snapshots{}, err
		}
	}
	const all = math.MaxInt // see reap
	files, err := raft.NewFileSnapshotStoreWithLogger(s.cfg.Dir, all, hclogTo(s.log))
	return snapshots{files, filepath.Join(s.cfg.Dir, snapFolder), s.journal, s.journal.Flush, s.stop, s.fsm.starting, s.fsm, nil, s.leading.Load}, err
}

// Open implements raft.SnapshotStore. Raft's own first reads the whole file to
// verify its sum, and nothing interrupts that: where the start is given up it is
// left behind, reading.
func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if s.held != nil && (s.sends() || s.fsm.received(id) != nil) {
		return s.openUnread(id)
	}
	type opened struct {
		meta *raft.SnapshotMeta
		r    io.ReadCloser
		err  error
	}
	done := make(chan opened)
	go func() {
		meta, r, err := s.SnapshotStore.Open(id)
		select {
		case done <- opened{meta, r, err}:
		case <-s.starting.Done():
			if err == nil {
				r.Close()
			}
		}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, nil, o.err
		}
		if s.held != nil {
			return o.meta, heldReader{described{o.r, o.meta}, s.held.begin(o.meta.Index)}, nil
		}
		return o.meta, described{o.r, o.meta}, nil
	case <-s.starting.Done():
		return nil, nil, s.starting.Err()
	}
}

// openUnread opens a snapshot without reading it first: who gets it verifies it, or this
// server did when it got it.
func (s snapshots) openUnread(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	list, err := s.SnapshotStore.List()
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(list, func(m *raft.SnapshotMeta) bool { return m.ID == id })
	if i < 0 {
		return nil, nil, errNoSnapshot
	}
	f, err := os.Open(filepath.Join(s.dir, id, stateFile))
	if err != nil {
		return nil, nil, err
	}
	var r io.ReadCloser = f
	if s.sends() { // what is restored here Restore paces
		r = newPacedReader(f, s.stop, s.fsm.busy)
	}
	return list[i], heldReader{described{r, list[i]}, s.held.begin(list[i].Index)}, nil
}

// described is an open snapshot that can tell what it is: raft's Restore does not.
type described struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

// descriptionOf finds it within raft's wrappers.
func descriptionOf(r io.ReadCloser) *raft.SnapshotMeta {
	for {
		if d, ok := r.(described); ok {
			return d.meta
		}
		w, ok := r.(interface{ WrappedReadCloser() io.ReadCloser })
		if !ok {
			return nil
		}
		r = w.WrappedReadCloser()
	}
}

// List implements raft.SnapshotStore. It leaves out older snapshots from which
// the log does not go on: they would silently lose what was acknowledged, so
// raft must rather fail on the newest.
func (s snapshots) List() ([]*raft.SnapshotMeta, error) {
	list, err := s.SnapshotStore.List()
	if err != nil || len(list) == 0 {
		return list, err
	}
	first, err := s.logs.FirstIndex()
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if err := checkDescription(filepath.Join(s.dir, m.ID)); err != nil {
			return nil, fmt.Errorf("snapshot %q: %w", m.ID, err)
		}
	}
	newest := list[0]
	return slices.DeleteFunc(list, func(m *raft.SnapshotMeta) bool {
		return m != newest && (first == 0 || m.Index+1 < first)
	}), nil
}

// Create implements raft.SnapshotStore.
func (s snapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, cIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, c, cIndex, t)
	if err != nil {
		s.discard(fmt.Sprintf("%d-%d-*", term, index)) // raft leaves the folder, and its name begins so
		return nil, err
	}
	steady := openSteady(filepath.Join(s.dir, sink.ID()+".tmp", stateFile)) // raft's names
	if s.fsm == nil {
		return snapshotSink{sink, s, steady}, nil
	}
	return &received{SnapshotSink: snapshotSink{sink, s, steady}, f: s.fsm}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	in     snapshots
	steady *steady
}

// Write implements raft.SnapshotSink.
func (s snapshotSink) Write(b []byte) (int, error) {
	n, err := s.SnapshotSink.Write(b)
	s.steady.wrote(n)
	return n, err
}

// Close implements raft.SnapshotSink. When it returns nil the snapshot outlives
// a crash of the machine, and the log may be cut short. The log reaches up to
// the snapshot at least: raft cannot go on from one that ends before.
func (s snapshotSink) Close() error {
	s.steady.close()
	if s.in.sync != nil {
		if err := s.in.sync(); err != nil {
			return errors.Join(err, s.Cancel())
		}
	}
	if err := s.SnapshotSink.Close(); err != nil {
		s.in.discard(s.ID())
		return err
	}
	dir := filepath.Join(s.in.dir, s.ID())
	b, err := os.ReadFile(filepath.Join(dir, descriptionFile))
	if err != nil {
		return err
	}
	// This also syncs the folder: raft syncs the files, and not that they are there.
	if err := writeAtomic(filepath.Join(dir, descriptionSum), fmt.Appendf(nil, "%08x\n", crc32.Checksum(b, castagnoli))); err != nil {
		return err
	}
	return s.in.reap(os.RemoveAll)
}

// reap removes all but the newest snapshots. Raft's own removes their files one by one: of one
// that a crash interrupts it leaves a folder that nobody can read, and that nobody
// removes. So each gets the name first that those have that are being written.
func (s snapshots) reap(remove func(dir string) error) error {
	list, err := s.SnapshotStore.List()
	if err != nil {
		return err
	}
	for _, old := range list[min(len(list), snapshotsKept):] {
		dir := filepath.Join(s.dir, old.ID)
		err := os.Rename(dir, dir+".tmp")
		if err == nil {
			err = remove(dir + ".tmp")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Raft's description of a snapshot has the checksum of the snapshot and none of
// its own; a flipped bit in it could skip entries or change who votes. So ours
// lies beside it. It is missing where a crash came between the two.
const (
	descriptionFile = "meta.json" // raft's
	stateFile       = "state.bin" // likewise
	descriptionSum  = "meta.sum"
)

// checkDescription verifies the description of the snapshot in dir.
func checkDescription(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, descriptionFile))
	if err != nil {
		return err
	}
	sum, err := os.ReadFile(filepath.Join(dir, descriptionSum))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && string(sum) != fmt.Sprintf("%08x\n", crc32.Checksum(b, castagnoli)) {
		err = errors.New("its description is damaged: the checksum does not match")
	}
	return err
}

// Cancel implements raft.SnapshotSink. Raft's own syncs all that was written
// before it removes it; a server that stops has no time for that, and the next
// start removes it.
func (s snapshotSink) Cancel() error {
	s.steady.close()
	select {
	case <-s.in.stop:
		return nil
	default:
		err := s.SnapshotSink.Cancel()
		s.in.discard(s.ID())
		return err
	}
}

// discard removes what there is of a snapshot that will not be one. Raft's own does so only
// where the disk takes all that was still to be written: on a full one it leaves the snapshot
// there, and the file open. So the file gives back its room first.
func (s snapshots) discard(id string) {
	left, _ := filepath.Glob(filepath.Join(s.dir, id+".tmp"))
	for _, dir := range left {
		_ = os.Truncate(filepath.Join(dir, stateFile), 0)
		_ = os.RemoveAll(dir) // else the next start removes it
	}
}
