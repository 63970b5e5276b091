package stripe

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// What is written of a snapshot is sent to the disk all the time: that depends on where
// raft writes it, and must not change what it writes.
func TestASnapshotIsSentToTheDiskAllTheTime(t *testing.T) {
	dir := t.TempDir()
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, hclogTo(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	in := snapshots{SnapshotStore: files, dir: filepath.Join(dir, snapFolder)}
	made, err := in.Create(raft.SnapshotVersionMax, 1, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	sink := made.(snapshotSink)
	if sink.steady == nil {
		t.Fatal("the file that raft writes is not where it was")
	}
	piece := make([]byte, steadyBytes/2+1)
	for range 5 {
		if _, err := sink.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if want := int64(4 * len(piece)); sink.steady.sent != want || sink.steady.size != want+int64(len(piece)) {
		t.Errorf("sent are %d of %d bytes, want %d", sink.steady.sent, sink.steady.size, want)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sink.steady.f.Close(); err == nil {
		t.Error("its file was still open")
	}
	_, r, err := files.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); err != nil || n != int64(5*len(piece)) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if s := openSteady(filepath.Join(dir, "missing")); s != nil {
		t.Error("a file that is not there is written")
	}
	var none *steady
	none.wrote(steadyBytes)
	none.close()
	if _, err := os.Stat(filepath.Join(dir, snapFolder, sink.ID())); err != nil {
		t.Error(err)
	}
}
