package stripe

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"
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
	if !errors.Is(err, context.Canceled) || time.Since(began) > 2*time.Second {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}

	s, l := start(t, Config{Dir: dir}, parts{}) // the folder is free again
	form(t, s)
	if got := l.list(); !slices.Equal(got, want) {
		t.Fatalf("%d operations of %d", len(got), len(want))
	}
}
