package stripe

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
)

func checked(t *testing.T, dir string) Checked {
	t.Helper()
	c := &checker{ctx: t.Context(), dir: dir, m: &ledger{}}
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
	return c.Checked
}

func hasLine(list []string, words string) bool {
	for _, l := range list {
		if strings.Contains(l, words) {
			return true
		}
	}
	return false
}

func TestCheckOfAGoodDataRoot(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 600, 300, 550)
	c := checked(t, dir)
	if len(c.Faults)+len(c.Mended) > 0 || !hasLine(c.Lines, "identity: server ") || !hasLine(c.Lines, "snapshot ") || !hasLine(c.Lines, "log: 1 files, entries ") {
		t.Errorf("%+v", c)
	}
	if got, err := opened(t, dir); err != nil || len(got) != 601 {
		t.Errorf("after the check %d operations, %v", len(got), err)
	}
}

// Law: where a start refuses, check has found a fault.
func TestCheckAgreesWithAStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	small := parts{files: raftlog.Files{Size: 16 << 10}}
	s, _ := start(t, Config{Dir: dir}, small)
	form(t, s)
	for i, op := range numbered("op", 20) {
		must(t, s, op)
		if i == 5 {
			if err := s.snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Close()
	for _, pattern := range [][]string{{walFolder, "*.wal"}, {walFolder, "wal-meta.db"}, {snapFolder, "*", "state.bin"}, {snapFolder, "*", "meta.json"}, {identityFile}} {
		file := onlyFile(t, append([]string{dir}, pattern...)...)
		rel, _ := filepath.Rel(dir, file)
		end := len(bytes.TrimRight(beginning(t, file), "\x00"))
		if strings.HasSuffix(rel, ".wal") {
			end -= 200 // a flipped bit in the last write is a crash's
		}
		refused := 0
		for off := 0; off < end; off += max(1, end/13) {
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			change(t, filepath.Join(copied, rel), func(b []byte) []byte { b[off] ^= 4; return b })
			faults := checked(t, copied).Faults
			s, err := open(Config{Dir: copied, Durability: EveryWrite}, &ledger{}, small)
			if err == nil {
				form(t, s)
				s.Close()
				continue
			}
			if refused++; len(faults) == 0 {
				t.Errorf("%s, byte %d: check finds nothing, and a start says %v", rel, off, err)
			}
		}
		if refused == 0 && !strings.HasSuffix(rel, ".db") { // most of the index is empty
			t.Errorf("%s: no start was refused", rel)
		}
		t.Logf("%s: %d refused", rel, refused)
	}
}

func TestCheckTellsWhatAStartMends(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 20)
	change(t, onlyFile(t, dir, walFolder, "*.wal"), func(b []byte) []byte {
		b[used(b)-20] ^= 1 // in the last write
		return b
	})
	os.MkdirAll(filepath.Join(dir, snapFolder, "1-2-3.tmp"), 0o755)
	c := checked(t, dir)
	if len(c.Faults) > 0 || !hasLine(c.Mended, "a crash cut off") || !hasLine(c.Mended, "was being written") {
		t.Errorf("%+v", c)
	}
}

func TestCheckFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, pattern := range map[string][]string{
		"log file": {walFolder, "*.wal"}, "the log's index": {walFolder, "wal-meta.db"}, "snapshot": {snapFolder, "*", "state.bin"},
	} {
		dir, _ := written(t, 600, 550)
		if err := os.Remove(onlyFile(t, append([]string{dir}, pattern...)...)); err != nil {
			t.Fatal(err)
		}
		if c := checked(t, dir); len(c.Faults) == 0 {
			t.Errorf("without %s: %+v", name, c)
		}
	}
}

func TestCheckIsRefusedWhileAServerRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{})
	_, err := Check(context.Background(), dir, false, store.New())
	refusedWith(t, err, dir, "in use by a server")
	s.Close()
	if c, err := Check(context.Background(), dir, false, store.New()); err != nil || len(c.Faults) > 0 {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = Check(context.Background(), t.TempDir(), false, store.New())
	refusedWith(t, err, "no server's state")
}
