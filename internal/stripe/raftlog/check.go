package raftlog

import (
	"context"
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
)

// lockPatience is how long Check waits for the log's index.
const lockPatience = 2 * time.Second

// Checked is what Check has found.
type Checked struct {
	None        bool     // there is no log: no server was started here
	Files       int      // of the log
	First, Last uint64   // indexes of its entries; First is 0 where there is none
	Term        uint64   // raft's
	Owner       string   // see Files; "" where it was not noted
	Mended      []string // what Open will put in order by itself
}

// Check reads the log in dir, which no server uses, changes nothing, and calls entry
// for each entry in order. lazy says that the log was written with Lazy.
// It ends with the first thing that keeps the log from being opened, or with entry's error.
func Check(ctx context.Context, dir string, lazy bool, entry func(*raft.Log) error) (Checked, error) {
	c := &checker{ctx: ctx, dir: dir, lazy: lazy, entry: entry}
	err := c.run()
	return c.Checked, err
}

type checker struct {
	Checked
	ctx   context.Context
	dir   string
	lazy  bool
	entry func(*raft.Log) error
	begun uint64 // files with an ID below it have
}

// run verifies the log's index and files.
func (c *checker) run() error {
	in, err := readIndex(filepath.Join(c.dir, metadb.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("the log's index %q is damaged: %w", metadb.FileName, err)
	}
	files, err := filepath.Glob(filepath.Join(c.dir, "*.wal"))
	if err == nil {
		err = errNoIndex(in.list, files)
	}
	if c.None = in.list.NextSegmentID == 0; err != nil || c.None {
		return err
	}
	c.Term, c.Owner, c.Files, c.begun = in.term, in.owner, len(in.list.Segments), in.begun
	var next uint64 // the expected one
	for i, s := range in.list.Segments {
		name := segment.FileName(s)
		if i > 0 && s.BaseIndex != next {
			return fmt.Errorf("the log has a gap: file %q begins with entry %d, and the one before ends with %d", name, s.BaseIndex, next-1)
		}
		n, err := c.file(name, s, i == len(in.list.Segments)-1)
		if err != nil {
			return fmt.Errorf("log file %q: %w", name, err)
		}
		if n > 0 && c.First == 0 {
			c.First = s.MinIndex
		}
		next = s.BaseIndex + n
		if !s.SealTime.IsZero() {
			next = s.MaxIndex + 1
		}
	}
	if c.First > 0 {
		c.Last = next - 1
	}
	return nil
}

// index is raft-wal's list of files, raft's term, and what is noted at begunKey and ownerKey.
type index struct {
	list  types.PersistentState
	term  uint64
	begun uint64
	owner string
}

// readIndex reads it from its database.
func readIndex(path string) (in index, err error) {
	if err := verifyIndex(path); err != nil {
		return in, err
	}
	defer func() { // it panics on some damage
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: lockPatience})
	if err != nil {
		return in, err
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket([]byte(metadb.MetaBucket)).Get([]byte(metadb.MetaKey)); b != nil {
			if err := json.Unmarshal(b, &in.list); err != nil {
				return err
			}
		}
		stable := tx.Bucket([]byte(metadb.StableBucket))
		if b := stable.Get([]byte("CurrentTerm")); len(b) == 8 {
			in.term = binary.LittleEndian.Uint64(b)
		}
		in.owner = string(stable.Get(ownerKey))
		in.begun, err = begunBelow(stable.Get(begunKey))
		return err
	})
	return in, err
}

// file verifies one file of the log and returns how many entries it has.
func (c *checker) file(name string, s types.SegmentInfo, tail bool) (uint64, error) {
	f, err := os.Open(filepath.Join(c.dir, name))
	begun := s.ID < c.begun
	if tail && begun && errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("it %w", errGone)
	}
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
	if short := cutShort(size, s); short != nil && !sealed {
		if good.end > 0 || begun {
			return 0, fmt.Errorf("it %w", short)
		}
		c.Mended = append(c.Mended, fmt.Sprintf("log file %q was being made: it is made anew", name))
		return 0, nil
	}
	if good.end == 0 && begun && !sealed {
		return 0, fmt.Errorf("it %w", errWiped)
	}
	if end := lastNonZero(b); end > good.end {
		if sealed || !c.lazy && goodCommit(b[good.end:end]) {
			return 0, fmt.Errorf("it is damaged at byte %d, and acknowledged entries follow", good.end)
		}
		c.Mended = append(c.Mended, fmt.Sprintf("the last %d bytes of log file %q are a write that a crash cut off: it was not acknowledged, and is taken off", end-good.end, name))
	}
	if good.end > 0 && (binary.LittleEndian.Uint64(b[8:]) != s.BaseIndex || binary.LittleEndian.Uint64(b[16:]) != s.ID) {
		return 0, errors.New("its head names another file")
	}
	last := s.BaseIndex + uint64(good.entries) - 1
	if sealed {
		if err := sealedWhole(good, s); err != nil {
			return 0, err
		}
		last = s.MaxIndex
	}
	return uint64(good.entries), c.entries(b[:good.end], s, last)
}

// entries reads the entries of a file whose commits are good.
func (c *checker) entries(b []byte, s types.SegmentInfo, last uint64) error {
	index := s.BaseIndex
	for off := walHeader; off+frameAlign <= len(b) && index <= last; {
		kind, size := b[off], int(binary.LittleEndian.Uint32(b[off+4:]))
		if kind == segment.FrameCommit {
			size = 0
		}
		if kind == segment.FrameEntry {
			if index >= s.MinIndex {
				if err := c.read(index, b[off+frameAlign:off+frameAlign+size]); err != nil {
					return fmt.Errorf("entry %d: %w", index, err)
				}
			}
			index++
		}
		off += frameAlign + (size+frameAlign-1)/frameAlign*frameAlign
	}
	return c.ctx.Err()
}

func (c *checker) read(index uint64, b []byte) error {
	var e raft.Log
	if err := (&wal.BinaryCodec{}).Decode(b, &e); err != nil {
		return err
	}
	if e.Index != index {
		return fmt.Errorf("it is entry %d", e.Index)
	}
	return c.entry(&e)
}
