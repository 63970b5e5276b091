package stripe

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func (l LostChange) deleted() string {
	if l.Ended != "deleted" || l.Dataset != "redis" {
		return ""
	}
	return l.Key
}

// Keys that were deleted by a server that was alone are in the list of what is lost
// there: also those of before a snapshot and a restart, each once, and none that both
// servers had deleted.
func TestPairListsDeletedKeys(t *testing.T) {
	t.Parallel()
	r, _, _ := newPair(t, EveryWrite)
	r.do("delete of both") // noted, as it might be in flight when the other one is lost
	r.synced()             // a busy machine may have parted them for a moment
	a, b := r.without()
	r.do("delete before the snapshot")
	r.snapshot(a)
	r.do("delete twice")
	r.down(a)
	r.start(a)
	r.until("it goes on", func() bool { return r.leads(a) })
	r.do("delete twice")
	var got []string
	for _, l := range r.sendsHome(a, b, "delete on the side that is kept") {
		if key := l.deleted(); key != "" {
			got = append(got, key)
		}
	}
	slices.Sort(got)
	if want := []string{"before the snapshot", "twice"}; !slices.Equal(got, want) {
		t.Errorf("deleted on the losing side: %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(r.dirs[a], deletedFile)); err == nil {
		t.Error("the server that has joined anew still has the old one's file")
	}
}

// What is noted has an end, and says so.
func TestDeletionsAreBounded(t *testing.T) {
	for what, size := range map[string]int{"many": 1, "long": 1024} {
		t.Run(what, func(t *testing.T) {
			var d deletions
			for i := range uint64(maxDeleted + 10) {
				d.note(i, [][]byte{fmt.Appendf(bytes.Repeat([]byte{'k'}, size), "%d", i)})
			}
			if d.More < 10 || d.bytes > maxDeletedBytes || len(d.Keys) > maxDeleted || d.fault() == "" {
				t.Errorf("%d keys, %d bytes, %d more: %q", len(d.Keys), d.bytes, d.More, d.fault())
			}
			dir := t.TempDir()
			if err := d.write(dir); err != nil {
				t.Fatal(err)
			}
			if again := readDeletions(dir, testLog(t)); again.More != d.More || again.bytes != d.bytes || len(again.Keys) != len(d.Keys) {
				t.Errorf("read back: %d keys, %d bytes, %d more", len(again.Keys), again.bytes, again.More)
			}
			d.forget()
			if err := d.write(dir); err != nil || d.fault() != "" {
				t.Error(err, d.fault())
			}
			if list, _ := os.ReadDir(dir); len(list) > 0 {
				t.Errorf("left behind: %v", list)
			}
			if err := os.WriteFile(filepath.Join(dir, deletedFile), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			if d := readDeletions(dir, testLog(t)); d.fault() == "" {
				t.Error("a damaged file is taken for a complete list")
			}
		})
	}
}
