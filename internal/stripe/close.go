package stripe

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// The waits of Close: for what was proposed, on a disk that may not answer, and
// then for everything under way to end, which on a busy machine takes a while.
const (
	closePatience = time.Second
	endPatience   = 4 * time.Second
)

// lostPatience bounds the time in which Close lists what a split brain has lost.
const lostPatience = 10 * time.Minute

// Close stops taking proposals, fails those that wait with ErrStopping, and
// closes log and snapshots. Everything acknowledged is safe. With a disk that
// does not answer it gives up after five seconds and says so; the data root stays
// locked as long as the process lives.
func (s *Stripe) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Stripe) close() error {
	s.closing.Store(true)
	s.changed()
	for _, b := range s.queue.close() {
		b.answer(nil, errStopping)
	}
	// What was proposed is awaited before raft ends: raft forgets to answer some.
	within(closePatience, s.queue.idle)
	close(s.stop)
	s.contact.close()
	if s.journal != nil {
		s.journal.Release()
	}
	if s.group != nil {
		s.group.Close()
	}
	patience := endPatience
	if s.pair != nil && s.pair.isLost() {
		patience = lostPatience
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.confirmer.await()
		s.raft.Shutdown().Error()
		s.giveUp()
		s.work.Wait()
		if s.group != nil {
			s.group.work.Wait()
		}
		if s.pair != nil && s.pair.isLost() {
			if err := s.pair.reportLost(); err != nil {
				s.log.Error("the changes that are lost can't be listed, and nothing is set aside", "error", err)
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		s.giveUp()
		if e := s.ill.Load(); e != nil {
			return errors.New("close the stripe: the disk does not answer: " + e.Text)
		}
		return fmt.Errorf("close the stripe: not all that was under way has ended within %v: the disk or another server does not answer", patience)
	}
	return s.closeFiles()
}

// giveUp answers the batch that raft did not answer.
func (s *Stripe) giveUp() {
	if b := s.fsm.flight.Swap(nil); b != nil {
		b.answer(nil, s.proposalError(raft.ErrRaftShutdown))
	}
}

func (s *Stripe) closeFiles() error {
	var errs []error
	if s.journal != nil {
		errs = append(errs, s.journal.Close())
	}
	if errors.Join(errs...) == nil && s.ill.Load() == nil {
		s.unmarkRunning()
	}
	if s.root != nil {
		errs = append(errs, s.root.close())
	}
	return errors.Join(errs...)
}

// within polls until ok or until the time is up.
func within(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
