package stripe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
)

// written makes a data root with n operations in it and returns them.
func written(t *testing.T, n int, snapshotAt ...int) (dir string, ops []string) {
	t.Helper()
	dir = t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{files: raftlog.Files{VFS: hasty{fs.New()}}})
	form(t, s)
	ops = numbered("op", n)
	for i, op := range ops {
		must(t, s, op)
		if slices.Contains(snapshotAt, i) {
			if err := s.snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, ops
}

// hasty is a file system without syncs, for tests in which nothing crashes.
type hasty struct{ types.VFS }

func (h hasty) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := h.VFS.Create(dir, name, size)
	return hastyFile{f}, err
}

func (h hasty) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := h.VFS.OpenWriter(dir, name)
	return hastyFile{f}, err
}

type hastyFile struct{ types.WritableFile }

func (hastyFile) Sync() error { return nil }

func onlyFile(t *testing.T, pattern ...string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(pattern...))
	if err != nil || len(list) == 0 {
		t.Fatalf("no file %q: %v", pattern, err)
	}
	return list[len(list)-1]
}

// change rewrites what stands at the beginning of a file: log files are large
// and mostly empty.
func change(t *testing.T, path string, f func(b []byte) []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := beginning(t, path)
	size := int64(len(b))
	b = f(b)
	if _, err := file.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if n := int64(len(b)); n != size {
		file.Truncate(n)
	}
}

func beginning(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, 256<<10))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// opened opens the data root and returns the operations in it, or the error.
func opened(t *testing.T, dir string) ([]string, error) {
	t.Helper()
	l := &ledger{}
	s, err := open(Config{Dir: dir, Durability: EveryWrite, Logger: testLog(t)}, l, parts{})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	form(t, s)
	must(t, s, "one more")
	return l.list(), nil
}

// The head of a file of the log, and the unit that the rest of it consists of.
const logHead, frame = 32, 8

// used returns how far a file of the log is written.
func used(b []byte) int {
	return (len(bytes.TrimRight(b, "\x00")) + frame - 1) / frame * frame
}

func refusedWith(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("it was opened")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

// Damage before the end of what was acknowledged is refused, wherever it is.
func TestDamagedLogIsRefused(t *testing.T) {
	t.Parallel()
	dir, ops := written(t, 20)
	file := onlyFile(t, dir, walFolder, "*.wal")
	good := beginning(t, file)
	end := used(good)
	last := end - 200 // well inside the last but one commit
	for off := logHead; off < last; off += 131 {
		change(t, file, func(b []byte) []byte { b[off] ^= 4; return b })
		got, err := opened(t, dir)
		switch {
		case err != nil:
			refusedWith(t, err, "in data root", dir, "cannot be used: ", "restore", "move it away")
		case !slices.Equal(got, append(ops, "one more")): // a bit without a meaning may flip
			t.Fatalf("a flipped bit at byte %d of %d was not noticed: %d operations", off, end, len(got))
		}
		change(t, file, func([]byte) []byte { return good })
	}
}

// writtenInFiles is written, with many files of the log.
func writtenInFiles(t *testing.T, n int) (dir string, ops []string) {
	t.Helper()
	dir = t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{files: raftlog.Files{VFS: hasty{fs.New()}, Size: 4 << 10}})
	form(t, s)
	ops = numbered("op", n)
	for _, op := range ops {
		must(t, s, op)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, ops
}

// A flipped bit in the head of an entry makes it one of another kind, or number, and no checksum of
// ours is over that. All files are meant: raft-wal verifies the last one at most.
func TestADamagedHeadOfAnEntryIsRefused(t *testing.T) {
	t.Parallel()
	dir, ops := writtenInFiles(t, 60)
	file := onlyFile(t, dir, walFolder, "00000000000000000001-*.wal")
	good := beginning(t, file)
	at := bytes.Index(good, []byte(ops[20])) // in an entry well inside the file
	refused := 0
	for off := at - 40; off < at; off++ {
		for _, bit := range []int{0, 2} {
			change(t, file, func(b []byte) []byte { b[off] ^= 1 << bit; return b })
			got, err := opened(t, dir)
			if ops = append(ops, "one more"); err != nil {
				refused++
				ops = ops[:len(ops)-1]
			} else if !slices.Equal(got, ops) { // a bit without a meaning may flip
				t.Fatalf("bit %d of byte %d (%x) flipped: a start with %d of %d operations", bit, off, good[off], len(got), len(ops))
			}
			change(t, file, func([]byte) []byte { return good })
		}
	}
	if refused < 60 {
		t.Errorf("%d of 80 starts were refused", refused)
	}
}

// A file that was copied to a disk without room, say, ends too early. Its end is not that of a
// write that a crash cut off. Without the newest file what was acknowledged last is lost.
func TestALogFileThatIsCutShortIsRefused(t *testing.T) {
	t.Parallel()
	dir, ops := writtenInFiles(t, 90)
	file := onlyFile(t, dir, walFolder, "*.wal")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := func(size int64) {
		if err := os.Truncate(file, size); err != nil {
			t.Fatal(err)
		}
	}
	good := beginning(t, file)
	end := int64(used(good))
	for _, size := range []int64{info.Size() - 1, end, end - 1, end / 2, 0} {
		cut(size)
		if c := checked(t, dir); !hasLine(c.Faults, "cut short") {
			t.Errorf("%d of %d bytes: check says %+v", size, info.Size(), c)
		}
		_, err := opened(t, dir)
		refusedWith(t, err, dir, filepath.Base(file), "cut short", "restore")
		change(t, file, func([]byte) []byte { return good })
	}
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	if c := checked(t, dir); !hasLine(c.Faults, "is gone") {
		t.Errorf("the file is gone: check says %+v", c)
	}
	_, err = opened(t, dir)
	refusedWith(t, err, dir, filepath.Base(file), "is gone", "restore")
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	if got, err := opened(t, dir); err != nil || !slices.Equal(got, append(ops, "one more")) {
		t.Errorf("whole again: %d operations, %v", len(got), err)
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 700, 600)
	change(t, onlyFile(t, dir, snapFolder, "*", "state.bin"), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	_, err := opened(t, dir)
	refusedWith(t, err, dir, "snapshot", "restore")
}

// An older snapshot that the log does not go on from must not be used in silence.
func TestNoGapBetweenSnapshotAndLog(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 1200, 100, 1100)
	list, _ := filepath.Glob(filepath.Join(dir, snapFolder, "*", "state.bin"))
	if len(list) != 2 {
		t.Fatalf("snapshots: %v", list)
	}
	change(t, list[1], func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	_, err := opened(t, dir)
	refusedWith(t, err, dir, "restore")
}

// What is gone or another server's is refused with words for it, and the same ones by check. In a cluster of
// one server nobody else would miss what was acknowledged.
func TestALogThatIsGoneIsRefused(t *testing.T) {
	t.Parallel()
	foreign, _ := written(t, 900)
	remove := func(names ...string) func(dir string) error {
		return func(dir string) (err error) {
			for _, name := range names {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
			}
			return err
		}
	}
	for name, c := range map[string]struct {
		harm  func(dir string) error
		words string
	}{
		"the log's folder":            {remove(walFolder), "the log in data root"},
		"the log's folder, stripe id": {remove(walFolder, stripeFile), "may have been in it"},
		"log and snapshots":           {remove(walFolder, snapFolder), "may have been in it"},
		"the snapshots":               {remove(snapFolder), "entries 1 to "},
		"another server's log": {func(dir string) error {
			return errors.Join(remove(walFolder)(dir), os.CopyFS(filepath.Join(dir, walFolder), os.DirFS(filepath.Join(foreign, walFolder))))
		}, "is that of server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := written(t, 1200, 100, 1100)
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			for range 2 { // a start that was refused leaves nothing that the next one takes for a log
				if faults := checked(t, dir).Faults; len(faults) == 0 {
					t.Error("check finds nothing")
				}
				_, err := opened(t, dir)
				refusedWith(t, err, dir, c.words, "restore")
			}
		})
	}
}

// A log of a version that did not note whose it is gets the note.
func TestALogOfAnOlderVersionIsOwned(t *testing.T) {
	t.Parallel()
	dir, ops := written(t, 20)
	wal := filepath.Join(dir, walFolder)
	j, err := raftlog.Open(raftlog.Options{Files: raftlog.Files{Dir: wal, SyncDir: syncDir}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Set([]byte("terracotta-owner"), nil), j.Close()); err != nil {
		t.Fatal(err)
	}
	if c := checked(t, dir); len(c.Faults) > 0 {
		t.Errorf("faults: %q", c.Faults)
	}
	if got, err := opened(t, dir); err != nil || !slices.Equal(got, append(ops, "one more")) {
		t.Fatalf("%d operations, %v", len(got), err)
	}
	if l, err := raftlog.Check(t.Context(), wal, false, func(*raft.Log) error { return nil }); err != nil || l.Owner == "" {
		t.Errorf("owner %q, %v", l.Owner, err)
	}
}

// A crash in the midst of the removal of an old snapshot leaves nothing that is taken for
// damage, and nothing behind once the server has started.
func TestCrashWhileASnapshotIsRemoved(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 50, 20, 40) // two digits each: their names sort
	all := func() []string {
		list, _ := filepath.Glob(filepath.Join(dir, snapFolder, "*"))
		return list
	}
	run := func() {
		s, _ := start(t, Config{Dir: dir}, parts{})
		form(t, s)
		must(t, s, "more")
		if err := s.snapshot(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if len(all()) != snapshotsKept {
			t.Fatalf("snapshots: %q", all())
		}
	}
	oldest, again := all()[0], t.TempDir()
	if err := os.CopyFS(again, os.DirFS(oldest)); err != nil {
		t.Fatal(err)
	}
	run()
	if err := os.CopyFS(oldest, os.DirFS(again)); err != nil {
		t.Fatal(err)
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, math.MaxInt, hclogTo(testLog(t)))
	if err != nil {
		t.Fatal(err)
	}
	killed := errors.New("killed")
	in := snapshots{SnapshotStore: files, dir: filepath.Join(dir, snapFolder)}
	if err := in.reap(func(dir string) error { return errors.Join(killed, os.Remove(filepath.Join(dir, descriptionFile))) }); !errors.Is(err, killed) {
		t.Fatal(err)
	}
	if c := checked(t, dir); len(c.Faults) > 0 || !hasLine(c.Mended, "or removed") {
		t.Errorf("%+v", c)
	}
	run()
}

func TestLaterFormatsAreRefused(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 5)
	change(t, filepath.Join(dir, identityFile), func(b []byte) []byte {
		return []byte(strings.Replace(string(b), `"format": 1`, `"format": 2, "new": true`, 1))
	})
	_, err := opened(t, dir)
	refusedWith(t, err, dir, "has format 2, and this version reads up to 1", "newer version")

	dir, _ = written(t, 600, 550)
	snap := onlyFile(t, dir, snapFolder, "*")
	m := &fsm{m: &ledger{}, log: testLog(t), starting: t.Context()}
	if err := m.Restore(io.NopCloser(strings.NewReader("\x04rest"))); err == nil || !strings.Contains(err.Error(), "later version") {
		t.Errorf("snapshot %s of format 4: %v", snap, err)
	}
}

func TestDamagedIdentityIsRefused(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"empty": "", "not json": "server", "no id": `{"format": 1}`, "short id": `{"format": 1, "server-id": "abc"}`,
		"unknown field": `{"format": 1, "server-id": "00000000000000000000000000000001", "x": 1}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := written(t, 1)
			change(t, filepath.Join(dir, identityFile), func([]byte) []byte { return []byte(content) })
			_, err := opened(t, dir)
			refusedWith(t, err, identityFile, "is damaged (", "backup")
		})
	}
	dir, _ := written(t, 1)
	os.Remove(filepath.Join(dir, identityFile))
	_, err := opened(t, dir)
	refusedWith(t, err, "has state but no "+identityFile, "backup", "move the folder away")
}

func TestDamagedIndexOfTheLogIsRefused(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 5)
	change(t, filepath.Join(dir, walFolder, "wal-meta.db"), func(b []byte) []byte { clear(b[:8192]); return b })
	_, err := opened(t, dir)
	refusedWith(t, err, dir, "restore")
}

func TestASecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{})
	_, err := open(Config{Dir: dir, Durability: EveryWrite}, &ledger{}, parts{})
	refusedWith(t, err, dir, "in use by another server")
	s.Close()
	if _, err := opened(t, dir); err != nil {
		t.Error(err)
	}
}

func TestUnwritableFolderSaysWhoAndHow(t *testing.T) {
	t.Parallel()
	err := explain("/data/dataroots", fmt.Errorf("mkdir: %w", syscall.EACCES))
	who := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	refusedWith(t, err, `"/data/dataroots"`, who, "chown -R "+who, "named volume")
	refusedWith(t, explain("/d", syscall.EROFS), "read-only", who, "mount it writable")
	if os.Getuid() == 0 {
		t.Skip("root may write anywhere")
	}
	dir := t.TempDir()
	os.Chmod(dir, 0o500)
	_, err = open(Config{Dir: filepath.Join(dir, "x"), Durability: EveryWrite}, &ledger{}, parts{})
	refusedWith(t, err, dir, who, "chown -R")
}

// A crash in the middle of the formation leaves a server that can be formed.
func TestFormationCutInTwo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{})
	if err := s.journal.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s, _ = start(t, Config{Dir: dir}, parts{})
	if s.Status().Formed {
		t.Fatal("it is formed")
	}
	form(t, s)
	must(t, s, "a")
}

// A disk that lied leaves a log that ends before the snapshot: the server goes
// on from the snapshot.
func TestLogThatEndsBeforeTheSnapshot(t *testing.T) {
	t.Parallel()
	dir, ops := written(t, 20, 19)
	change(t, onlyFile(t, dir, walFolder, "*.wal"), func(b []byte) []byte {
		clear(b[used(b)/2/frame*frame:])
		return b
	})
	for i := range 2 {
		got, err := opened(t, dir)
		if err != nil || len(got) != len(ops)+1+i {
			t.Fatalf("%d operations, %v", len(got), err)
		}
	}
}

// Raft's description of a snapshot has no checksum of its own.
func TestDamagedDescriptionOfASnapshotIsRefused(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 20, 10)
	change(t, onlyFile(t, dir, snapFolder, "*", "meta.json"), func(b []byte) []byte {
		return []byte(strings.Replace(string(b), `"Index":1`, `"Index":2`, 1))
	})
	_, err := opened(t, dir)
	refusedWith(t, err, dir, "snapshot", "restore")
}
