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

// A real file system that is full when the log must begin its next file. It is
// enlarged, and the server goes on.
func TestRealFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	s, l := start(t, Config{Dir: filepath.Join(dir, "stripe")}, parts{})
	form(t, s)
	var want []string
	filler := strings.Repeat("x", 256<<10)
	for i := 0; ; i++ {
		op := fmt.Sprint(i, filler)
		if _, err := do(s, op); err != nil {
			if !wire.Is(err, wire.ErrUnsure) && !wire.Is(err, wire.ErrReadOnly) {
				t.Fatal(err)
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
