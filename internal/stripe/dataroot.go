package stripe

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// The layout of a stripe's folder in the data root:
//
//	identity.json   who this server is; made at first use, never changed
//	lock            locked by the process that uses the folder
//	wal/            the log (raft-wal)
//	snapshots/      the newest snapshots, one folder each
const (
	identityFile = "identity.json"
	lockFile     = "lock"
	walFolder    = "wal"
	snapFolder   = "snapshots"
)

// dataFormat is the version of the layout and of everything in it.
const dataFormat = 1

const maxIdentity = 4 << 10 // bytes

// identity names a server for good. It lives in the data root and not in the
// host name: a container made anew on the same volume is the same server.
type identity struct {
	Format  int       `json:"format"`
	ID      string    `json:"server-id"`
	Created time.Time `json:"created"`
}

func newIdentity() identity {
	var b [16]byte
	rand.Read(b[:])
	return identity{Format: dataFormat, ID: hex.EncodeToString(b[:]), Created: time.Now().UTC().Truncate(time.Second)}
}

// dataRoot is a stripe's folder, held by this process.
type dataRoot struct {
	dir  string
	lock *os.File
	wal  os.FileInfo // of the log's folder, once it may not be moved any more
	identity
}

// errLocked says that another process holds the lock file.
var errLocked = errors.New("is locked by another process")

// openDataRoot locks dir, makes it where missing, and reads or makes the identity.
func openDataRoot(dir string) (*dataRoot, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, explain(dir, err)
	}
	lock, err := openLocked(filepath.Join(dir, lockFile))
	switch {
	case errors.Is(err, errLocked):
		return nil, fmt.Errorf("data root %q is in use by another server process: stop that one, or give this one another data directory", dir)
	case err != nil:
		return nil, explain(dir, err)
	}
	r := &dataRoot{dir: dir, lock: lock}
	if err := r.identify(); err != nil {
		unlock(lock)
		return nil, err
	}
	for _, sub := range []string{walFolder, snapFolder} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o750); err != nil {
			unlock(lock)
			return nil, explain(dir, err)
		}
	}
	return r, nil
}

func (r *dataRoot) identify() error {
	path := filepath.Join(r.dir, identityFile)
	// A pipe would keep the start waiting for ever, a device would never end.
	if info, err := os.Stat(path); err == nil && (!info.Mode().IsRegular() || info.Size() > maxIdentity) {
		return fmt.Errorf("%q is not the file that it was: put it back from a backup, or move the folder away to start empty", path)
	}
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		return r.parse(path, b)
	case !errors.Is(err, fs.ErrNotExist):
		return explain(r.dir, err)
	}
	// A log without an identity must not get a new one: it may have voted under the old.
	for _, sub := range []string{walFolder, snapFolder} {
		if list, _ := os.ReadDir(filepath.Join(r.dir, sub)); len(list) > 0 {
			return fmt.Errorf("data root %q has state but no %s: put the file back from a backup, or move the folder away to start empty", r.dir, identityFile)
		}
	}
	id := newIdentity()
	b, err = json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	if err := writeAtomic(path, append(b, '\n')); err != nil {
		return explain(r.dir, err)
	}
	r.identity = id
	return nil
}

func (r *dataRoot) parse(path string, b []byte) error {
	var head struct {
		Format int `json:"format"`
	}
	const mend = "put the file back from a backup, or move the folder away to start empty"
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("%q is damaged (%w): %s", path, err, mend)
	}
	if head.Format > dataFormat {
		return fmt.Errorf("data root %q has format %d, and this version reads up to %d: start the newer version that wrote it, or give this one another data directory", r.dir, head.Format, dataFormat)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r.identity); err != nil {
		return fmt.Errorf("%q is damaged (%w): %s", path, err, mend)
	}
	if raw, err := hex.DecodeString(r.ID); r.Format != dataFormat || err != nil || len(raw) != 16 {
		return fmt.Errorf("%q is damaged (format %d, server id of %d characters): %s", path, r.Format, len(r.ID), mend)
	}
	return nil
}

// hadLog reports whether this server has been of a stripe, or has snapshots: a new log would miss
// what was in the one that it had, and the votes that were cast.
func (r *dataRoot) hadLog(stripe string) bool {
	list, err := os.ReadDir(filepath.Join(r.dir, snapFolder))
	return stripe != "" || len(list) > 0 || err != nil
}

// errMissing says that the log does not begin with entry next, where it is needed from.
func errMissing(next, first uint64) error {
	return fmt.Errorf("entries %d to %d are missing between the snapshot and the log", next, first-1)
}

var errGone = errors.New("the folder is gone, or another one stands in its place: bring it back, or restart this server to start from what is there")

// present is an error once the folder is not the one that was opened. Files that
// are open can be written long after they were removed.
func (r *dataRoot) present() error {
	ours, err := r.lock.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(filepath.Join(r.dir, lockFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(ours, there) {
		return errGone
	}
	if err != nil {
		return err
	}
	there, err = os.Stat(filepath.Join(r.dir, walFolder))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(r.wal, there) {
		return fmt.Errorf("its folder %q: %w", walFolder, errGone)
	}
	return err
}

// rootInterval is how long a data root may be gone before it is noticed.
const rootInterval = time.Second

// rootWatcher notices when the data root vanishes.
func (s *Stripe) rootWatcher() {
	tick := time.NewTicker(rootInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			err := s.root.present()
			if err == nil {
				err = s.journal.Present()
			}
			if err != nil {
				s.journal.Fail(err)
			}
		}
	}
}

// close gives the folder free. The lock file stays: removing it would let two
// processes lock two files of the same name.
func (r *dataRoot) close() error { return unlock(r.lock) }

// writeAtomic replaces path so that after a crash it has the old content or the
// new, never a part: temporary file, sync, rename, sync of the folder.
func writeAtomic(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Chmod(0o640); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// explain adds to an error of the data root what an operator can do about it.
func explain(dir string, err error) error {
	if hint := diskHint(err); hint != "" {
		return fmt.Errorf("data root %q %s (%w)", dir, hint, err)
	}
	return fmt.Errorf("data root %q: %w", dir, err)
}

// diskHint says what to do about an error that comes from the disk and not from
// what is on it; "" for any other.
func diskHint(err error) string {
	who := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "cannot be written by user " + who + ": run chown -R " + who + " on the folder, or use a named volume"
	case errors.Is(err, syscall.EROFS):
		return "is on a read-only file system, and user " + who + " must write there: mount it writable"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "is full: free space or enlarge the volume"
	}
	return ""
}
