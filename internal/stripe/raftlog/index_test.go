package raftlog

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft-wal/metadb"
	"pgregory.net/rapid"
)

// Law: of whatever page of the index is lost, check and start are told, and neither ends the
// process or goes on for ever; or nothing of the log is missed.
func TestPagesOfTheIndexAreLost(t *testing.T) {
	t.Parallel()
	dir, data, _ := writtenInFiles(t, 150, false)
	path := filepath.Join(dir, metadb.FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	try := func(what string, b []byte) {
		t.Helper()
		dir := copied(t, dir)
		if err := os.WriteFile(filepath.Join(dir, metadb.FileName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := agreed(t, dir, false)
		if err != nil {
			refused++
		} else if !slices.Equal(got, data) {
			t.Errorf("%s: opened with %d of %d entries", what, len(got), len(data))
		}
	}
	size := os.Getpagesize()
	pages := len(whole) / size
	for page := range pages {
		zeroed := slices.Clone(whole)
		clear(zeroed[page*size : (page+1)*size])
		try(fmt.Sprintf("page %d is zeros", page), zeroed)
		try(fmt.Sprintf("cut at page %d", page), whole[:page*size])
		for other := range pages {
			moved := slices.Clone(whole)
			copy(moved[page*size:], whole[other*size:(other+1)*size])
			try(fmt.Sprintf("page %d is page %d", page, other), moved)
		}
	}
	if refused < pages {
		t.Errorf("only %d damages were found", refused)
	}
}

// Law: verifying never panics, and ends.
func TestVerifyAnyIndex(t *testing.T) {
	t.Parallel()
	dir, _, _ := writtenInFiles(t, 150, false)
	whole, err := os.ReadFile(filepath.Join(dir, metadb.FileName))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "index")
	rapid.Check(t, func(t *rapid.T) {
		b := slices.Clone(whole)
		size := os.Getpagesize()
		for range rapid.IntRange(0, 4).Draw(t, "damages") {
			at := rapid.IntRange(0, len(b)/size-1).Draw(t, "page")*size + rapid.IntRange(0, 127).Draw(t, "byte") // pages begin with what tells of others
			b[at] = rapid.Byte().Draw(t, "value")
		}
		if err := os.WriteFile(path, b[:rapid.IntRange(len(b)/2, len(b)).Draw(t, "size")], 0o600); err != nil {
			t.Fatal(err)
		}
		_ = verifyIndex(path)
	})
}

// copied returns a copy of the folder.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}
