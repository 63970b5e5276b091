package raftlog

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"
)

// writtenInFiles makes a log of n entries in several files, and returns their data and the last file.
func writtenInFiles(t *testing.T, n int, lazy bool) (dir string, data []string, newest string) {
	t.Helper()
	dir, data = writtenTo(t, n, Files{Size: 4 << 10, Lazy: lazy})
	return dir, data, newestFile(t, dir)
}

func newestFile(t *testing.T, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(list) < 2 {
		t.Fatalf("files %q, %v", list, err)
	}
	return list[len(list)-1]
}

// agreed opens and checks the log, which must agree, and returns its data or why it is refused.
func agreed(t *testing.T, dir string, lazy bool) (data []string, refused error) {
	t.Helper()
	_, checked := Check(t.Context(), dir, lazy, func(e *raft.Log) error { return nil })
	j, err := Open(Options{Files: Files{Dir: dir, SyncDir: noSync, Size: 4 << 10, Lazy: lazy}})
	if (checked == nil) != (err == nil) {
		t.Errorf("check says %v, and a start %v", checked, err)
	}
	if err != nil {
		return nil, errors.Join(err, checked)
	}
	defer j.Close()
	last, err := j.LastIndex()
	for i := uint64(1); i <= last && err == nil; i++ {
		var e raft.Log
		err = j.GetLog(i, &e)
		data = append(data, string(e.Data))
	}
	if err != nil {
		t.Fatal(err)
	}
	return data, nil
}

// ways are how the newest file of a log can be lost.
var ways = map[string]func(path string) error{
	"is gone":                      os.Remove,
	"is cut short: it has 0 bytes": func(path string) error { return os.Truncate(path, 0) },
	"is damaged at byte 0":         func(path string) error { return errors.Join(os.Truncate(path, 0), os.Truncate(path, 4<<10)) },
}

// What was acknowledged was in it.
func TestTheNewestFileIsMissed(t *testing.T) {
	t.Parallel()
	for _, lazy := range []bool{false, true} {
		for words, lose := range ways {
			dir, data, newest := writtenInFiles(t, 150, lazy)
			whole, err := os.ReadFile(newest)
			if err != nil {
				t.Fatal(err)
			}
			if err := lose(newest); err != nil {
				t.Fatal(err)
			}
			for range 2 { // it stays so
				got, err := agreed(t, dir, lazy)
				if err == nil {
					t.Fatalf("lazy %v, it %s: opened with %d of %d entries", lazy, words, len(got), len(data))
				}
				if said := err.Error(); strings.Count(said, words) != 2 || strings.Count(said, filepath.Base(newest)) != 2 {
					t.Errorf("lazy %v: the error does not say that %q %s: %v", lazy, filepath.Base(newest), words, said)
				}
			}
			if err := os.WriteFile(newest, whole, 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := agreed(t, dir, lazy); err != nil || !slices.Equal(got, data) {
				t.Errorf("the file is back: %d of %d entries, %v", len(got), len(data), err)
			}
		}
	}
}

// Without its list of files raft-wal would begin anew, and remove the files.
func TestTheIndexIsMissed(t *testing.T) {
	t.Parallel()
	for _, cut := range []uint64{0, 100} { // the first file is there, or not
		dir, _, newest := writtenInFiles(t, 300, false)
		if cut > 0 {
			j, err := Open(Options{Files: Files{Dir: dir, SyncDir: noSync, Size: 4 << 10}})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(j.DeleteRange(1, cut), j.Close()); err != nil {
				t.Fatal(err)
			}
			if j, err = Open(j.o); err != nil || j.Close() != nil { // what was not removed yet
				t.Fatal(err)
			}
		}
		if err := os.Remove(filepath.Join(dir, metadb.FileName)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it stays so
			got, err := agreed(t, dir, false)
			if err == nil || strings.Count(err.Error(), "is missing") != 2 {
				t.Fatalf("without the index: %d entries, %v", len(got), err)
			}
			if _, err := os.Stat(newest); err != nil {
				t.Error(err)
			}
		}
	}
}

// A crash between the list of files and the file, or its first write, loses nothing.
func TestCrashBeforeAFileHasBegun(t *testing.T) {
	t.Parallel()
	for words, lose := range ways {
		dir, data := written(t, 20)
		change(t, dir, sealFile)
		if _, err := agreed(t, dir, false); err != nil { // makes the next file
			t.Fatal(err)
		}
		if err := lose(newestFile(t, dir)); err != nil {
			t.Fatal(err)
		}
		if got, err := agreed(t, dir, false); err != nil || !slices.Equal(got, data) {
			t.Errorf("the new file %s: %d of %d entries, %v", words, len(got), len(data), err)
		}
		if got, err := opened(dir); err != nil || !slices.Equal(got, data) {
			t.Errorf("the new file %s: %d of %d entries, %v", words, len(got), len(data), err)
		}
		if anew, err := os.Stat(newestFile(t, dir)); err != nil || anew.Size() < 4<<10 {
			t.Errorf("the new file %s: %v, %v", words, anew, err)
		}
		if err := os.Remove(newestFile(t, dir)); err != nil {
			t.Fatal(err)
		}
		if _, err := agreed(t, dir, false); err == nil {
			t.Errorf("the new file %s, was written, and is gone: opened", words)
		}
	}
}

// What is taken off the end takes its file with it; the one that is made instead may be missing.
func TestCrashAfterTheEndWasTakenOff(t *testing.T) {
	t.Parallel()
	dir, data, newest := writtenInFiles(t, 150, false)
	j, err := Open(Options{Files: Files{Dir: dir, SyncDir: noSync, Size: 4 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.DeleteRange(10, 150), j.Close()); err != nil {
		t.Fatal(err)
	}
	anew := newestFile(t, dir)
	if anew == newest {
		t.Fatal("no file was made")
	}
	if err := os.Remove(anew); err != nil {
		t.Fatal(err)
	}
	if got, err := agreed(t, dir, false); err != nil || !slices.Equal(got, data[:9]) {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

// A log of an older version does not say which files have begun: it is opened, and says it from then on.
func TestALogWithoutTheNote(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{true, false} {
		dir, data, newest := writtenInFiles(t, 150, false)
		db, err := bbolt.Open(filepath.Join(dir, metadb.FileName), 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(metadb.StableBucket))
			if b.Get(begunKey) == nil {
				t.Error("there is no note")
			}
			return b.Delete(begunKey)
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if lost {
			if err := os.Remove(newest); err != nil {
				t.Fatal(err)
			}
		}
		got, err := agreed(t, dir, false)
		if err != nil || !slices.Equal(got, data[:len(got)]) || lost == (len(got) == len(data)) {
			t.Errorf("lost %v: %d of %d entries, %v", lost, len(got), len(data), err)
		}
		if err := os.Remove(newest); err != nil {
			t.Fatal(err)
		}
		if _, err = agreed(t, dir, false); (err == nil) != lost { // nothing was written into the one made anew
			t.Errorf("lost %v, and once more: %v", lost, err)
		}
	}
}

// What could not be noted is not acknowledged.
func TestAFileWhoseBeginningCannotBeNoted(t *testing.T) {
	t.Parallel()
	dir, full := t.TempDir(), true
	files := Files{Dir: dir, SyncDir: noSync, Size: 4 << 10}
	files.Meta = func() types.MetaStore { return noNote{&metadb.BoltMetaDB{}, &full} }
	j, err := Open(Options{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.StoreLog(&raft.Log{Index: 1, Data: []byte("a")}); !errors.Is(err, errNoNote) {
		t.Errorf("the write: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	full = false
	if _, err := agreed(t, dir, false); err != nil {
		t.Error(err)
	}
}

var errNoNote = errors.New("no room for the note")

type noNote struct {
	types.MetaStore
	full *bool
}

func (n noNote) SetStable(key, value []byte) error {
	if *n.full {
		return errNoNote
	}
	return n.MetaStore.SetStable(key, value)
}
