package stripe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
)

// The timers while a stripe has one server. Nobody else can be active, so they
// can be as short as the work of an idle server allows: they are what a start
// waits for. With more servers heartbeats cross a network, and these grow.
const (
	soleHeartbeat = 20 * time.Millisecond // also election time-out and leader lease
	commitTimeout = 50 * time.Millisecond // only matters with followers
)

// When to take a snapshot: every snapshotEntries entries, or when the log since
// the last one has grown to snapshotBytes and to the size of that snapshot, so
// that neither a restart nor the writing of snapshots dominates.
const (
	snapshotEntries  = 32 << 10
	snapshotBytes    = 64 << 20
	snapshotInterval = 30 * time.Second // how often raft counts entries
	snapshotRetry    = 10 * time.Second // pause after a snapshot that failed
	memoryLogBytes   = 8 << 20          // instead of snapshotBytes, where a snapshot writes nothing
	snapshotsKept    = 2
	trailingLogs     = 256 // entries kept behind a snapshot; a batch may have half a mebibyte
)

func (s *Stripe) startRaft(st storage, p parts) (err error) {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(s.id)
	conf.HeartbeatTimeout = s.cfg.Timers.Heartbeat
	conf.ElectionTimeout = s.cfg.Timers.Election
	conf.LeaderLeaseTimeout = s.cfg.Timers.Lease
	conf.MaxAppendEntries = appendEntries
	conf.CommitTimeout = commitTimeout
	conf.SnapshotThreshold = snapshotEntries
	conf.SnapshotInterval = snapshotInterval
	conf.TrailingLogs = p.trailing
	conf.ShutdownOnRemove = false
	conf.NoLegacyTelemetry = true
	conf.Logger = hclogTo(s.log)

	// Nothing listens where there is one server.
	var trans raft.Transport
	stable := newTerms(st.stable)
	s.contact = newContact(s.id, sinceBoot())
	if s.cfg.several() {
		s.startGroup(p.speaks)
		network := s.newTransport(stable) // it accepts connections: there must be one only
		trans = network
		if s.cfg.pair() {
			if trans, err = s.openPair(network, p.pace); err != nil {
				return err
			}
		}
	} else {
		_, trans = raft.NewInmemTransport(raft.ServerAddress(s.id))
	}
	begin := time.Now()
	// raft panics where an entry of the log cannot be read at the start.
	defer func() {
		if p := recover(); p != nil {
			cause, ok := p.(error)
			switch {
			case s.journal != nil && s.journal.StartError() != nil:
				cause = s.journal.StartError()
			case !ok:
				cause = fmt.Errorf("%v", p)
			}
			err = damaged(s.cfg.Dir, "log", cause)
		}
	}()
	s.raft, err = raft.NewRaft(conf, s.fsm, st.logs, stable, st.snaps, trans)
	if err != nil {
		return damaged(s.cfg.Dir, "state", errors.Join(err, s.fsm.restoring))
	}
	s.confirmer = newConfirmer(s.raft.VerifyLeader, s.cfg.Timers.Heartbeat)
	if s.group != nil {
		s.confirmer.mono, s.confirmer.verify, s.confirmer.recent = s.contact.mono, s.verify, s.contact.leased
	}
	if s.journal != nil {
		s.journal.Started()
	}
	if err := s.checkState(); err != nil {
		s.raft.Shutdown().Error()
		return err
	}
	if s.group != nil {
		s.fsm.guard.Store(s.guard)
		s.group.listen()
	}
	s.log.Debug("opened the stripe", "server-id", s.id, "formed", s.formed.Load(), "last-entry", s.raft.LastIndex(), "took", time.Since(begin))
	return nil
}

// checkState looks at whether this server can go on from the state it has.
func (s *Stripe) checkState() error {
	config, err := s.configuration()
	if err != nil {
		return fmt.Errorf("read the stripe's members: %w", err)
	}
	n := len(config.Servers)
	err = isMember(config, s.id)
	switch {
	case s.group != nil && s.stripe() != "":
		// It may have been removed while it was away: it asks the others.
	case err != nil:
		return damaged(s.cfg.Dir, "state", err)
	case n > 1 && s.group == nil:
		return fmt.Errorf("data root %q is of a stripe of %d servers, and one is configured: configure all of them, or start from a backup", s.cfg.Dir, n)
	case n > 1:
		return fmt.Errorf("data root %q has state of a stripe of %d servers, and no %s: put the file back from a backup, or move the folder away to join anew", s.cfg.Dir, n, stripeFile)
	case n == 1 && s.stripe() == "": // of a version that had no stripe of several
		if err := s.belong(newNonce()); err != nil {
			return err
		}
	}
	s.formed.Store(n > 0)
	return nil
}

// isMember is an error where the state is that of another server: this one could
// never become active.
func isMember(c raft.Configuration, id string) error {
	self := func(server raft.Server) bool { return string(server.ID) == id }
	if len(c.Servers) == 0 || slices.ContainsFunc(c.Servers, self) {
		return nil
	}
	return fmt.Errorf("%s names server %s, and log and snapshots are another server's", identityFile, id)
}

// damaged says what to do about state that cannot be used.
func damaged(dir, what string, err error) error {
	if hint := diskHint(err); hint != "" {
		return explain(dir, err)
	}
	if errors.Is(err, errLater) {
		return fmt.Errorf("the %s in data root %q is of a later version: %w: start that version, or give this one another data directory", what, dir, err)
	}
	return fmt.Errorf("the %s in data root %q cannot be used: %w: restore the folder from a backup, or move it away to start empty", what, dir, err)
}

// undoBirth takes back the first half of a formation that a crash cut in two:
// term 1 is on disk, the first entry is not. No vote can have been cast in term
// 1, because whoever is in it is alone in it.
func undoBirth(j *raftlog.Journal) error {
	key := []byte(termKey)
	term, err := j.GetUint64(key)
	if err != nil || term != 1 {
		return err
	}
	if last, err := j.LastIndex(); err != nil || last > 0 {
		return err
	}
	return j.SetUint64(key, 0)
}

// Form gives birth to the stripe with this server as its first and active
// member, and returns when it is active. On a stripe that is formed it only
// waits for that.
func (s *Stripe) Form(ctx context.Context) error {
	if s.closing.Load() {
		return errStopping
	}
	if s.formed.Load() {
		return s.waitActive(ctx)
	}
	if s.group != nil {
		if err := s.checkAlone(ctx); err != nil {
			return err
		}
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.stripe() == "" || s.raft.LastIndex() == 0 {
		if err := s.belong(newNonce()); err != nil {
			return fmt.Errorf("form the stripe: %w", err)
		}
	}
	id, address := raft.ServerID(s.id), raft.ServerAddress(s.id)
	if s.group != nil {
		address = raftAddress(s.cfg.Self, s.id)
	}
	born := make(chan error, 1)
	go func() {
		born <- s.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
			Suffrage: raft.Voter, ID: id, Address: address,
		}}}).Error()
	}()
	select {
	case err := <-born:
		// Another call may have been quicker: then the stripe is formed.
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("form the stripe: %w", err)
		}
	case <-ctx.Done():
		return fmt.Errorf("form the stripe: %w", ctx.Err())
	}
	s.formed.Store(true)
	s.changed()
	s.stand() // there is nobody else to wait for
	return s.waitActive(ctx)
}

// watcher follows raft's leadership.
func (s *Stripe) watcher() {
	defer s.work.Done()
	retry := time.NewTicker(max(s.cfg.Timers.Heartbeat/2, commitTimeout))
	defer retry.Stop()
	for {
		select {
		case <-s.stop:
			return
		case lead := <-s.raft.LeaderCh():
			s.deactivate()
			if lead {
				s.activate()
			} else if !s.sole.Load() {
				s.clock.pause()
			}
			s.changed()
			s.wake()
		case <-s.hangs:
			if leads := s.leading.Load(); (leads || s.pair != nil) && s.withdraw() && leads {
				s.deactivate()
				s.clock.pause()
				s.changed()
				s.wake()
			}
		case <-s.again:
			if s.raft.State() == raft.Leader && !s.leading.Load() && !s.withdrawn.Load() {
				s.activate()
				s.changed()
			}
		case <-retry.C:
			// What hindered it may be over, and raft sees no reason to elect another.
			if s.hinders.Load() != nil && s.raft.State() == raft.Leader && !s.leading.Load() && !s.closing.Load() {
				s.activate()
			}
		}
	}
}

// deactivate ends what this server may do as the active one.
func (s *Stripe) deactivate() {
	s.leading.Store(false)
	s.contact.end()
	s.confirmer.revoke()
	s.hinders.Store(nil)
}

// becomeActive makes raft's leader try again to become the active server.
func (s *Stripe) becomeActive() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// activate makes this server the active one. Where something hinders it, raft's
// leader it stays: so it tries again, and says what it is.
func (s *Stripe) activate() {
	err := s.tryActivate()
	if err == nil || s.closing.Load() || s.raft.State() != raft.Leader {
		s.hinders.Store(nil)
		return
	}
	why := "this server is elected, and could not become active: " + err.Error()
	if old := s.hinders.Swap(&why); old == nil || *old != why {
		s.log.Warn(why)
		s.changed()
	}
}

// tryActivate makes this server the active one, once all of the log is applied.
// Where leadership is lost meanwhile, LeaderCh tells so next.
func (s *Stripe) tryActivate() error {
	config, err := s.configuration()
	if err != nil {
		return err
	}
	// From the first moment on: a passive that answers heartbeats must not seem silent
	// because the activation takes long.
	term := s.raft.CurrentTerm()
	s.contact.begin(term, config)
	if s.pair != nil {
		if err := s.pair.settle(); err != nil {
			return err
		}
	}
	if err := s.catchUp(); err != nil {
		return err
	}
	if s.fsm.damage.Load() != nil || s.diverged.Load() != nil {
		s.raft.LeadershipTransfer() // to one that can serve, if there is one
		return nil
	}
	if s.raft.CurrentTerm() != term {
		return errors.New("it was elected once more meanwhile")
	}
	s.formed.Store(true)
	s.term.Store(term)
	last, cold := store.Time(s.fsm.time.Load()), !s.served.Load() && !s.met.Load()
	if cold && s.group != nil {
		if t := s.countedElsewhere(); t > 0 { // only this server was away, and its clock may be wrong
			last, cold = max(last, t), false
		}
	}
	s.clock.start(last, cold)
	if s.group != nil {
		// An entry of its own tells the others what time it is, before any change.
		env := make([]byte, envelopeSize)
		seal(env, s.clock.read(), 0)
		if err := s.raft.Apply(env, enqueueTimeout).Error(); err != nil {
			return err
		}
	}
	first := false
	serve := func() {
		if now, err := s.configuration(); err == nil {
			config = now // a partner may have been removed meanwhile
		}
		s.contact.require(config)
		s.sole.Store(onlyVoter(config, s.id))
		first = !s.served.Swap(true)
		s.leading.Store(true)
	}
	if s.pair == nil {
		serve()
	} else if err := s.pair.allow(serve); err != nil {
		return err
	}
	if s.group == nil {
		s.raiseFormat()
	}
	if first {
		s.log.Info("this server is active", "term", s.term.Load(), "entries", s.fsm.applied.Load())
	} else {
		s.log.Info("this server is active again", "term", s.term.Load())
	}
	return nil
}

// coldRounds is how often a server that was elected by others asks them for log time
// where none of them answers: they live, and are busy.
const coldRounds = 5

// countedElsewhere asks the other servers for log time, as far as they counted it
// while this one was down; 0 where none has, or none answers.
func (s *Stripe) countedElsewhere() (latest store.Time) {
	rounds := 1
	if config, err := s.configuration(); err == nil && !onlyVoter(config, s.id) {
		rounds = coldRounds
	}
	for heard := false; rounds > 0 && !heard && s.raft.State() == raft.Leader && !s.closing.Load(); rounds-- {
		ctx, cancel := context.WithTimeout(s.group.ctx, handshakePatience)
		for _, a := range s.askAll(ctx) {
			if a.err == nil && a.v.Answer.Stripe == s.stripe() {
				heard, latest = true, max(latest, a.v.Answer.Time)
			}
		}
		cancel()
	}
	return latest
}

// catchUp waits until every entry of former terms is applied.
func (s *Stripe) catchUp() error {
	done := make(chan error, 1)
	go func() { done <- s.raft.Barrier(0).Error() }()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-s.stop:
			return errStopping
		case <-tick.C:
			s.log.Info("applying the log", "applied", s.fsm.applied.Load(), "of", s.raft.LastIndex())
		}
	}
}

// snapshotter takes a snapshot when the log has grown by enough bytes; raft
// itself counts only entries.
func (s *Stripe) snapshotter() {
	defer s.work.Done()
	for {
		select {
		case <-s.stop:
			return
		case <-s.fsm.grown:
		}
		if s.fsm.bytes.Load() < s.fsm.enough() {
			continue // raft was quicker
		}
		err := s.snapshot()
		if err == nil || s.closing.Load() {
			continue
		}
		s.log.Warn("no snapshot could be taken, and the log grows", "error", err, "retry", snapshotRetry)
		select {
		case <-s.stop:
		case <-time.After(snapshotRetry):
		}
	}
}

// snapshot writes the state beside the traffic and cuts the log short.
func (s *Stripe) snapshot() error {
	begin := time.Now()
	if err := s.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return err
	}
	s.log.Debug("took a snapshot", "bytes", s.fsm.size.Load(), "took", time.Since(begin))
	return nil
}
