package stripe

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
)

// A backup is one stream:
//
//	bytes 0-7   "TCBACKUP"
//	byte  8     format version, 1
//	bytes 9-10  size of the head, big endian
//	then        the head, JSON: BackupInfo
//	then        a snapshot as in the data root
//	last 32     SHA-256 of all before
const (
	backupMagic   = "TCBACKUP"
	backupFormat  = 1
	maxBackupHead = 4 << 10
)

// BackupInfo tells of a backup.
type BackupInfo struct {
	Server  string    `json:"server"`    // name of the server that wrote it
	ID      string    `json:"server-id"` // its identity
	Index   uint64    `json:"index"`     // everything up to this log entry is in it
	Term    uint64    `json:"term"`
	LogTime int64     `json:"log-time"` // milliseconds
	Created time.Time `json:"created"`  // by that server's clock

	Bytes int64 `json:"-"` // of the whole stream
}

// Backup writes the state of one moment to w while changes go on. It can be
// called on any server: what was acknowledged before the call is in the backup of
// the active one.
func (s *Stripe) Backup(ctx context.Context, w io.Writer) (BackupInfo, error) {
	if !s.formed.Load() {
		return BackupInfo{}, errUnconfigured
	}
	v, at, err := s.fsm.viewNow()
	if err != nil {
		return BackupInfo{}, err
	}
	defer v.Release()
	info := BackupInfo{
		Server: s.cfg.ServerName, ID: s.id, Index: at.index, Term: at.term, LogTime: at.time,
		Created: time.Now().UTC().Truncate(time.Second),
	}
	head, err := json.Marshal(info)
	if err != nil {
		return BackupInfo{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	sum := &summed{w: w, sum: sha256.New()}
	start := append([]byte(backupMagic), backupFormat)
	start = binary.BigEndian.AppendUint16(start, uint16(len(head)))
	start = append(append(start, head...), snapshotHead(nil, at.format)...)
	if _, err := sum.Write(start); err != nil {
		return BackupInfo{}, fmt.Errorf("write the backup: %w", err)
	}
	buf := bufio.NewWriterSize(newPacer(sum, ctx.Done(), s.fsm.bytes.Load, s.fsm.m.Hurried), pieceBytes)
	if _, err = v.Drain(buf); err == nil {
		err = buf.Flush()
	}
	if err == nil {
		_, err = sum.Write(sum.sum.Sum(nil))
	}
	if err != nil {
		return BackupInfo{}, fmt.Errorf("write the backup: %w", err)
	}
	info.Bytes = sum.n
	return info, nil
}

// summed counts and sums what is written through it.
type summed struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

// Write implements io.Writer.
func (s *summed) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.sum.Write(b[:n])
	s.n += int64(n)
	return n, err
}

// backupReader reads a backup's snapshot and, at its end, verifies the checksum.
type backupReader struct {
	r    *bufio.Reader
	sum  hash.Hash
	n    int64
	tail bool // verified
}

// Read implements io.Reader. What it has returned is to be trusted only after io.EOF.
func (b *backupReader) Read(p []byte) (int, error) {
	if b.tail {
		return 0, io.EOF
	}
	// The last 32 bytes are not the snapshot's: look that far ahead.
	ahead, err := b.r.Peek(min(len(p)+sha256.Size, b.r.Size()))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if len(ahead) < sha256.Size {
		return 0, errors.New("the backup is cut short")
	}
	n := len(ahead) - sha256.Size
	if n == 0 {
		if string(ahead) != string(b.sum.Sum(nil)) {
			return 0, errors.New("the backup is damaged: the checksum does not match")
		}
		b.tail = true
		return 0, io.EOF
	}
	copy(p, ahead[:n])
	b.r.Discard(n)
	b.sum.Write(p[:n])
	b.n += int64(n)
	return n, nil
}

func openBackup(r io.Reader) (BackupInfo, *backupReader, error) {
	b := &backupReader{r: bufio.NewReaderSize(r, 256<<10), sum: sha256.New()}
	start := make([]byte, len(backupMagic)+3)
	if _, err := io.ReadFull(b.r, start); err != nil || string(start[:len(backupMagic)]) != backupMagic {
		return BackupInfo{}, nil, errors.New("this is not a backup of a stripe")
	}
	if format := start[len(backupMagic)]; format != backupFormat {
		return BackupInfo{}, nil, fmt.Errorf("backup of format %d: %w", format, errLater)
	}
	size := int(binary.BigEndian.Uint16(start[len(backupMagic)+1:]))
	if size > maxBackupHead {
		return BackupInfo{}, nil, errors.New("the backup's head is damaged")
	}
	head := make([]byte, size)
	if _, err := io.ReadFull(b.r, head); err != nil {
		return BackupInfo{}, nil, errors.New("the backup is cut short")
	}
	var info BackupInfo
	if err := json.Unmarshal(head, &info); err != nil || info.Index == 0 || info.Term == 0 {
		return BackupInfo{}, nil, errors.New("the backup's head is damaged")
	}
	b.sum.Write(start)
	b.sum.Write(head)
	b.n = int64(len(start) + len(head))
	return info, b, nil
}

// VerifyBackup reads a backup to its end and returns what it is, or what is wrong with it.
func VerifyBackup(r io.Reader) (BackupInfo, error) {
	info, b, err := openBackup(r)
	if err != nil {
		return BackupInfo{}, err
	}
	if _, err := io.Copy(io.Discard, b); err != nil {
		return BackupInfo{}, err
	}
	info.Bytes = b.n + sha256.Size
	return info, nil
}

// RestoreBackup makes a data root in dir, which must be missing or empty, that
// starts as a new stripe of one server with the state of the backup and an
// identity of its own. On error dir is as it was.
func RestoreBackup(dir string, r io.Reader) (err error) {
	switch list, err := os.ReadDir(dir); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return explain(dir, err)
	case len(list) > 0:
		return fmt.Errorf("data root %q is not empty: a backup is restored into a new one only; move the folder away first", dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return explain(dir, err)
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), ".restore-*")
	if err != nil {
		return explain(dir, err)
	}
	defer os.RemoveAll(made)
	if err := restoreInto(made, r); err != nil {
		return fmt.Errorf("restore the backup: %w", err)
	}
	if err := os.Chmod(made, 0o750); err != nil {
		return explain(dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain(dir, err)
	}
	if err := os.Rename(made, dir); err != nil {
		return explain(dir, err)
	}
	return syncDir(filepath.Dir(dir))
}

func restoreInto(dir string, r io.Reader) (err error) {
	info, b, err := openBackup(r)
	if err != nil {
		return err
	}
	root, err := openDataRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.close()) }()
	quiet := slog.New(slog.DiscardHandler)
	j, err := raftlog.Open(raftlog.Options{Files: raftlog.Files{Dir: filepath.Join(dir, walFolder), SyncDir: syncDir}})
	if err != nil {
		return err
	}
	// Terms go on from the backup's, so that nothing of the old life is taken for the new one's.
	if err := j.SetUint64([]byte(termKey), info.Term); err != nil {
		return errors.Join(err, j.Close())
	}
	if err := j.Close(); err != nil {
		return err
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, hclogTo(quiet))
	if err != nil {
		return err
	}
	snaps := snapshots{SnapshotStore: store, dir: filepath.Join(dir, snapFolder), logs: j}
	id := raft.ServerID(root.ID)
	alone := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: id, Address: raft.ServerAddress(id)}}}
	_, trans := raft.NewInmemTransport(raft.ServerAddress(id))
	sink, err := snaps.Create(raft.SnapshotVersionMax, info.Index, info.Term, alone, info.Index, trans)
	if err != nil {
		return err
	}
	if _, err := io.Copy(sink, b); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}
