package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// makeDirectories makes the data directories that are missing, and refuses those
// that can't be used: not a folder, not writable, two names on one folder, or one
// folder inside another. Links are followed, because the disk is what counts.
func makeDirectories(list []wire.DataDirectory) error {
	folders := make([]string, len(list))
	for i, d := range list {
		if err := makeDirectory(d); err != nil {
			return err
		}
		var err error
		if folders[i], err = filepath.EvalSymlinks(d.Path); err != nil {
			return &failure{exitFailure, fmt.Errorf("data directory %q: %w", d.Name, err), ""}
		}
		for j, other := range list[:i] {
			relation := ""
			switch {
			case folders[i] == folders[j]:
				relation = "is the folder of"
			case within(folders[i], folders[j]):
				relation = "lies inside"
			case within(folders[j], folders[i]):
				relation = "contains"
			default:
				continue
			}
			return &failure{exitBadRequest, fmt.Errorf("data directory %q at %q %s data directory %q at %q", d.Name, d.Path, relation, other.Name, other.Path),
				"give each data directory a folder of its own"}
		}
	}
	return nil
}

// within reports whether the cleaned path inner lies below outer.
func within(inner, outer string) bool {
	return strings.HasPrefix(inner, strings.TrimSuffix(outer, string(filepath.Separator))+string(filepath.Separator))
}

func makeDirectory(d wire.DataDirectory) error {
	err := os.MkdirAll(d.Path, 0o750)
	if err == nil {
		err = tryWriting(d.Path)
	}
	if err == nil {
		return nil
	}
	at := existing(d.Path)
	what := fmt.Sprintf("data directory %q", d.Name)
	if at != d.Path {
		what += fmt.Sprintf(" at %q", d.Path)
	}
	user := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	switch {
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return &failure{exitFailure, fmt.Errorf("%s: %q is a file, and a folder is needed", what, at), "mount a folder or a volume there"}
	case errors.Is(err, fs.ErrPermission):
		return &failure{exitFailure, fmt.Errorf("%s: %q cannot be written by user %s", what, at, user),
			fmt.Sprintf("run chown -R %s on that folder, or run the server as its owner; a new named volume belongs to the image's user, 65532", user)}
	case errors.Is(err, syscall.EROFS):
		return &failure{exitFailure, fmt.Errorf("%s: %q is on a read-only file system", what, at), "mount a writable folder or volume there"}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &failure{exitFailure, fmt.Errorf("%s: the disk of %q is full", what, at), "free space or enlarge the volume"}
	}
	return &failure{exitFailure, fmt.Errorf("%s: %w", what, err), ""}
}

// tryWriting leaves nothing behind. A full disk is no reason to refuse a folder
// that is there: the stripe knows how to run on one.
func tryWriting(dir string) error {
	f, err := os.CreateTemp(dir, ".try-*")
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// existing returns the deepest part of path that is there: it is what is wrong.
func existing(path string) string {
	for {
		if _, err := os.Lstat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}
