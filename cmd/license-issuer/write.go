package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile puts data at path with mode, whole or not at all. Without force it
// never replaces a file, also one that another process makes meanwhile.
func writeFile(path string, data []byte, mode fs.FileMode, force bool) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".license-issuer-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // of no effect once renamed
	defer temporary.Close()
	if err := temporary.Chmod(mode); err != nil { // before there is anything to read
		return err
	}
	if _, err := temporary.Write(data); err != nil {
		return err
	}
	if err := temporary.Sync(); err != nil {
		return err
	}
	if force {
		return os.Rename(temporary.Name(), path)
	}
	// A hard link fails where a rename would replace.
	err = os.Link(temporary.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q exists (--force replaces it): %w", path, fs.ErrExist)
	}
	return err
}
