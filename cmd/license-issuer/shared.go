package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// All clones of a user tag their images alike, and so the images of one must
// accept the licence of another: they share key and licence
// (docs/decisions/licence.md).

// errNoShared: the shared folder can't be made.
var errNoShared = errors.New("no folder for all clones")

// sharedDir returns the folder for all clones of this user, "" if the
// environment names none.
func sharedDir() string {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the specification says to ignore such a one
		var err error
		if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
			state, err = os.UserConfigDir()
		} else if state, err = os.UserHomeDir(); err == nil {
			state = filepath.Join(state, ".local", "state")
		}
		if err != nil || !filepath.IsAbs(state) {
			return ""
		}
	}
	return filepath.Join(state, "terracotta-go", "dev")
}

// ensureShared makes the shared folder, with the key of the clone at dir if
// that has one, and renews the licence in it. The folder appears whole or not
// at all: two clones may do this at once.
func ensureShared(out io.Writer, shared, dir string, now time.Time) error {
	if _, err := os.Stat(shared); err != nil {
		if err := os.MkdirAll(filepath.Dir(shared), 0o700); err != nil {
			return fmt.Errorf("%w: %w", errNoShared, err)
		}
		draft, err := os.MkdirTemp(filepath.Dir(shared), ".dev-*")
		if err != nil {
			return fmt.Errorf("%w: %w", errNoShared, err)
		}
		defer os.RemoveAll(draft) // of no effect once renamed
		id, err := devKeyID(dir)
		if err != nil {
			return err
		}
		if id != "" {
			err = copyKey(dir, draft, id)
		} else {
			id, err = ensureKey(io.Discard, draft)
		}
		if err != nil {
			return err
		}
		if err := os.Rename(draft, shared); err == nil {
			fmt.Fprintf(out, "laid development key %s in %s: it is that of all your clones\n", id, shared)
		} else if _, there := os.Stat(shared); there != nil { // else another clone was first
			return fmt.Errorf("%w: %w", errNoShared, err)
		}
	}
	id, err := devKeyID(shared)
	if err != nil {
		return err
	}
	if id == "" {
		return fmt.Errorf("%q has no development key that you can read: remove it, or give it to yourself (chown -R)", shared)
	}
	if err := repairPublic(out, shared, id); err != nil {
		return err
	}
	return ensureTrial(out, shared, id, now, func(deed string) error { return issueTrial(out, shared, id, now, deed) })
}

// copyShared makes the clone at dir use the shared key and licence. A key that
// the clone had before is set aside but stays trusted, for the sake of its volumes.
func copyShared(out io.Writer, shared, dir string, now time.Time) error {
	id, err := devKeyID(shared)
	if err != nil {
		return err
	}
	former, err := filepath.Glob(filepath.Join(dir, privateDir, devPrefix+"*.pem"))
	if err != nil {
		return err
	}
	for _, name := range former {
		if filepath.Base(name) == id+".pem" {
			continue
		}
		if err := os.Rename(name, name+".former"); err != nil {
			return err
		}
		fmt.Fprintf(out, "set %s aside: the key of all your clones is %s, in %s\n", name, id, shared)
	}
	if err := copyKey(shared, dir, id); err != nil {
		return err
	}
	return ensureTrial(out, dir, id, now, func(string) error {
		doc, err := readLicense(licensePath(shared))
		if err != nil {
			return err
		}
		path := licensePath(dir)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := writeFile(path, doc, 0o644, true); err != nil {
			return err
		}
		fmt.Fprintf(out, "copied %s to %s\n", licensePath(shared), path)
		return nil
	})
}

// copyKey makes both halves of key id in dir those in from.
func copyKey(from, dir, id string) error {
	source, _ := keyPaths(from, id)
	key, _, err := readPrivate(source)
	if err != nil {
		return err
	}
	private, public := keyPaths(dir, id)
	for path, mode := range map[string]os.FileMode{filepath.Dir(private): 0o700, filepath.Dir(public): 0o755} {
		if err := os.MkdirAll(path, mode); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if err := writeFile(private, text, 0o600, true); err != nil {
		return err
	}
	if _, err := os.Stat(public); err == nil {
		return nil
	}
	return writePublic(public, key)
}
