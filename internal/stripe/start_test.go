package stripe

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// interrupted is a ledger whose restore is under way when the start is given up.
type interrupted struct {
	*ledger
	giveUp context.CancelFunc
}

func (m *interrupted) Restore(r io.Reader) error {
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		return err
	}
	m.giveUp()
	_, err := io.ReadAll(r)
	return err
}

// A server that is told to stop while it restores a long snapshot gives up at
// once, and leaves everything as it was.
func TestAStartIsGivenUpWithItsContext(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{})
	form(t, s)
	want := numbered("op", 50)
	for i, op := range want {
		must(t, s, op)
		if i == 20 || i == 40 { // two: raft would go on with the older one
			if err := s.snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Close()

	ctx, giveUp := context.WithCancel(t.Context())
	began := time.Now()
	_, err := open(Config{Dir: dir, Durability: EveryWrite, Logger: testLog(t)}, &interrupted{&ledger{}, giveUp}, parts{starting: ctx})
	if !errors.Is(err, context.Canceled) || time.Since(began) > 30*time.Second {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}

	s, l := start(t, Config{Dir: dir}, parts{}) // the folder is free again
	form(t, s)
	if got := l.list(); !slices.Equal(got, want) {
		t.Fatalf("%d operations of %d", len(got), len(want))
	}
}

// Nor is a log called damaged because a server is told to stop while it verifies its files.
func TestAStartIsGivenUpBeforeItsLogIsVerified(t *testing.T) {
	t.Parallel()
	dir, ops := writtenInFiles(t, 600)
	ctx, giveUp := context.WithCancel(t.Context())
	giveUp()
	_, err := open(Config{Dir: dir, Durability: EveryWrite, Logger: testLog(t)}, &ledger{}, parts{starting: ctx})
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "damage") || strings.Contains(err.Error(), "restore") {
		t.Fatal(err)
	}
	if got, err := opened(t, dir); err != nil || len(got) != len(ops)+1 {
		t.Fatalf("%d operations of %d, %v", len(got), len(ops)+1, err)
	}
}

// vast is a store whose snapshot is so large that it is never read to its end
// before the test allows it.
type vast struct {
	raft.SnapshotStore
	allow  chan struct{}
	closed chan struct{}
}

func (e vast) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	<-e.allow
	return &raft.SnapshotMeta{}, e, nil
}

func (e vast) Read([]byte) (int, error) { return 0, io.EOF }
func (e vast) Close() error             { close(e.closed); return nil }

// Raft's check of a snapshot's sum holds up nobody who gives up, and leaves no
// open file behind.
func TestVerifyingASnapshotIsGivenUpToo(t *testing.T) {
	ctx, giveUp := context.WithCancel(t.Context())
	e := vast{allow: make(chan struct{}), closed: make(chan struct{})}
	failed := make(chan error)
	go func() {
		_, _, err := snapshots{SnapshotStore: e, starting: ctx}.Open("x")
		failed <- err
	}()
	giveUp()
	select {
	case err := <-failed:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits for the whole file")
	}
	close(e.allow)
	select {
	case <-e.closed:
	case <-time.After(time.Minute):
		t.Error("the file stays open")
	}
}
