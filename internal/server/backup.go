package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// BackupSuffix ends the name of a whole backup; partSuffix that of one under way,
// which is nobody's backup and may be deleted when no server runs.
const (
	BackupSuffix = ".tcbackup"
	partSuffix   = ".part"
)

// abandonAfter is how long a backup that was entered may stay unstarted: whoever
// asked for it is gone.
const abandonAfter = time.Minute

// backup is the one backup under way on a server, from ENTER until it is
// published or aborted.
type backup struct {
	name    string
	path    string // without partSuffix
	file    *os.File
	running bool
	entered time.Time
	cancel  context.CancelFunc // of the run
	done    chan struct{}      // closed when the run has ended
}

// backups lets one backup at a time be made.
type backups struct {
	mu  sync.Mutex
	now *backup // or nil
}

var backupNames = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// backup answers TC.BACKUP step name, beside the reading goroutine: a disk may be slow.
func (c *conn) backup(args [][]byte) {
	step, name := strings.ToUpper(string(args[0])), string(args[1])
	if !backupNames.MatchString(name) {
		c.refuse(wire.ErrBadRequest, "the name of a backup is 1 to 128 letters, digits, dots, - and _, and does not begin with a dot or -")
		return
	}
	do, ok := map[string]func(context.Context, string) (wire.BackupAnswer, error){
		wire.BackupPrepare: c.srv.prepareBackup, wire.BackupEnter: c.srv.enterBackup,
		wire.BackupStart: c.srv.startBackup, wire.BackupAbort: c.srv.abortBackup,
	}[step]
	if !ok {
		c.refuse(wire.ErrBadRequest, "usage: "+byName[wire.CmdBackup].usage())
		return
	}
	c.beside(func(ctx context.Context) ([]byte, error) {
		answer, err := do(ctx, name)
		if err != nil {
			return nil, err
		}
		doc, err := json.Marshal(&answer)
		return resp.AppendBulk(nil, doc), err
	})
}

// prepareBackup says whether a backup could be made here now.
func (s *Server) prepareBackup(_ context.Context, name string) (wire.BackupAnswer, error) {
	bad := func(format string, args ...any) (wire.BackupAnswer, error) {
		return wire.BackupAnswer{}, &wire.Error{Word: wire.ErrBadRequest, Text: fmt.Sprintf(format, args...)}
	}
	switch dir := s.cfg.Running.BackupLocation; {
	case s.store.Cluster() == nil:
		return bad("this server belongs to no cluster yet: there is nothing to back up")
	case !s.serves():
		return bad("this server is %s, and only the active one backs up", s.state(s.stripe.Status()))
	case dir == "":
		return bad("no backup location is configured: set TC_BACKUP_LOCATION, or backup-location in tc-config")
	default:
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return wire.BackupAnswer{}, diskError("backup location", dir, err)
		}
		path := filepath.Join(dir, name+BackupSuffix)
		if _, err := os.Lstat(path); err == nil {
			return bad("there is a backup %q already", path)
		}
		return wire.BackupAnswer{File: path}, nil
	}
}

func diskError(what, path string, err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return &wire.Error{Word: wire.ErrGeneric, Text: fmt.Sprintf("%s %q: %v", what, path, err)}
}

// enterBackup takes the place of the backup: a file that nobody takes for one yet.
func (s *Server) enterBackup(ctx context.Context, name string) (wire.BackupAnswer, error) {
	ready, err := s.prepareBackup(ctx, name)
	if err != nil {
		return ready, err
	}
	b := &s.backups
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.now; old != nil {
		if old.running || time.Since(old.entered) < abandonAfter {
			return wire.BackupAnswer{}, &wire.Error{Word: wire.ErrConflict, Text: fmt.Sprintf("backup %q is under way; one is made at a time", old.name)}
		}
		old.discard()
		b.now = nil
	}
	f, err := os.OpenFile(ready.File+partSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return wire.BackupAnswer{}, diskError("backup file", ready.File+partSuffix, err)
	}
	b.now = &backup{name: name, path: ready.File, file: f, entered: time.Now()}
	return ready, nil
}

func (b *backup) discard() {
	_ = b.file.Close()
	_ = os.Remove(b.path + partSuffix)
}

// startBackup writes the backup, reads it back and gives it its name. It ends
// with ctx, the connection's: whoever asked for it is gone.
func (s *Server) startBackup(ctx context.Context, name string) (wire.BackupAnswer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := context.AfterFunc(s.ctx, cancel) // with the server, too
	defer stopped()
	s.backups.mu.Lock()
	b := s.backups.now
	if b == nil || b.name != name || b.running {
		s.backups.mu.Unlock()
		return wire.BackupAnswer{}, &wire.Error{Word: wire.ErrConflict, Text: fmt.Sprintf("backup %q was not entered here, or runs already", name)}
	}
	b.running, b.cancel, b.done = true, cancel, make(chan struct{})
	s.backups.mu.Unlock()

	began := time.Now()
	s.log.Info("backup begins", "file", b.path)
	answer, err := s.writeBackup(ctx, b)
	if err != nil {
		b.discard()
		s.log.Error("backup failed, and nothing of it is left", "file", b.path, "error", err)
	} else {
		answer.Millis = time.Since(began).Milliseconds()
		s.log.Info("backup is complete and was read back", "file", answer.File, "bytes", answer.Bytes, "sha256", answer.SHA256, "took", time.Since(began).Round(time.Millisecond))
	}
	s.backups.mu.Lock()
	s.backups.now = nil
	s.backups.mu.Unlock()
	close(b.done)
	if ctx.Err() != nil && err != nil {
		err = &wire.Error{Word: wire.ErrGeneric, Text: "the backup was aborted"}
	}
	return answer, err
}

func (s *Server) writeBackup(ctx context.Context, b *backup) (wire.BackupAnswer, error) {
	failed := func(err error) (wire.BackupAnswer, error) {
		return wire.BackupAnswer{}, diskError("backup file", b.path, err)
	}
	info, err := s.stripe.Backup(ctx, b.file)
	if err != nil {
		return failed(err)
	}
	if !s.serves() {
		// What another active has agreed since may be missing in it.
		return wire.BackupAnswer{}, &wire.Error{Word: wire.ErrGeneric, Text: "this server is not the active one any more: back up from the one that is"}
	}
	if err := b.file.Sync(); err != nil {
		return failed(err)
	}
	// From the start and through the disk's eyes: what was written is worth what can be read.
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return failed(err)
	}
	sum := sha256.New()
	read, err := stripe.VerifyBackup(io.TeeReader(&cancelled{ctx, b.file}, sum))
	switch {
	case err != nil:
		return failed(fmt.Errorf("reading it back: %w", err))
	case read.Bytes != info.Bytes || read.Index != info.Index:
		return failed(fmt.Errorf("reading it back: %d bytes up to entry %d, and %d bytes up to entry %d were written", read.Bytes, read.Index, info.Bytes, info.Index))
	}
	if err := b.file.Close(); err != nil {
		return failed(err)
	}
	// A link refuses a name that is taken; a rename would replace somebody's backup.
	if err := os.Link(b.path+partSuffix, b.path); errors.Is(err, os.ErrExist) {
		return failed(err)
	} else if err != nil { // a file system without links
		err = os.Rename(b.path+partSuffix, b.path)
		if err != nil {
			return failed(err)
		}
	} else {
		_ = os.Remove(b.path + partSuffix) // the backup itself has its name
	}
	if err := syncFolder(filepath.Dir(b.path)); err != nil {
		return failed(err)
	}
	return wire.BackupAnswer{File: b.path, Bytes: uint64(info.Bytes), SHA256: hex.EncodeToString(sum.Sum(nil)), Index: info.Index}, nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, os.ErrInvalid) && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return nil
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c *cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// abortBackup ends the backup called name, if it is under way, and leaves nothing of it.
func (s *Server) abortBackup(ctx context.Context, name string) (wire.BackupAnswer, error) {
	s.backups.mu.Lock()
	b := s.backups.now
	if b == nil || b.name != name {
		s.backups.mu.Unlock()
		return wire.BackupAnswer{}, nil
	}
	if !b.running {
		b.discard()
		s.backups.now = nil
		s.backups.mu.Unlock()
		return wire.BackupAnswer{}, nil
	}
	b.cancel()
	s.backups.mu.Unlock()
	select {
	case <-b.done:
		return wire.BackupAnswer{}, nil
	case <-ctx.Done():
		return wire.BackupAnswer{}, ctx.Err()
	}
}
