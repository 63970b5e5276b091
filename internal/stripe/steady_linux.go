package stripe

import (
	"os"
	"syscall"
)

// Of sync_file_range(2): wait for what is under way before, then begin.
const writeBackFlags = 1 | 2

// writeBack has the disk begin with a part of the file, when it is done with the part
// before it.
func writeBack(f *os.File, from, n int64) {
	_ = syscall.SyncFileRange(int(f.Fd()), max(0, from-n), 2*n, writeBackFlags) // some file systems can't
}
