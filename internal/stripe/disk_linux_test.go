package stripe

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// smallDisk returns a file system of that size.
func smallDisk(t *testing.T, size string) string {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A real file system that is full when the log must begin its next file. It is
// enlarged, and the server goes on.
func TestRealFullFileSystem(t *testing.T) {
	dir := smallDisk(t, "40m")
	said := new(lines)
	s, l := start(t, Config{Dir: filepath.Join(dir, "stripe"), Logger: said.logger(t)}, parts{})
	form(t, s)
	var want []string
	filler := strings.Repeat("x", 256<<10)
	for i := 0; ; i++ {
		op := fmt.Sprint(i, filler)
		if _, err := do(s, op); err != nil {
			if !wire.Is(err, wire.ErrUnsure) && !wire.Is(err, wire.ErrReadOnly) {
				t.Fatal(err)
			}
			if strings.Contains(err.Error(), "segment is sealed") && !strings.Contains(err.Error(), "next file of the log") {
				t.Errorf("nobody understands this: %v", err)
			}
			break
		}
		want = append(want, op)
		if i > 1000 {
			t.Fatal("the disk does not fill")
		}
	}
	eventually(t, "writes are refused as read-only", func() bool {
		_, err := do(s, "full")
		return wire.Is(err, wire.ErrReadOnly)
	})
	if err := s.Confirm(context.Background()); err != nil {
		t.Errorf("reads with a full disk: %v", err)
	}
	eventually(t, "the status says that the disk is full", func() bool {
		return strings.Contains(s.Status().DiskError, "is full: free space")
	})
	eventually(t, "the log says so, too", func() bool { return said.have("is full: free space") })
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=200m"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "writes are taken again", func() bool { _, err := do(s, "after"); return err == nil })
	want = append(want, "after")
	for i := range 20 {
		op := fmt.Sprint("more", i, filler)
		must(t, s, op)
		want = append(want, op)
	}
	if got := l.list(); !slices.Equal(got, want) {
		t.Errorf("applied %d operations, not %d", len(got), len(want))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := opened(t, filepath.Join(dir, "stripe"))
	if err != nil || !slices.Equal(got, append(want, "one more")) {
		t.Errorf("after the restart %d operations, not %d: %v", len(got), len(want)+1, err)
	}
}

// A snapshot for which the disk has no room gives back what it took at once: else it is what
// keeps the disk full, and each further one takes what is left.
func TestASnapshotThatDoesNotFitLeavesNothing(t *testing.T) {
	dir := filepath.Join(smallDisk(t, "60m"), "stripe")
	free := func() uint64 {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		return st.Bfree * uint64(st.Bsize)
	}
	e := &endless{writing: make(chan struct{}, 2)}
	s := startOn(t, Config{Dir: dir}, parts{}, e)
	form(t, s)
	must(t, s, "a")
	before := free()
	for range 2 {
		if err := s.snapshot(); err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
			t.Fatalf("an endless snapshot ended with %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, snapFolder, "*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
		if now := free(); now < before {
			t.Errorf("%d bytes are free, %d before", now, before)
		}
		must(t, s, "b")
	}
}
