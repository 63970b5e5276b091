package stripe

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
)

var errPowerless = errors.New("the power was cut")

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// forgetful is a disk that loses power. Of what was written to a file since its
// last Sync, every sector is afterwards as it was at some time since then; a new
// file whose folder was not synced may be gone. raft-wal's list of files is kept
// in memory, and changes at once and for good, as its database promises.
//
// It outlives the stripes that use it. After a cut everything fails until
// restore; a process that was only killed leaves what was written, unsynced.
type forgetful struct {
	real types.VFS
	rnd  *rand.Rand

	mu      sync.Mutex
	files   map[string]*memory
	list    types.PersistentState
	stable  map[string][]byte
	off     bool
	run     int // handles of former runs are dead
	cutAt   int // operations until the power is cut; 0: it is not
	syncs   int // so far
	ignore  int // mutation: the n-th Sync does nothing, and the power is cut right after it; 0: none
	ignored bool
}

// memory is what a file may be after the power was cut.
type memory struct {
	isNew   bool               // its folder was not synced since it was made
	sectors map[int64][][]byte // versions by number of the sector, the synced one first
}

func newForgetful(seed uint64) *forgetful {
	return &forgetful{real: fs.New(), rnd: rand.New(rand.NewPCG(seed, 1)), files: map[string]*memory{}, stable: map[string][]byte{}}
}

// parts are what a stripe on this disk is opened with.
func (d *forgetful) parts() parts {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run++
	h := power{d, d.run}
	return parts{trailing: 16, files: raftlog.Files{
		VFS: forgetfulFS{h}, Size: 64 << 10, SyncDir: h.syncDir,
		Meta: func() types.MetaStore { return forgetfulMeta{h} },
	}}
}

// cutIn cuts the power within the n-th operation from now.
func (d *forgetful) cutIn(n int) { d.mu.Lock(); d.cutAt = n; d.mu.Unlock() }

func (d *forgetful) isOff() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.off }

// kill ends the process that uses the disk, which keeps its power.
func (d *forgetful) kill() { d.mu.Lock(); d.run++; d.mu.Unlock() }

// restore gives the disk its power back, and shows what it has not forgotten.
func (d *forgetful) restore() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.ignored || d.rnd.IntN(4) == 0 // forget all there is to forget
	for _, path := range slices.Sorted(maps.Keys(d.files)) {
		m := d.files[path]
		if m.isNew && (all || d.rnd.IntN(2) == 0) {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		for _, n := range slices.Sorted(maps.Keys(m.sectors)) {
			version := m.sectors[n][0]
			if !all {
				version = m.sectors[n][d.rnd.IntN(len(m.sectors[n]))]
			}
			if _, err := f.WriteAt(version, n*sectorSize); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	clear(d.files)
	d.off, d.cutAt, d.run, d.ignore, d.ignored = false, 0, d.run+1, 0, false
	return nil
}

// power is what one run of a process has of the disk.
type power struct {
	*forgetful
	mine int
}

// use does an operation on the disk. The one in which the power is cut may be
// done or not, and fails in any case.
func (p power) use(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off || p.run != p.mine {
		return errPowerless
	}
	if p.cutAt > 0 {
		if p.cutAt--; p.cutAt == 0 {
			p.off = true
			if !p.ignored && p.rnd.IntN(2) == 0 {
				do()
			}
			return errPowerless
		}
	}
	return do()
}

func (p power) syncDir(string) error {
	return p.use(func() error {
		for _, m := range p.files {
			m.isNew = false
		}
		return nil
	})
}

type forgetfulFS struct{ power }

func (f forgetfulFS) ListDir(dir string) ([]string, error) { return f.real.ListDir(dir) }
func (f forgetfulFS) OpenReader(dir, name string) (types.ReadableFile, error) {
	return f.real.OpenReader(dir, name)
}

func (f forgetfulFS) Create(dir, name string, size uint64) (w types.WritableFile, err error) {
	path := filepath.Join(dir, name)
	err = f.use(func() error {
		w, err = f.real.Create(dir, name, size)
		if err == nil {
			f.files[path] = &memory{isNew: true, sectors: map[int64][][]byte{}}
		}
		return err
	})
	return forgetfulFile{w, f.power, path, true}, err
}

func (f forgetfulFS) OpenWriter(dir, name string) (w types.WritableFile, err error) {
	path := filepath.Join(dir, name)
	err = f.use(func() error {
		w, err = f.real.OpenWriter(dir, name)
		if err == nil && f.files[path] == nil {
			f.files[path] = &memory{sectors: map[int64][][]byte{}}
		}
		return err
	})
	return forgetfulFile{w, f.power, path, false}, err
}

func (f forgetfulFS) Delete(dir, name string) error {
	return f.use(func() error {
		delete(f.files, filepath.Join(dir, name))
		return os.Remove(filepath.Join(dir, name))
	})
}

type forgetfulFile struct {
	types.WritableFile
	power
	path  string
	isNew bool // its first Sync also syncs the folder, as raft-wal's own does
}

func (f forgetfulFile) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.use(func() error {
		m, last := f.files[f.path], (off+int64(len(b))-1)/sectorSize
		if m == nil {
			return os.ErrNotExist
		}
		for s := off / sectorSize; s <= last; s++ {
			if m.sectors[s] == nil {
				m.sectors[s] = [][]byte{f.sector(s)}
			}
		}
		n, err = f.WritableFile.WriteAt(b, off)
		for s := off / sectorSize; s <= last; s++ {
			m.sectors[s] = append(m.sectors[s], f.sector(s))
		}
		return err
	})
	return n, err
}

func (f forgetfulFile) sector(n int64) []byte {
	b := make([]byte, sectorSize)
	k, _ := f.WritableFile.ReadAt(b, n*sectorSize)
	return b[:k]
}

func (f forgetfulFile) Sync() error {
	return f.use(func() error {
		f.syncs++
		if f.syncs == f.ignore {
			f.ignored, f.cutAt = true, 1
			return nil
		}
		if m := f.files[f.path]; m != nil {
			clear(m.sectors)
			m.isNew = m.isNew && !f.isNew
		}
		return nil
	})
}

// forgetfulMeta is raft-wal's list of files, and what raft keeps beside the log.
type forgetfulMeta struct{ power }

func (m forgetfulMeta) Load(string) (list types.PersistentState, err error) {
	err = m.use(func() error { list = m.list; list.Segments = slices.Clone(list.Segments); return nil })
	return list, err
}

func (m forgetfulMeta) CommitState(list types.PersistentState) error {
	return m.use(func() error {
		m.list = types.PersistentState{NextSegmentID: list.NextSegmentID, Segments: slices.Clone(list.Segments)}
		return nil
	})
}

func (m forgetfulMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.stable[string(key)]), nil
}

func (m forgetfulMeta) SetStable(key, value []byte) error {
	return m.use(func() error { m.stable[string(key)] = slices.Clone(value); return nil })
}

func (m forgetfulMeta) Close() error { return nil }
