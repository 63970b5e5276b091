package raftlog

import (
	"errors"
	"os"
	"syscall"

	"github.com/hashicorp/raft-wal/types"
)

// dataSync is fdatasync(2): what is needed to read the data back is written, and not
// when it was changed. It reports false for what is no file of the system.
func dataSync(f types.WritableFile) (done bool, err error) {
	file, ok := f.(interface {
		Fd() uintptr
		Name() string
	})
	if !ok {
		return false, nil
	}
	for {
		err := syscall.Fdatasync(int(file.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			if err != nil {
				err = &os.PathError{Op: "fdatasync", Path: file.Name(), Err: err}
			}
			return true, err
		}
	}
}
