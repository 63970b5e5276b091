package stripe

import (
	"errors"
	"os"
	"syscall"
)

// errSharingViolation is ERROR_SHARING_VIOLATION, which package syscall lacks.
const errSharingViolation = syscall.Errno(32)

// openLocked opens the file, which it makes where missing, for this process
// alone, or returns errLocked. unlock, or the end of the process, unlocks:
// a file that is opened with no share mode can't be opened a second time.
func openLocked(path string) (*os.File, error) {
	const alone = 0 // share mode
	return openAs(path, syscall.GENERIC_READ|syscall.GENERIC_WRITE, alone, syscall.OPEN_ALWAYS)
}

// openShared opens a file that is there for reading, or returns errLocked where
// openLocked has it, which it keeps out.
func openShared(path string) (*os.File, error) {
	return openAs(path, syscall.GENERIC_READ, syscall.FILE_SHARE_READ, syscall.OPEN_EXISTING)
}

func openAs(path string, access, share, how uint32) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	handle, err := syscall.CreateFile(name, access, share, nil, how, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, errSharingViolation) {
		return nil, errLocked
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(handle), path), nil
}

// unlock closes a file of openLocked or openShared.
func unlock(f *os.File) error { return f.Close() }

// syncDir does nothing: Windows can't flush a folder, and NTFS keeps the order
// of changes to it in its own journal.
func syncDir(string) error { return nil }
