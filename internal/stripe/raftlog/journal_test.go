package raftlog

import (
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Raft panics where its term cannot be kept, so the writer of terms waits.
func TestTheTermWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		files := Files{Dir: t.TempDir(), SyncDir: noSync}.Failing(func(bool) error {
			if full.Load() {
				return syscall.EIO
			}
			return nil
		})
		var ill error
		j, err := Open(Options{Files: files, Changed: func(err error) { ill = err }})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		j.Started()
		full.Store(true)
		j.mu.Lock() // as a repair leaves it that could not open the log again
		j.end(j.wal)
		j.wal = nil
		j.mu.Unlock()
		var kept atomic.Bool
		go func() {
			if err := j.SetUint64([]byte("term"), 7); err != nil {
				t.Error(err)
			}
			kept.Store(true)
		}()
		time.Sleep(2 * probeInterval)
		synctest.Wait()
		if ill == nil || kept.Load() {
			t.Fatalf("the disk is ill: %v; the term was kept: %v", ill, kept.Load())
		}
		full.Store(false)
		time.Sleep(probeInterval)
		synctest.Wait()
		if ill != nil || !kept.Load() {
			t.Fatalf("the disk is ill: %v; the term was kept: %v", ill, kept.Load())
		}
		if got, err := j.GetUint64([]byte("term")); got != 7 || err != nil {
			t.Errorf("kept %d, %v", got, err)
		}
	})
}
