package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft-wal/types"
)

// presentFS knows which files the log has open. One that somebody removes can be written and
// read on for as long as it is open, and what is in it is gone with the process.
type presentFS struct {
	types.VFS
	mu    sync.Mutex
	files map[string]os.FileInfo // name -> as it was opened
}

func newPresentFS(vfs types.VFS) *presentFS {
	return &presentFS{VFS: vfs, files: make(map[string]os.FileInfo)}
}

// Create implements types.VFS.
func (p *presentFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := p.VFS.Create(dir, name, size)
	p.opened(dir, name)
	return f, err
}

// OpenWriter implements types.VFS.
func (p *presentFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := p.VFS.OpenWriter(dir, name)
	p.opened(dir, name)
	return f, err
}

// OpenReader implements types.VFS.
func (p *presentFS) OpenReader(dir, name string) (types.ReadableFile, error) {
	f, err := p.VFS.OpenReader(dir, name)
	p.opened(dir, name)
	return f, err
}

// Delete implements types.VFS.
func (p *presentFS) Delete(dir, name string) error {
	p.mu.Lock()
	delete(p.files, name)
	p.mu.Unlock()
	return p.VFS.Delete(dir, name)
}

// opened notes a file, where it is one of the system.
func (p *presentFS) opened(dir, name string) {
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[name] = info
}

// present returns an error where one of the files is gone, or another one has its name.
func (p *presentFS) present(dir string) error {
	p.mu.Lock()
	names := make([]string, 0, len(p.files))
	for name := range p.files {
		names = append(names, name)
	}
	p.mu.Unlock()
	for _, name := range names {
		there, err := os.Stat(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		p.mu.Lock()
		ours, still := p.files[name] // else it was removed by Delete
		p.mu.Unlock()
		if still && (err != nil || !os.SameFile(ours, there)) {
			return fmt.Errorf("file %q of the log is gone, or another one stands in its place: bring it back, or make a backup of this server at once and restore that", name)
		}
	}
	return nil
}

// Present returns an error where a file of the log is not the one that is open any more. Fail is to be told.
func (j *Journal) Present() error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.wal == nil {
		return nil
	}
	return j.files.present(j.o.Dir)
}
