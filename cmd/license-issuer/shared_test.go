package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestClonesThatStartAtOnceGetOneKey(t *testing.T) {
	dir := t.TempDir()
	shared := filepath.Join(dir, "state", "dev")
	clone := func(i int) string { return filepath.Join(dir, fmt.Sprint("clone", i)) }
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if err := ensureDev(io.Discard, clone(i), shared, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	want, err := devKeyID(shared)
	if err != nil || want == "" {
		t.Fatalf("shared key is %q (%v)", want, err)
	}
	for i := range 8 {
		if id, err := devKeyID(clone(i)); err != nil || id != want {
			t.Errorf("clone %d has key %q (%v), want %q", i, id, err, want)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(shared)); err != nil || len(entries) != 1 {
		t.Errorf("beside the shared folder was left: %v (%v)", entries, err)
	}
}
