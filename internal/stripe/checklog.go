package stripe

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"

	"github.com/terracotta-go/terracotta/internal/store"
)

// lockPatience is how long Check waits for the log's index.
const lockPatience = 2 * time.Second

// log verifies the log's index and files, and applies what follows the snapshot.
func (c *checker) log() {
	dir := filepath.Join(c.dir, walFolder)
	list, term, err := readIndex(filepath.Join(dir, metadb.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		if files, _ := filepath.Glob(filepath.Join(dir, "*.wal")); len(files) > 0 || c.snap > 0 {
			c.fault("the log's index %q is missing", metadb.FileName)
			return
		}
		c.line("log: none, the server was never started")
		return
	}
	if err != nil {
		c.fault("the log's index %q is damaged: %v", metadb.FileName, err)
		return
	}
	var first, next uint64 // of the entries there are; the expected next one
	for i, s := range list.Segments {
		if i > 0 && s.BaseIndex != next {
			c.fault("the log has a gap: file %q begins with entry %d, and the one before ends with %d", segment.FileName(s), s.BaseIndex, next-1)
		}
		n, err := c.file(dir, s, i == len(list.Segments)-1)
		if err != nil {
			c.fault("log file %q: %v", segment.FileName(s), err)
			return
		}
		if n > 0 && first == 0 {
			first = s.MinIndex
		}
		next = s.BaseIndex + n
		if !s.SealTime.IsZero() {
			next = s.MaxIndex + 1
		}
	}
	switch {
	case first == 0 && term > 1 && c.snap == 0:
		c.fault("the log is empty, and this server has voted in term %d", term)
	case first > c.snap+1:
		c.fault("entries %d to %d are missing between the snapshot and the log", c.snap+1, first-1)
	case first > 0 && next <= c.snap:
		c.Mended = append(c.Mended, fmt.Sprintf("the log ends with entry %d, before the snapshot: the disk lost what it said was written, and acknowledged changes may be missing", next-1))
	}
	if first > 0 {
		c.line("log: %d files, entries %d to %d, term %d", len(list.Segments), first, next-1, term)
	} else {
		c.line("log: empty, term %d", term)
	}
}

// readIndex reads raft-wal's list of files and raft's term from their database.
func readIndex(path string) (list types.PersistentState, term uint64, err error) {
	if _, err := os.Stat(path); err != nil {
		return list, 0, err
	}
	defer func() { // it panics on some damage
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: lockPatience})
	if err != nil {
		return list, 0, err
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		var all []error
		for err := range tx.Check() {
			all = append(all, err)
		}
		if all != nil {
			return errors.Join(all...)
		}
		if b := tx.Bucket([]byte(metadb.MetaBucket)).Get([]byte(metadb.MetaKey)); b != nil {
			if err := json.Unmarshal(b, &list); err != nil {
				return err
			}
		}
		if b := tx.Bucket([]byte(metadb.StableBucket)).Get([]byte("CurrentTerm")); len(b) == 8 {
			term = binary.LittleEndian.Uint64(b)
		}
		return nil
	})
	return list, term, err
}

// file verifies one file of the log and returns how many entries it has.
func (c *checker) file(dir string, s types.SegmentInfo, tail bool) (uint64, error) {
	f, err := os.Open(filepath.Join(dir, segment.FileName(s)))
	if tail && errors.Is(err, fs.ErrNotExist) {
		return 0, nil // a crash before it was made: the start makes it
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	b, err := readUsed(f, size)
	if err != nil {
		return 0, err
	}
	good := walk(b)
	sealed := !s.SealTime.IsZero()
	if end := lastNonZero(b); end > good.end {
		if sealed || !c.lazy && goodCommit(b[good.end:end]) {
			return 0, fmt.Errorf("it is damaged at byte %d, and acknowledged entries follow", good.end)
		}
		c.Mended = append(c.Mended, fmt.Sprintf("the last %d bytes of log file %q are a write that a crash cut off: it was not acknowledged, and is taken off", end-good.end, segment.FileName(s)))
	}
	if good.end > 0 && (binary.LittleEndian.Uint64(b[8:]) != s.BaseIndex || binary.LittleEndian.Uint64(b[16:]) != s.ID) {
		return 0, errors.New("its head names another file")
	}
	last := s.BaseIndex + uint64(good.entries) - 1
	if sealed {
		if good.index == 0 || uint64(good.index) != s.IndexStart || s.MaxIndex > last {
			return 0, fmt.Errorf("it ends too early, with entry %d of %d", last, s.MaxIndex)
		}
		last = s.MaxIndex
	}
	return uint64(good.entries), c.entries(b[:good.end], s, last)
}

// entries verifies and applies the entries of a file whose commits are good.
func (c *checker) entries(b []byte, s types.SegmentInfo, last uint64) error {
	index := s.BaseIndex
	for off := walHeader; off+frameAlign <= len(b) && index <= last; {
		kind, size := b[off], int(binary.LittleEndian.Uint32(b[off+4:]))
		if kind == segment.FrameCommit {
			size = 0
		}
		if kind == segment.FrameEntry {
			if index >= s.MinIndex {
				if err := c.entry(index, b[off+frameAlign:off+frameAlign+size]); err != nil {
					return fmt.Errorf("entry %d: %w", index, err)
				}
			}
			index++
		}
		off += frameAlign + (size+frameAlign-1)/frameAlign*frameAlign
	}
	return c.ctx.Err()
}

func (c *checker) entry(index uint64, b []byte) error {
	var e raft.Log
	if err := (&wal.BinaryCodec{}).Decode(b, &e); err != nil {
		return err
	}
	switch {
	case e.Index != index:
		return fmt.Errorf("it is entry %d", e.Index)
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
