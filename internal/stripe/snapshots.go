package stripe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// snapshots is raft's store of snapshot files, but for two things: it shows raft
// only what may be used, and it is quick to give up.
type snapshots struct {
	raft.SnapshotStore
	dir  string
	logs raft.LogStore
	disk *lazyFS         // nil but with EverySecond
	stop <-chan struct{} // closed when the stripe closes
}

// openSnapshots removes what crashes left half written: raft never does.
func openSnapshots(s *Stripe) (snapshots, error) {
	left, _ := filepath.Glob(filepath.Join(s.cfg.Dir, snapFolder, "*.tmp"))
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return snapshots{}, err
		}
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(s.cfg.Dir, snapshotsKept, hclogTo(s.log))
	return snapshots{files, filepath.Join(s.cfg.Dir, snapFolder), s.journal, s.disk, s.stop}, err
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
		if want := fmt.Sprintf("%d-%d-", m.Term, m.Index); !strings.HasPrefix(m.ID, want) {
			return nil, fmt.Errorf("the description of snapshot %q is damaged: it names term %d and entry %d", m.ID, m.Term, m.Index)
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
		return nil, err
	}
	return snapshotSink{sink, s}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	in snapshots
}

// Close implements raft.SnapshotSink. When it returns nil the snapshot outlives
// a crash of the machine, and the log may be cut short. The log reaches up to
// the snapshot at least: raft cannot go on from one that ends before.
func (s snapshotSink) Close() error {
	if s.in.disk != nil {
		if err := s.in.disk.flush(); err != nil {
			return errors.Join(err, s.Cancel())
		}
	}
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Join(s.in.dir, s.ID())) // raft syncs the files, and not that they are there
}

// Cancel implements raft.SnapshotSink. Raft's own syncs all that was written
// before it removes it; a server that stops has no time for that, and the next
// start removes it.
func (s snapshotSink) Cancel() error {
	select {
	case <-s.in.stop:
		return nil
	default:
		return s.SnapshotSink.Cancel()
	}
}
