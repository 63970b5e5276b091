package raftlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The file format of raft-wal v0.4.2 (its segment/format.go), as far as it is
// needed here: a header, then frames aligned to frameAlign, each with a head of
// the same size: a type byte, three zeros, and the payload's length or, in a
// commit frame, the CRC-32C of all since the commit before.
const (
	walHeader  = 32
	frameAlign = 8
)

// mendTail brings the log's last file into a form that raft-wal opens rightly.
// raft-wal v0.4.2 verifies only the last commit of a file, takes a damaged
// frame in the midst of acknowledged ones for the end of the log, and refuses
// every write to a file that a crash left between its sealing and the note
// about it. So all commits are verified here first:
//
//   - what follows the last good commit is a write that a crash cut off, which
//     nobody was told had succeeded: it is erased, unless a good commit follows
//     it. Then the file is damaged, and that is an error;
//   - a file that was sealed is noted as sealed, and the next one is listed;
//   - a file that has begun (see begunKey), and is gone or has no good commit, is an error.
//
// With Lazy, several unsynced writes may be damaged in any order when the
// machine crashes, so the log ends at the first damage whatever follows.
//
// What was found good is synced before anybody builds on it: a process that was
// killed between a write and its sync leaves it in the system's memory only.
//
// It returns the files before the last one, which it does not read, and below which ID all have begun.
func (l Files) mendTail(log *slog.Logger) (sealed []types.SegmentInfo, begun uint64, err error) {
	meta := l.Meta()
	state, err := meta.Load(l.Dir)
	if err != nil {
		return nil, 0, err
	}
	defer meta.Close()
	files, err := l.VFS.ListDir(l.Dir)
	if err == nil {
		err = errNoIndex(state, files)
	}
	if err == nil && l.Needed && state.NextSegmentID == 0 {
		err = ErrNoLog
	}
	if err == nil {
		err = l.own(meta)
	}
	if err != nil {
		return nil, 0, err
	}
	noted, err := meta.GetStable(begunKey)
	if err == nil {
		begun, err = begunBelow(noted)
	}
	if err != nil {
		return nil, 0, err
	}
	n := len(state.Segments)
	if n == 0 || !state.Segments[n-1].SealTime.IsZero() {
		return state.Segments, begun, nil
	}
	sealed = slices.Clone(state.Segments[:n-1])
	return sealed, begun, l.mendFile(&state, begun, meta, log)
}

// mendFile mends the last file of the list, which was not sealed.
func (l Files) mendFile(state *types.PersistentState, below uint64, meta types.MetaStore, log *slog.Logger) (err error) {
	tail := &state.Segments[len(state.Segments)-1]
	name, begun := segment.FileName(*tail), tail.ID < below
	f, err := l.VFS.OpenWriter(l.Dir, name)
	if errors.Is(err, os.ErrNotExist) && begun {
		return fmt.Errorf("file %q %w", name, errGone)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil // a crash before the file was made: raft-wal makes it
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := os.Stat(filepath.Join(l.Dir, name))
	if err != nil {
		return err
	}
	b, err := readUsed(f, info.Size())
	if err != nil {
		return err
	}
	found := walk(b)
	if short := cutShort(info.Size(), *tail); short != nil {
		if found.end > 0 || begun {
			return fmt.Errorf("file %q %w", name, short)
		}
		log.Warn("a file of the log that was being made is made anew", "file", name)
		return l.VFS.Delete(l.Dir, name) // raft-wal would go on in it as it is
	}
	if found.end == 0 && begun {
		return fmt.Errorf("file %q %w", name, errWiped)
	}
	if end := lastNonZero(b); end > found.end {
		if !l.Lazy && goodCommit(b[found.end:end]) {
			return fmt.Errorf("file %q is damaged at byte %d, and acknowledged entries follow", name, found.end)
		}
		log.Warn("a write that was cut off by a crash is taken off the log's end", "file", name, "bytes", end-found.end)
		if _, err := f.WriteAt(make([]byte, end-found.end), int64(found.end)); err != nil {
			return err
		}
	}
	if err := errors.Join(f.Sync(), l.SyncDir(l.Dir)); err != nil {
		return err
	}
	if found.end > 0 && !begun { // others may count on what is in it before it is written again
		if err := noteBegun(meta, tail.ID); err != nil {
			return err
		}
	}
	if found.index == 0 {
		return nil
	}
	now := time.Now()
	tail.SealTime, tail.IndexStart = now, uint64(found.index)
	tail.MaxIndex = tail.BaseIndex + uint64(found.entries) - 1
	state.Segments = append(state.Segments, types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: tail.MaxIndex + 1, MinIndex: tail.MaxIndex + 1,
		SizeLimit: uint32(l.Size), Codec: wal.CodecBinaryV1, CreateTime: now,
	})
	state.NextSegmentID++
	return meta.CommitState(*state)
}

// cutShort returns an error, which goes on behind a file's name, where it is not as large as it
// was made: before anything is written to it, and when the first commit is synced.
func cutShort(size int64, s types.SegmentInfo) error {
	if size >= int64(s.SizeLimit) {
		return nil
	}
	return fmt.Errorf("is cut short: it has %d bytes, and was made with %d", size, s.SizeLimit)
}

// VerifyFrom verifies what mendTail leaves out, the commits of the files before the last one,
// as far as entries from index on are in them. raft-wal verifies none of them ever, and takes
// a flipped bit in the head of an entry for what stands there. It is called before Started.
func (j *Journal) VerifyFrom(ctx context.Context, index uint64) error {
	var buf []byte
	for _, s := range j.sealed {
		if s.MaxIndex < index {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := segment.FileName(s)
		var err error
		if buf, err = verifySealed(filepath.Join(j.o.Dir, name), s, buf); err != nil {
			return fmt.Errorf("file %q: %w", name, err)
		}
	}
	j.sealed = nil
	return nil
}

// verifySealed reads the file into buf, or a larger one, and returns that.
func verifySealed(path string, s types.SegmentInfo, buf []byte) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := slices.Grow(buf[:0], int(info.Size()))[:info.Size()]
	if err := readFull(f, b, 0); err != nil {
		return nil, err
	}
	found := walk(b)
	if end := lastNonZero(b); end > found.end {
		return nil, fmt.Errorf("it is damaged at byte %d, and acknowledged entries follow", found.end)
	}
	return b, sealedWhole(found, s)
}

// sealedWhole returns an error where a sealed file has not all that it had.
func sealedWhole(found walked, s types.SegmentInfo) error {
	if last := s.BaseIndex + uint64(found.entries) - 1; found.index == 0 || uint64(found.index) != s.IndexStart || s.MaxIndex > last {
		return fmt.Errorf("it ends too early, with entry %d of %d", last, s.MaxIndex)
	}
	return nil
}

// walked is what a file holds up to its last good commit.
type walked struct {
	end     int // behind the last good commit; 0 where there is none
	entries int // committed
	index   int // where the committed index of a sealed file starts, or 0
}

// walk follows the frames of a file for as long as every commit is good.
func walk(b []byte) (good walked) {
	at := good
	for off := walHeader; off+frameAlign <= len(b); {
		size := 0
		switch head := b[off : off+frameAlign]; head[0] {
		case segment.FrameEntry, segment.FrameIndex:
			size = int(binary.LittleEndian.Uint32(head[4:]))
			if head[0] == segment.FrameEntry {
				at.entries++
			} else {
				at.index = off + frameAlign
			}
		case segment.FrameCommit:
			if crc32.Checksum(b[good.end:off], castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
				return good
			}
			at.end = off + frameAlign
			good = at
		default:
			return good
		}
		off += frameAlign + (size+frameAlign-1)/frameAlign*frameAlign
	}
	return good
}

// readUsed reads a file of that size without the zeros at its end: files are
// allocated whole, so mostly there is little else.
func readUsed(f io.ReaderAt, size int64) ([]byte, error) {
	buf := make([]byte, 128<<10)
	for size > 0 {
		start := (size - 1) / int64(len(buf)) * int64(len(buf))
		part := buf[:size-start]
		if err := readFull(f, part, start); err != nil {
			return nil, err
		}
		if n := lastNonZero(part); n > 0 {
			size = min(size, start+int64(n+frameAlign-1)/frameAlign*frameAlign) // whole frames
			break
		}
		size = start
	}
	b := make([]byte, size)
	return b, readFull(f, b, 0)
}

func readFull(f io.ReaderAt, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil // an EOF right behind it is none
	}
	return err
}

// lastNonZero returns the length of b without the zeros at its end.
func lastNonZero(b []byte) int {
	var zeros [4096]byte
	n := len(b)
	for n >= len(zeros) && bytes.Equal(b[n-len(zeros):n], zeros[:]) {
		n -= len(zeros)
	}
	for n > 0 && b[n-1] == 0 {
		n--
	}
	return n
}

// goodCommit reports whether b, which begins at a frame, has somewhere a commit
// whose checksum is right for what lies between it and a commit before it.
func goodCommit(b []byte) bool {
	const reach = 8 // commits to look back: payload may look like one
	var starts []int
	for off := 0; off+frameAlign <= len(b); off += frameAlign {
		head := b[off : off+frameAlign]
		if head[0] != segment.FrameCommit || head[1]|head[2]|head[3] != 0 {
			continue
		}
		for _, start := range starts[max(0, len(starts)-reach):] {
			if start < off && crc32.Checksum(b[start:off], castagnoli) == binary.LittleEndian.Uint32(head[4:]) {
				return true
			}
		}
		starts = append(starts, off+frameAlign)
	}
	return false
}
