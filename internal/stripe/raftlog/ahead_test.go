package raftlog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// counted counts what reaches the disk. From fail on zeros behind a write cannot be written.
type counted struct {
	types.VFS
	writes, syncs int
	fail          int64
}

func (c *counted) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := c.VFS.Create(dir, name, size)
	return &countedFile{f, c}, err
}

type countedFile struct {
	types.WritableFile
	c *counted
}

func (f *countedFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.writes++
	if f.c.fail > 0 && off >= f.c.fail {
		return 0, errors.New("no block is left")
	}
	return f.WritableFile.WriteAt(p, off)
}

func (f *countedFile) Sync() error { f.c.syncs++; return f.WritableFile.Sync() }

// The log's file reads as if nothing was written ahead, is no longer for it, and a
// write within the stretch that was written ahead is one write.
func TestTheLogIsWrittenAhead(t *testing.T) {
	dir, c := t.TempDir(), &counted{VFS: fs.New()}
	const size = aheadBytes + aheadBytes/2
	f, err := aheadFS{c}.Create(dir, "log", size)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	write := func(off, n, writes int) {
		t.Helper()
		p := bytes.Repeat([]byte{byte(n)}, n)
		copy(want[off:], p)
		before := c.writes
		if got, err := f.WriteAt(p, int64(off)); got != n || err != nil {
			t.Fatalf("wrote %d of %d: %v", got, n, err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if c.writes-before != writes {
			t.Errorf("%d writes for %d bytes at %d, not %d", c.writes-before, n, off, writes)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "log")); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("after %d bytes at %d the file has %d bytes, and others: %v", n, off, len(got), err)
		}
	}
	write(0, 100, 2)
	write(100, 5000, 1)
	write(5100, aheadBytes-5100, 1) // to the very end of the stretch
	write(aheadBytes, 200, 2)
	write(aheadBytes+200, aheadBytes/2-200, 1)
	if c.syncs != 5 {
		t.Errorf("%d syncs", c.syncs)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	f, err = aheadFS{fs.New()}.OpenWriter(dir, "log") // what was written before this run counts as not written ahead
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	clear(want[300:aheadBytes])
	write(300, 50, 0) // none that is counted
	write(350, 50, 0)
}

// Where zeros cannot be written ahead, the log goes on without.
func TestTheLogGoesOnWhereNothingCanBeWrittenAhead(t *testing.T) {
	c := &counted{VFS: fs.New(), fail: 1000}
	f, err := aheadFS{c}.Create(t.TempDir(), "log", 2*aheadBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 1000), 0); err != nil {
		t.Errorf("a write that was made: %v", err)
	}
	if _, err := f.WriteAt(make([]byte, 1000), 1000); err == nil {
		t.Error("a write that was not made has no error")
	}
	c.fail = 0
	before := c.writes
	if _, err := f.WriteAt(make([]byte, 1000), 1000); err != nil || c.writes != before+1 {
		t.Errorf("%d writes, %v", c.writes-before, err)
	}
}
