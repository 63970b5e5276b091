package stripe

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// gauge counts the log's syncs, and can hold them back as a slow disk does.
type gauge struct {
	types.VFS
	syncs atomic.Int64
	gate  sync.RWMutex // write-locked: the disk does not answer
}

func (g *gauge) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := g.VFS.Create(dir, name, size)
	return gaugeFile{f, g}, err
}

type gaugeFile struct {
	types.WritableFile
	g *gauge
}

func (f gaugeFile) Sync() error {
	f.g.gate.RLock()
	defer f.g.gate.RUnlock()
	f.g.syncs.Add(1)
	return f.WritableFile.Sync()
}

// Every write: each batch is synced before its acknowledgement, and once.
func TestEveryWriteSyncsEachBatchOnce(t *testing.T) {
	g := &gauge{VFS: fs.New()}
	s, _ := start(t, Config{Dir: t.TempDir()}, parts{files: raftlog.Files{VFS: g}})
	form(t, s)
	for i := range 20 { // one after the other: each is a batch
		before := g.syncs.Load()
		must(t, s, fmt.Sprint(i))
		if n := g.syncs.Load() - before; n != 1 {
			t.Fatalf("%d syncs before the acknowledgement of write %d", n, i)
		}
	}
	before := g.syncs.Load()
	g.gate.Lock()
	var wait sync.WaitGroup
	for i := range 201 {
		wait.Add(1)
		s.Propose([]byte(fmt.Sprint(i)), func(_ wire.Outcome, err error) {
			if err != nil {
				t.Error(err)
			}
			wait.Done()
		})
	}
	g.gate.Unlock()
	wait.Wait()
	if n := g.syncs.Load() - before; n > 3 {
		t.Errorf("%d syncs for 201 writes that waited together", n)
	}
}

// Every second: no write waits for a sync, and within about a second there is one.
func TestEverySecondSyncsLater(t *testing.T) {
	t.Parallel()
	g := &gauge{VFS: fs.New()}
	s, _ := start(t, Config{Dir: t.TempDir(), Durability: EverySecond}, parts{files: raftlog.Files{VFS: g}})
	form(t, s)
	g.gate.Lock() // no sync ends
	for i := range 100 {
		must(t, s, fmt.Sprint(i))
	}
	g.gate.Unlock()
	before := g.syncs.Load()
	must(t, s, "dirty")
	eventually(t, "what was written is synced", func() bool { return g.syncs.Load() > before })
}

// A disk that does not answer holds up writes, and no read.
func TestReadsGoOnWithASlowDisk(t *testing.T) {
	g := &gauge{VFS: fs.New()}
	s, _ := start(t, Config{Dir: t.TempDir()}, parts{files: raftlog.Files{VFS: g}})
	form(t, s)
	g.gate.Lock()
	written := make(chan error, 1)
	go func() { _, err := do(s, "slow"); written <- err }()
	eventually(t, "the write is under way", func() bool { return !s.queue.idle() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Confirm(ctx); err != nil || s.Now() == 0 {
		t.Errorf("a read beside a slow write: %v", err)
	}
	select {
	case err := <-written:
		t.Errorf("acknowledged before the disk answered: %v", err)
	default:
	}
	g.gate.Unlock()
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// The next batch is on its way to the disk as soon as the one before it is agreed,
// while that is applied and answered.
func TestTheNextBatchDoesNotWaitForTheAnswers(t *testing.T) {
	g := &gauge{VFS: fs.New()}
	s, l := start(t, Config{Dir: t.TempDir()}, parts{files: raftlog.Files{VFS: g}})
	form(t, s)
	g.gate.Lock()
	var answered sync.WaitGroup
	answered.Add(2)
	applying, release := make(chan struct{}), make(chan struct{})
	s.Propose([]byte("one"), func(wire.Outcome, error) { close(applying); <-release; answered.Done() })
	eventually(t, "the first is on its way", func() bool { return !s.queue.idle() })
	s.Propose([]byte("two"), func(wire.Outcome, error) { answered.Done() })
	before := g.syncs.Load()
	g.gate.Unlock()
	<-applying
	eventually(t, "the second is on the disk", func() bool { return g.syncs.Load() >= before+2 })
	if got := l.list(); len(got) != 1 {
		t.Errorf("applied %q", got)
	}
	close(release)
	answered.Wait()
}

// A late sync that failed may have dropped what was acknowledged before: once the
// disk is well again, a snapshot makes good for it.
func TestASnapshotFollowsALateSyncThatFailed(t *testing.T) {
	t.Parallel()
	dir, disk := t.TempDir(), new(illDisk)
	s, _ := start(t, Config{Dir: dir, Durability: EverySecond}, parts{files: disk.files()})
	form(t, s)
	must(t, s, "before")
	disk.fall(syscall.EIO)
	eventually(t, "the disk is known to be ill", func() bool { do(s, "x"); return s.Status().DiskError != "" })
	disk.heal()
	eventually(t, "there is a snapshot", func() bool {
		list, _ := filepath.Glob(filepath.Join(dir, snapFolder, "*", descriptionSum))
		return len(list) > 0
	})
	eventually(t, "changes are taken again", func() bool { _, err := do(s, "after"); return err == nil })
}
