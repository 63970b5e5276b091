package stripe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// received is a snapshot that another server sends. It is verified while it comes in:
// raft drops the old state before it restores a new one, and a snapshot that turns out to be
// damaged then would leave nothing. What a server writes itself is not verified: Persist
// writes beneath it.
type received struct {
	raft.SnapshotSink
	f   *fsm
	own bool // it is none: see Persist

	began  time.Time
	size   int64
	w      *io.PipeWriter // nil until the first Write
	result chan error
}

// Write implements raft.SnapshotSink. It fails as soon as damage shows.
func (r *received) Write(b []byte) (int, error) {
	if r.w == nil {
		var pr *io.PipeReader
		pr, r.w = io.Pipe()
		r.began = time.Now()
		r.result = make(chan error, 1)
		go func() { // until Close or Cancel
			err := r.f.verify(pr)
			pr.CloseWithError(err)
			r.result <- err
		}()
	}
	if _, err := r.w.Write(b); err != nil {
		return 0, err
	}
	r.size += int64(len(b))
	return r.SnapshotSink.Write(b)
}

// Close implements raft.SnapshotSink. Where it returns an error there is no snapshot.
func (r *received) Close() error {
	if r.own {
		return r.SnapshotSink.Close()
	}
	err := errors.New("a snapshot without content")
	if r.w != nil {
		r.w.Close()
		err = <-r.result
	}
	if err != nil {
		return errors.Join(fmt.Errorf("the snapshot that was sent is refused: %w", err), r.SnapshotSink.Cancel())
	}
	r.f.arrived.Store(arrivedAs(r.ID(), r.size, time.Since(r.began)))
	return r.SnapshotSink.Close()
}

// received returns what is known of a snapshot that another server sent; nil where it is none.
func (f *fsm) received(id string) *arrival {
	if a := f.arrived.Load(); a != nil && a.id == id {
		return a
	}
	return nil
}

// Cancel implements raft.SnapshotSink.
func (r *received) Cancel() error {
	if r.w != nil {
		r.w.CloseWithError(errors.New("cancelled"))
		<-r.result
	}
	return r.SnapshotSink.Cancel()
}

// verify reports whether r is a snapshot that Restore can read.
func (f *fsm) verify(r io.Reader) error {
	buf := bufio.NewReaderSize(r, 64<<10)
	if _, _, err := f.readHead(buf); err != nil {
		return err
	}
	return f.m.Verify(buf)
}

// insane says why raft must not get a message of another server: it would end the
// process, or give up what this server has. nil: it may.
func (s *Stripe) insane(command any) error {
	err := s.impossible(command)
	if err != nil {
		s.group.complain("insane", "a server of the stripe sent what can't be: it is refused", "error", err)
	}
	return err
}

func (s *Stripe) impossible(command any) error {
	switch m := command.(type) {
	case *raft.InstallSnapshotRequest:
		// A pair's servers may each have gone on alone; what that means is settled elsewhere.
		if applied := s.fsm.applied.Load(); s.pair == nil && m.LastLogIndex < applied {
			return fmt.Errorf("a snapshot up to entry %d, and this server has applied entry %d", m.LastLogIndex, applied)
		}
		return decodable(m.Configuration)
	case *raft.AppendEntriesRequest:
		for _, e := range m.Entries {
			if e.Type == raft.LogConfiguration {
				if err := decodable(e.Data); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// decodable is an error where b is no configuration: raft would panic at it or, where bytes by chance are
// one without voters, have nobody left to elect.
func decodable(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a configuration that is none: %v", p)
		}
	}()
	voters, seen := 0, map[raft.ServerID]bool{}
	for _, m := range raft.DecodeConfiguration(b).Servers {
		if m.ID == "" || m.Address == "" || seen[m.ID] {
			return fmt.Errorf("a configuration that is none: server %q at %q", m.ID, m.Address)
		}
		seen[m.ID] = true
		if m.Suffrage == raft.Voter {
			voters++
		}
	}
	if voters == 0 {
		return errors.New("a configuration that is none: no server votes")
	}
	return nil
}
