package stripe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/terracotta-go/terracotta/internal/store"
)

// The end of a session leaves a tombstone, that of a key of Redis commands nothing.
// So a pair's server that is alone notes which keys were deleted, for the list of what
// is lost should its partner have gone on as well. In memory they are those of the
// log since the last snapshot, and what lies in deletedFile beside that one.

// deletedFile is written before a snapshot is complete: the log may be cut short then.
const deletedFile = "deleted.json"

// How much is noted: what is more is only counted.
const (
	maxDeleted      = 100_000
	maxDeletedBytes = 8 << 20
)

// deletedKey is a key that was deleted.
type deletedKey struct {
	Index uint64 `json:"index"` // store index of its deletion
	Key   []byte `json:"key"`
}

// deletions are what a pair's server noted. The zero value notes. Guarded by fsm.turn,
// once the log is read.
type deletions struct {
	Format int          `json:"format"`
	Keys   []deletedKey `json:"keys"`           // in order; only ever appended to or replaced
	More   uint64       `json:"more,omitempty"` // deletions for which there was no room

	bytes int
}

// note notes keys, whose memory it does not keep.
func (d *deletions) note(index uint64, keys [][]byte) {
	for _, key := range keys {
		if len(d.Keys) >= maxDeleted || d.bytes+len(key) > maxDeletedBytes {
			d.More++
			continue
		}
		d.Keys = append(d.Keys, deletedKey{index, slices.Clone(key)})
		d.bytes += len(key)
	}
}

// forget forgets all. What was taken for a snapshot stays as it is.
func (d *deletions) forget() { *d = deletions{} }

// since calls f with each key that was deleted behind a store index, once, and returns
// the fault of the list.
func (d *deletions) since(index uint64, f func(key []byte) error) error {
	seen := map[string]bool{}
	for _, k := range d.Keys {
		if k.Index <= index || seen[string(k.Key)] {
			continue
		}
		seen[string(k.Key)] = true
		if err := f(k.Key); err != nil {
			return err
		}
	}
	return nil
}

// fault says why the list is not complete; "" where it is.
func (d *deletions) fault() string {
	if d.More == 0 {
		return ""
	}
	return fmt.Sprintf("%d more deletions of Redis keys were not noted", d.More)
}

// write makes dir's file say what d says.
func (d *deletions) write(dir string) error {
	path := filepath.Join(dir, deletedFile)
	if len(d.Keys) == 0 && d.More == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	d.Format = dataFormat
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return writeAtomic(path, b)
}

// readDeletions reads what dir's file says. A damaged one costs a part of a list
// that may never be needed, and does not keep a server from starting.
func readDeletions(dir string, log *slog.Logger) (d deletions) {
	path := filepath.Join(dir, deletedFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d
	}
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err == nil && d.Format > dataFormat {
		err = fmt.Errorf("it has format %d", d.Format)
	}
	if err != nil {
		log.Warn("which Redis keys were deleted while this server was alone can't be read", "file", path, "error", err)
		return deletions{More: 1}
	}
	for _, k := range d.Keys {
		d.bytes += len(k.Key)
	}
	return d
}

// lost calls f with all that was changed on this server behind a store index and log
// time: what is there, what ended and left a tombstone, and what was deleted.
func (p *pair) lost(since uint64, after store.Time, f func(LostChange) error) error {
	there := map[string]bool{} // Redis keys that were set again
	err := p.s.fsm.m.Changes(since, after, func(c store.Change) error {
		if c.Dataset == store.RedisDataset {
			there[string(c.Key)] = true
		}
		return f(lostChange(c))
	})
	if err != nil {
		return err
	}
	return p.s.fsm.deleted.since(since, func(key []byte) error {
		if there[string(key)] {
			return nil
		}
		return f(lostChange(store.Change{Dataset: store.RedisDataset, Key: key, Ended: "deleted"}))
	})
}
