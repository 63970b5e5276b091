//go:build unix

package stripe

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// openLocked opens the file, which it makes where missing, for this process
// alone, or returns errLocked. unlock, or the end of the process, unlocks.
func openLocked(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, err
	}
	return flock(f, syscall.LOCK_EX)
}

// openShared opens a file that is there for reading, or returns errLocked where
// openLocked has it, which it keeps out.
func openShared(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return flock(f, syscall.LOCK_SH)
}

func flock(f *os.File, how int) (*os.File, error) {
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %q: %w", f.Name(), err)
	}
	return f, nil
}

// unlock closes a file of openLocked or openShared. It does not leave the unlocking to the
// closing: a lock lasts until the last copy of the file is closed, and a child that is being
// started by any goroutine has one until it executes its program.
func unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// syncDir makes what was created, renamed or removed in dir survive a crash of
// the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
