package stripe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
)

// Checked is what Check has found.
type Checked struct {
	Lines  []string // what is there, one thing a line
	Mended []string // what the next start will put in order by itself
	Faults []string // what keeps a server from starting here, and what it means
}

// Check reads the state in dir and changes nothing. It verifies identity, log and
// snapshots, restores the newest snapshot into st, which must be new, and applies
// the log to it, as a start does. lazy says that the server ran with EverySecond.
// It fails where there is nothing to check, or where a server uses dir.
func Check(ctx context.Context, dir string, lazy bool, st *store.Store) (Checked, error) {
	c := &checker{ctx: ctx, dir: dir, lazy: lazy, m: storeMachine{st}}
	if err := c.run(); err != nil {
		return Checked{}, err
	}
	if len(c.Faults) == 0 && c.last > 0 {
		c.line("state: %d datasets, and everything up to entry %d can be applied", len(st.Datasets()), c.last)
	}
	return c.Checked, ctx.Err()
}

func (c *checker) run() error {
	free, err := c.lock()
	if err != nil {
		return err
	}
	defer free()
	c.identity()
	c.snapshots()
	c.log()
	if err := isMember(c.members, c.id); err != nil && c.id != "" {
		c.fault("%v", err)
	}
	return nil
}

type checker struct {
	Checked
	ctx  context.Context
	dir  string
	lazy bool
	m    machine

	id      string             // "" where the identity is damaged
	began   bool               // there must be a log
	members raft.Configuration // the last one

	snap uint64     // index of the newest snapshot, or 0
	last uint64     // index of the last entry there is
	term uint64     // of the entry before
	time store.Time // of the entry before
}

func (c *checker) line(format string, args ...any) {
	c.Lines = append(c.Lines, fmt.Sprintf(format, args...))
}

func (c *checker) fault(format string, args ...any) {
	c.Faults = append(c.Faults, fmt.Sprintf(format, args...))
}

// lock keeps servers out while it is checked. It makes no file: dir may be a
// backup, or read-only.
func (c *checker) lock() (free func(), err error) {
	f, err := openShared(filepath.Join(c.dir, lockFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Join(c.dir, identityFile)); err != nil {
			return nil, fmt.Errorf("there is no server's state in %q", c.dir)
		}
		return func() {}, nil // a copy without it
	case errors.Is(err, errLocked):
		return nil, fmt.Errorf("data root %q is in use by a server process: stop it first, or check a copy", c.dir)
	case err != nil:
		return nil, explain(c.dir, err)
	}
	return func() { unlock(f) }, nil
}

func (c *checker) identity() {
	path := filepath.Join(c.dir, identityFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		c.fault("there is no %s: put the file back from a backup", identityFile)
		return
	}
	r := dataRoot{dir: c.dir}
	if err == nil {
		err = r.parse(path, b)
	}
	if err != nil {
		c.fault("%v", err)
		return
	}
	c.id = r.ID
	switch stripe, err := readBelonging(c.dir, r.ID); {
	case err != nil:
		c.fault("%v", err)
	case stripe != "":
		c.began = true
		c.line("stripe: %s", stripe)
	}
	c.line("identity: server %s, made %s", r.ID, r.Created.Format("2006-01-02 15:04:05 MST"))
}

// description is raft's meta.json of a snapshot.
type description struct {
	raft.SnapshotMeta
	CRC []byte
}

// snapshots verifies all snapshots, and restores the newest.
func (c *checker) snapshots() {
	root := filepath.Join(c.dir, snapFolder)
	list, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.fault("%v", err)
	}
	var found []description
	c.began = c.began || len(list) > 0
	for _, e := range list {
		switch {
		case !e.IsDir():
		case strings.HasSuffix(e.Name(), ".tmp"):
			c.Mended = append(c.Mended, fmt.Sprintf("snapshot %q was being written or removed: it is removed", e.Name()))
		default:
			d, err := describe(filepath.Join(root, e.Name()))
			if err != nil {
				c.fault("snapshot %q: %v", e.Name(), err)
				continue
			}
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b description) int { return int(a.Index) - int(b.Index) })
	for i, d := range found {
		newest := i == len(found)-1
		if err := c.snapshot(filepath.Join(root, d.ID), d, newest); err != nil {
			c.fault("snapshot %q: %v", d.ID, err)
			continue
		}
		c.line("snapshot %s: entries up to %d, %d KiB", d.ID, d.Index, d.Size>>10)
		if newest {
			c.snap, c.last, c.term, c.time = d.Index, d.Index, d.Term, c.m.Now()
			c.members = d.Configuration
		}
	}
}

func describe(dir string) (d description, err error) {
	b, err := os.ReadFile(filepath.Join(dir, descriptionFile))
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return d, fmt.Errorf("its description is damaged: %w", err)
	}
	if d.ID != filepath.Base(dir) {
		return d, fmt.Errorf("its description is that of snapshot %q", d.ID)
	}
	return d, checkDescription(dir)
}

// snapshot verifies one snapshot, and restores it if it is the newest.
func (c *checker) snapshot(dir string, d description, newest bool) error {
	f, err := os.Open(filepath.Join(dir, "state.bin"))
	if err != nil {
		return err
	}
	defer f.Close()
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	in := &progressReader{ctx: c.ctx, r: io.TeeReader(f, sum), log: slog.New(slog.DiscardHandler)}
	buf := bufio.NewReaderSize(in, 256<<10)
	var restored error
	if newest {
		_, format, err := readSnapshotHead(buf)
		if err == nil {
			err = (&fsm{newest: formatNewest}).reads(format)
		}
		if err == nil {
			err = c.m.Restore(buf)
		}
		restored = err
	}
	if _, err := io.Copy(io.Discard, buf); err != nil {
		return err
	}
	if in.n != d.Size || string(sum.Sum(nil)) != string(d.CRC) {
		return errors.New("it is damaged: its checksum does not match")
	}
	return restored
}

// log verifies the log, and applies what follows the snapshot.
func (c *checker) log() {
	l, err := raftlog.Check(c.ctx, filepath.Join(c.dir, walFolder), c.lazy, c.entry)
	c.Mended = append(c.Mended, l.Mended...)
	switch {
	case err != nil:
		c.fault("%v", err)
		return
	case l.None && !c.began:
		c.line("log: none, the server was never started")
		return
	case l.None:
		c.fault("the log: %v", raftlog.ErrNoLog)
		return
	case l.First == 0 && l.Term > 1 && c.snap == 0:
		c.fault("the log is empty, and this server has voted in term %d", l.Term)
	case l.First > c.snap+1:
		c.fault("%v", errMissing(c.snap+1, l.First))
	case l.First > 0 && l.Last < c.snap:
		c.Mended = append(c.Mended, fmt.Sprintf("the log ends with entry %d, before the snapshot: the disk lost what it said was written, and acknowledged changes may be missing", l.Last))
	}
	if c.id != "" && l.Owner != "" && l.Owner != c.id {
		c.fault("the log: it is that of server %s, and %s says %s", l.Owner, identityFile, c.id)
	}
	if l.First > 0 {
		c.line("log: %d files, entries %d to %d, term %d", l.Files, l.First, l.Last, l.Term)
	} else {
		c.line("log: empty, term %d", l.Term)
	}
}

// entry verifies an entry of the log, and applies it if it follows the snapshot.
func (c *checker) entry(e *raft.Log) error {
	index := e.Index
	switch {
	case index > c.snap && e.Term < c.term:
		return fmt.Errorf("its term is %d, after %d", e.Term, c.term)
	case index <= c.snap && e.Type != raft.LogCommand:
		return nil
	}
	if e.Type == raft.LogCommand {
		if err := checkEnvelope(e.Data); err != nil {
			return err
		}
	}
	if index <= c.snap {
		return nil
	}
	c.last, c.term = index, e.Term
	if e.Type == raft.LogConfiguration {
		c.members = raft.DecodeConfiguration(e.Data) // the commit's checksum is right: it does not panic
	}
	if e.Type != raft.LogCommand || len(c.Faults) > 0 {
		return nil
	}
	if e.Data[0] == entryFormat {
		_, format := envelopeTime(e.Data)
		return (&fsm{newest: formatNewest}).reads(format)
	}
	if e.Data[0] == entryIncarnation {
		i, err := parseIncarnation(e.Data)
		c.line("entry %d: incarnation %v begins", index, i)
		return err
	}
	if now, _ := envelopeTime(e.Data); now < c.time {
		return fmt.Errorf("its log time is %d, after %d", now, c.time)
	}
	unknown := false
	err := openEnvelope(e.Data, func(now store.Time, op []byte) {
		if unknown = unknown || !c.m.Knows(op); !unknown {
			c.time = now
			c.m.Apply(now, op)
		}
	})
	if err == nil && unknown {
		err = errUnknown
	}
	return err
}
