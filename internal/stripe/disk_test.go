package stripe

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// illDisk is a disk that fails every write while it is ill.
type illDisk struct {
	ill      atomic.Pointer[error]
	syncOnly atomic.Bool // what is written gets there whole, only nobody knows
}

func (f *illDisk) files() raftlog.Files { return raftlog.Files{}.Failing(f.fault) }

func (f *illDisk) fall(err error) { f.ill.Store(&err) }
func (f *illDisk) heal()          { f.ill.Store(nil) }
func (f *illDisk) err() error {
	if p := f.ill.Load(); p != nil {
		return *p
	}
	return nil
}

func (f *illDisk) fault(sync bool) error {
	if !sync && f.syncOnly.Load() {
		return nil
	}
	return f.err()
}

// A disk that cannot be written refuses changes, is said so, keeps reads going,
// and is taken into use again by itself; nothing acknowledged is lost.
func TestDiskFullRefusesWritesAndRecovers(t *testing.T) {
	dir, disk := t.TempDir(), new(illDisk)
	s, l := start(t, Config{Dir: dir}, parts{files: disk.files()})
	form(t, s)
	want := numbered("before", 50)
	for _, op := range want {
		must(t, s, op)
	}
	for round := range 2 {
		disk.syncOnly.Store(round == 1)
		disk.fall(syscall.ENOSPC)
		_, err := do(s, "while full")
		if !wire.Is(err, wire.ErrUnsure) && !wire.Is(err, wire.ErrReadOnly) {
			t.Fatalf("the write that met the full disk: %v", err)
		}
		eventually(t, "writes are refused as read-only", func() bool {
			_, err := do(s, "while full")
			return wire.Is(err, wire.ErrReadOnly) && strings.Contains(err.Error(), "full")
		})
		eventually(t, "raft has stepped down", func() bool { return !s.leading.Load() })
		if st := s.Status(); st.State != wire.StateActive || !strings.Contains(st.DiskError, dir) {
			t.Errorf("status with a full disk: %+v", st)
		}
		if err := s.Confirm(context.Background()); err != nil || s.Now() == 0 {
			t.Errorf("reads with a full disk: %v, now %d", err, s.Now())
		}
		disk.heal()
		op := fmt.Sprint("after ", round)
		eventually(t, "writes are taken again", func() bool { _, err := do(s, op); return err == nil })
		want = append(want, op)
		if st := s.Status(); st.DiskError != "" {
			t.Errorf("status with a disk that is well again: %+v", st)
		}
	}
	if got := l.list(); !slices.Equal(got, want) {
		t.Fatalf("applied %q", got)
	}
	s.Close()
	s, l = start(t, Config{Dir: dir}, parts{})
	form(t, s)
	if got := l.list(); !slices.Equal(got, want) {
		t.Fatalf("after the restart %q", got)
	}
}

// hangingDisk neither takes a write nor refuses it once it hangs, until it answers.
type hangingDisk struct{ answers atomic.Pointer[chan struct{}] } // closed when it does; nil while it does not hang

func (d *hangingDisk) files() raftlog.Files {
	return raftlog.Files{VFS: hasty{fs.New()}}.Failing(func(bool) error {
		if answers := d.answers.Load(); answers != nil {
			<-*answers
		}
		return nil
	})
}

func (d *hangingDisk) parts() parts { return parts{files: d.files(), stall: 50 * time.Millisecond} }

func (d *hangingDisk) hang() {
	answers := make(chan struct{})
	d.answers.Store(&answers)
}

func (d *hangingDisk) answer() {
	if answers := d.answers.Swap(nil); answers != nil {
		close(*answers)
	}
}

// A disk that neither takes a write nor refuses it keeps nobody waiting for long: who met it is told that
// nobody knows, who comes later is refused. What met it is made once it answers.
func TestADiskThatHangsRefusesChanges(t *testing.T) {
	t.Parallel()
	disk := new(hangingDisk)
	s, l := start(t, Config{Dir: t.TempDir()}, disk.parts())
	t.Cleanup(disk.answer)
	form(t, s)
	must(t, s, "before")
	disk.hang()
	first := disk.meets(t, s, "first")
	for range 3 { // the first of these waits behind it
		if _, err := do(s, "later"); !wire.Is(err, wire.ErrReadOnly) || !strings.Contains(err.Error(), "the disk does not answer") {
			t.Errorf("a change: %v", err)
		}
	}
	if err := <-first; !wire.Is(err, wire.ErrUnsure) || !strings.Contains(err.Error(), "the disk does not answer") {
		t.Errorf("the write that met the disk: %v", err)
	}
	if st := s.Status(); !strings.Contains(st.DiskError, "the disk does not answer") || st.State != wire.StateActive {
		t.Errorf("status: %+v", st)
	}
	if err := s.Confirm(t.Context()); err != nil {
		t.Errorf("reads: %v", err)
	}
	disk.answer()
	eventually(t, "writes are taken again", func() bool { _, err := do(s, "after"); return err == nil })
	if st := s.Status(); st.DiskError != "" {
		t.Errorf("status with a disk that answers again: %+v", st)
	}
	if got := l.list(); !slices.Equal(got, []string{"before", "first", "after"}) {
		t.Errorf("applied %q", got)
	}
}

// meets proposes op, and returns once it met the disk.
func (d *hangingDisk) meets(t *testing.T, s *Stripe, op string) <-chan error {
	t.Helper()
	fate := make(chan error, 1)
	go func() { _, err := do(s, op); fate <- err }()
	eventually(t, op+" meets the disk", func() bool { return s.journal.Writing() != 0 })
	return fate
}

// onHangingDisk returns a stripe of three whose active server, the first one, has its log on a disk that
// hangs when it is told to.
func onHangingDisk(t *testing.T, stall time.Duration) (*cluster, *hangingDisk) {
	t.Helper()
	c := newCluster(t, 3, Config{})
	c.form()
	disk := new(hangingDisk)
	t.Cleanup(disk.answer)
	usual := c.parts
	c.kill(0)
	c.settle()
	c.parts = disk.parts()
	c.parts.stall = stall
	c.start(0)
	c.parts = usual
	first := c.servers[0]
	eventually(t, "server 1 is the active one", func() bool {
		if a := c.settle(); a != 0 {
			c.servers[a].raft.LeadershipTransferToServer(raft.ServerID(first.id), raftAddress(serverName(0), first.id)).Error()
		}
		return c.active() == 0
	})
	c.do("a")
	return c, disk
}

// Where others can elect another server, one whose disk hangs does not keep them from it.
func TestAnActiveServerWhoseDiskHangsIsReplaced(t *testing.T) {
	t.Parallel()
	c, disk := onHangingDisk(t, 50*time.Millisecond)
	hung := c.servers[0]
	disk.hang()
	first := disk.meets(t, hung, "first")
	eventually(t, "another one is active", func() bool { return c.active() > 0 })
	if err := <-first; !wire.Is(err, wire.ErrUnsure) {
		t.Errorf("the write that met the disk, while that hangs: %v", err)
	}
	if _, err := do(hung, "later"); !wire.Is(err, wire.ErrNotActive) {
		t.Errorf("a change on the server whose disk hangs: %v", err)
	}
	if err := hung.Confirm(t.Context()); !wire.Is(err, wire.ErrNotActive) {
		t.Errorf("a read there: %v", err)
	}
	c.do("b")
	disk.answer()
	c.settle()
	c.do("c")
	c.equal("a", "b", "c")
	if st := hung.Status(); st.DiskError != "" {
		t.Errorf("status with a disk that answers again: %+v", st)
	}
}

// The others may have elected another server before it is noticed that the disk hangs: because it was cut
// off then, or their machine was busy. Raft does not find out while it waits for the disk.
func TestAServerWhoseDiskHangsLearnsThatItWasReplaced(t *testing.T) {
	t.Parallel()
	c, disk := onHangingDisk(t, 500*time.Millisecond)
	hung := c.servers[0]
	disk.hang()
	disk.meets(t, hung, "first")
	c.isolate(0, true)
	eventually(t, "another one is active", func() bool { return c.active() > 0 })
	c.isolate(0, false)
	eventually(t, "it knows that it is not", func() bool {
		_, err := do(hung, "later")
		return wire.Is(err, wire.ErrNotActive)
	})
	c.do("b")
	disk.answer()
	c.settle()
	c.equal("a", "b")
}

// One without which there is no majority serves on, as far as it can.
func TestAServerWhoseDiskHangsServesWhereItIsNeeded(t *testing.T) {
	t.Parallel()
	mono := time.Hour
	c := newContact("a", func() time.Duration { return mono })
	c.begin(7, raft.Configuration{Servers: []raft.Server{{ID: "a"}, {ID: "b"}, {ID: "c"}}})
	for _, step := range []struct {
		by     []raft.ServerID // who confirms it now
		needed bool
	}{
		{nil, false}, // nobody ever did
		{[]raft.ServerID{"b"}, true},
		{[]raft.ServerID{"b", "c"}, false},
		{[]raft.ServerID{"c"}, true}, // b is gone
		{nil, false},
	} {
		mono += time.Minute
		for _, id := range step.by {
			c.confirm(id, 7, mono, 0)
		}
		if got := c.needed(time.Second); got != step.needed {
			t.Errorf("confirmed by %q: needed %v", step.by, got)
		}
	}
	c.end()
	if c.needed(time.Hour) {
		t.Error("it is needed after its reign")
	}
}

func TestCloseWithAFullDiskIsQuick(t *testing.T) {
	disk := new(illDisk)
	s, _ := start(t, Config{Dir: t.TempDir()}, parts{files: disk.files()})
	form(t, s)
	must(t, s, "a")
	disk.fall(syscall.EROFS)
	do(s, "b")
	eventually(t, "raft has stepped down", func() bool { return !s.leading.Load() })
	begin := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("close took %v", d)
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, d := range []Durability{EveryWrite, EverySecond, MemoryOnly} {
		cfg := Config{Durability: d}
		if d != MemoryOnly {
			cfg.Dir = t.TempDir()
		}
		s, _ := start(t, cfg, parts{})
		form(t, s)
		must(t, s, "a")
		s.sole.Store(false)
		if err := s.Confirm(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	var stacks []byte
	if !within(time.Minute, func() bool { return runtime.NumGoroutine() <= before }) {
		stacks = make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks)
	}
}

// endless is a machine whose snapshots take for ever to write.
type endless struct {
	ledger
	writing chan struct{} // is told when a snapshot is being written
}

func (e *endless) Snapshot() view { return endlessView{e.writing} }

type endlessView struct{ writing chan struct{} }

func (v endlessView) WriteTo(w io.Writer) (n int64, err error) {
	v.writing <- struct{}{}
	for block := make([]byte, 64<<10); err == nil; n += int64(len(block)) {
		_, err = w.Write(block)
	}
	return n, err
}

func (v endlessView) Drain(w io.Writer) (int64, error) { return v.WriteTo(w) }

func (endlessView) Release() {}

// A server that stops does not finish a snapshot, and the next start removes
// what is left of it.
func TestCloseDuringASnapshotIsQuick(t *testing.T) {
	dir := t.TempDir()
	e := &endless{writing: make(chan struct{}, 1)}
	s := startOn(t, Config{Dir: dir}, parts{}, e)
	form(t, s)
	must(t, s, "a")
	ended := make(chan error, 1)
	go func() { ended <- s.snapshot() }()
	<-e.writing
	begin := time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("close took %v", d)
	}
	if err := <-ended; err == nil {
		t.Error("an endless snapshot ended well")
	}
	if got, err := opened(t, dir); err != nil || !slices.Equal(got, []string{"a", "one more"}) {
		t.Fatalf("after the restart %q, %v", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, snapFolder, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A term that cannot be written at the start is the disk's fault, and nobody is
// told to throw the data away.
func TestFullDiskAtTheStartIsNotCalledDamage(t *testing.T) {
	dir := t.TempDir()
	full := func() types.MetaStore { return fullMeta{&metadb.BoltMetaDB{}} }
	j, err := raftlog.Open(raftlog.Options{Files: raftlog.Files{Dir: dir, Meta: full, SyncDir: syncDir}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	timers := Timers{Heartbeat: soleHeartbeat, Election: soleHeartbeat, Lease: soleHeartbeat}
	s := &Stripe{cfg: Config{Dir: dir, Timers: timers}, log: testLog(t), id: "x", fsm: &fsm{}, journal: j}
	err = s.startRaft(storage{j, j, raft.NewDiscardSnapshotStore()}, parts{trailing: 1})
	refusedWith(t, err, "is full", "enlarge the volume")
	if strings.Contains(err.Error(), "move it away") {
		t.Errorf("bad advice: %v", err)
	}
}

// fullMeta is a list of the log's files on a disk that has no room for a term.
type fullMeta struct{ types.MetaStore }

func (fullMeta) SetStable(_, _ []byte) error { return syscall.ENOSPC }

// A data root that is taken away refuses changes, and serves again when it is back.
func TestVanishedDataRoot(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "stripe")
	s, _ := start(t, Config{Dir: dir}, parts{})
	form(t, s)
	must(t, s, "before")
	gone := func() {
		t.Helper()
		eventually(t, "changes are refused", func() bool { _, err := do(s, "x"); return wire.Is(err, wire.ErrReadOnly) })
		if st := s.Status(); !strings.Contains(st.DiskError, "the folder is gone") || st.State != wire.StateActive {
			t.Errorf("status: %+v", st)
		}
		if err := s.Confirm(t.Context()); err != nil {
			t.Errorf("reads: %v", err)
		}
	}
	for _, folder := range []string{dir, filepath.Join(dir, walFolder)} { // the second without the rest
		if err := os.Rename(folder, folder+".away"); err != nil {
			t.Fatal(err)
		}
		gone()
		if err := os.Rename(folder+".away", folder); err != nil {
			t.Fatal(err)
		}
		eventually(t, "writes are taken again", func() bool { _, err := do(s, "after"); return err == nil })
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	gone()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// So does a single file of the log: what is open can be written, and is gone with the process.
func TestAVanishedLogFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{files: raftlog.Files{VFS: hasty{fs.New()}, Size: 4 << 10}})
	form(t, s)
	for _, op := range numbered("op", 100) {
		must(t, s, op)
	}
	list, err := filepath.Glob(filepath.Join(dir, walFolder, "*"))
	if err != nil || len(list) < 3 {
		t.Fatalf("files %q, %v", list, err)
	}
	for _, file := range []string{list[0], list[len(list)-2], list[len(list)-1]} { // sealed, the newest, and the index
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "changes are refused", func() bool { _, err := do(s, "x"); return wire.Is(err, wire.ErrReadOnly) })
		if st := s.Status(); !strings.Contains(st.DiskError, filepath.Base(file)) || !strings.Contains(st.DiskError, "make a backup") {
			t.Errorf("status: %+v", st)
		}
		if err := s.Confirm(t.Context()); err != nil {
			t.Errorf("reads: %v", err)
		}
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
		eventually(t, "writes are taken again", func() bool { _, err := do(s, "after"); return err == nil })
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Where others can serve, a server whose data root is gone does not keep them from it: nothing that it
// refuses would tell raft of its disk.
func TestAnActiveServerWhoseDataRootIsGoneIsReplaced(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]func(dir string) string{
		"the folder": func(dir string) string { return dir },
		"the log":    func(dir string) string { return filepath.Join(dir, walFolder) },
		"a file":     func(dir string) string { return onlyFile(t, dir, walFolder, "*.wal") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, Config{})
			c.form()
			c.do("a")
			a := c.settle()
			lost := gone(c.servers[a].cfg.Dir)
			if err := os.Rename(lost, lost+".away"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "another one is active", func() bool { b := c.active(); return b >= 0 && b != a })
			c.do("b")
			if err := os.Rename(lost+".away", lost); err != nil {
				t.Fatal(err)
			}
			c.equal("a", "b")
		})
	}
}
