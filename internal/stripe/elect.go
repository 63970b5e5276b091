package stripe

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// standShare is the part of the heartbeat time-out by which passive servers ask for
// pre-votes one after the other.
const standShare = 6

// ballot orders who asks whether it would be elected (raft's pre-vote), so that the
// first election has a result: raft waits for one to two election time-outs after one
// that has none. It only delays questions or refuses them, so what raft promises does
// not depend on it.
type ballot struct {
	heartbeat time.Duration
	now       func() time.Time

	mu       sync.Mutex
	rank     int           // how many others ask before this server
	asked    time.Time     // when this server last asked; zero where another one refused since
	deciding int           // questions of others that raft has
	granted  time.Time     // when it last granted another one's question
	refused  time.Time     // when it last refused one, and knew no active server
	moved    chan struct{} // closed, and replaced, when one of the three above changes
}

func newBallot(heartbeat time.Duration) *ballot {
	return &ballot{heartbeat: heartbeat, now: time.Now, moved: make(chan struct{})}
}

var errOtherStands = errors.New("another server stands for election")

// turn returns when this server may ask: at once where it had to refuse another one,
// which then can't win, else after those of a lower rank. It fails where another one
// was granted its question meanwhile, or a moment ago: that one is about to be elected.
func (b *ballot) turn(stop <-chan struct{}) error {
	b.mu.Lock()
	due := time.NewTimer(b.heartbeat * time.Duration(b.rank) / standShare)
	defer due.Stop()
	late := time.NewTimer(b.heartbeat) // no question is worth more
	defer late.Stop()
	for first, last := false, false; ; {
		now := b.now()
		switch {
		case now.Sub(b.granted) < b.heartbeat/2:
			b.mu.Unlock()
			return errOtherStands
		case last, b.deciding == 0 && (first || now.Sub(b.refused) < b.heartbeat/2):
			b.asked = now
			b.mu.Unlock()
			return nil
		}
		moved := b.moved
		b.mu.Unlock()
		select {
		case <-moved:
		case <-due.C:
			first = true
		case <-late.C:
			last = true
		case <-stop:
			return errStopping
		}
		b.mu.Lock()
	}
}

// failed notes that another server has refused what this one asked.
func (b *ballot) failed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = time.Time{}
}

// decide reports whether raft may get another server's question. Where both ask, and
// neither is ahead, one must give way: else each gets the other's word, and then only
// its own vote.
func (b *ballot) decide(tied, before bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if tied && before && b.now().Sub(b.asked) < b.heartbeat/2 {
		return false
	}
	b.deciding++
	return true
}

// decided notes how raft has answered.
func (b *ballot) decided(granted, leaderless bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deciding--
	switch {
	case granted:
		b.granted = b.now()
	case leaderless:
		b.refused = b.now()
	}
	close(b.moved)
	b.moved = make(chan struct{})
}

func (b *ballot) setRank(rank int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rank = rank
}

// waking knows when this server itself has slept, or was kept waiting by a busy machine:
// what it did not hear meanwhile may be about to be read. Its zero value has not looked.
type waking struct {
	mu     sync.Mutex
	looked time.Duration
	until  time.Duration // no silence is believed before
}

// look is called twenty times in a heartbeat time-out, with a clock that goes on while the
// machine sleeps.
func (w *waking) look(now, heartbeat time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looked > 0 && now-w.looked > heartbeat/4 {
		w.until = now + heartbeat/10
	}
	w.looked = now
}

// believed returns how much of a silence counts.
func (w *waking) believed(silent, now, heartbeat time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if left := w.until - now; left > 0 {
		return min(silent, heartbeat-left)
	}
	return silent
}

// silence returns for how long nothing was heard of the active server, and when it was
// heard of last; known is whether this server follows one.
func (s *Stripe) silence() (silent time.Duration, heard time.Time, known bool) {
	_, leader := s.raft.LeaderWithID()
	if leader == "" || string(leader) == s.id || s.raft.State() != raft.Follower {
		return 0, heard, false
	}
	heard = s.raft.LastContact()
	return s.waking.believed(time.Since(heard), s.contact.mono(), s.cfg.Timers.Heartbeat), heard, true
}

// watchSilence makes raft give up an active server that is silent for too long. Raft's
// own timer has a random length of one to two heartbeat time-outs and looks only at its
// ends; this looks all the time.
func (s *Stripe) watchSilence() {
	s.waking.look(s.contact.mono(), s.cfg.Timers.Heartbeat)
	silent, _, known := s.silence()
	if !known {
		return
	}
	config, err := s.configuration()
	if err != nil {
		return
	}
	_, leader := s.raft.LeaderWithID()
	voters := votersOf(config)
	if !slices.Contains(voters, raft.ServerID(s.id)) {
		return
	}
	if s.ballot != nil {
		rank := 0
		for _, id := range voters {
			if id != leader && string(id) < s.id {
				rank++
			}
		}
		s.ballot.setRank(rank)
	}
	if silent >= s.cfg.Timers.Heartbeat {
		s.stand()
	}
}

// stand makes raft look at its heartbeat timer now: it does when the time-out
// becomes shorter. The bound of the lease is not touched: the silence was longer.
func (s *Stripe) stand() {
	s.standing.Lock()
	defer s.standing.Unlock()
	c := s.raft.ReloadableConfig()
	c.HeartbeatTimeout = s.cfg.Timers.Heartbeat - time.Millisecond
	if err := s.raft.ReloadConfig(c); err != nil {
		s.log.Debug("could not stand for election early", "error", err)
		return
	}
	c.HeartbeatTimeout = s.cfg.Timers.Heartbeat
	s.raft.ReloadConfig(c)
}

// question is asked whether another server would be elected: ask gives it to raft. A
// server that has heard of the active one a little later than the other would refuse,
// and the other would ask again only after an election time-out. So its answer waits
// for the rest of its own time-out, where that is short.
func (s *Stripe) question(rpc raft.RPC, ask func(raft.RPC)) {
	s.ballot.awaitSilence(s.silence, s.stand, s.stop)
	req := rpc.Command.(*raft.RequestPreVoteRequest)
	back := rpc.RespChan
	if !s.ballot.decide(req.LastLogIndex == s.raft.LastIndex(), s.id < string(req.ID)) {
		back <- raft.RPCResponse{Error: errOtherStands}
		return
	}
	answer := make(chan raft.RPCResponse, 1)
	rpc.RespChan = answer
	ask(rpc)
	granted := false
	select {
	case r := <-answer:
		v, ok := r.Response.(*raft.RequestPreVoteResponse)
		granted = ok && v.Granted
		back <- r
	case <-s.stop: // raft's transport gives up waiting, too
	}
	_, leader := s.raft.LeaderWithID()
	s.ballot.decided(granted, leader == "")
}

// awaitSilence waits until raft has given up an active server that is about to have
// been silent for too long: stand makes it look. It returns at once where that is not so.
func (b *ballot) awaitSilence(silence func() (silent time.Duration, heard time.Time, known bool), stand func(), stop <-chan struct{}) {
	const look = time.Millisecond
	_, since, known := silence()
	for until := b.now().Add(b.heartbeat); known && b.now().Before(until); {
		silent, heard, still := silence()
		rest := b.heartbeat - silent
		if !still || !heard.Equal(since) || rest > b.heartbeat/2 {
			return
		}
		if rest <= 0 {
			stand()
		}
		select {
		case <-time.After(max(rest, look)):
		case <-stop:
			return
		}
	}
}
