//go:build unix

package stripe

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A child that some goroutine starts has copies of all files of this process until it
// executes its program: the lock of what was closed does not last as long.
func TestAnotherCopyOfTheLockFileHoldsNoLock(t *testing.T) {
	t.Parallel()
	for _, open := range []func(string) (*os.File, error){openLocked, openShared} {
		path := filepath.Join(t.TempDir(), lockFile)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		lock, err := open(path)
		if err != nil {
			t.Fatal(err)
		}
		child, err := syscall.Dup(int(lock.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(child)
		if _, err := openLocked(path); !errors.Is(err, errLocked) {
			t.Fatalf("a second time: %v", err)
		}
		if err := unlock(lock); err != nil {
			t.Error(err)
		}
		if lock, err = openLocked(path); err != nil {
			t.Fatal(err)
		}
		unlock(lock)
	}
}
