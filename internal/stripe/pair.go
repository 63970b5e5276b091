package stripe

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// pair keeps one of two servers available when the other is gone, which raft by
// itself does not: it wants a majority, and of two that is both. The active one
// removes its silent passive while it is certain that that one has not gone on by
// itself; else whoever is left goes on after a while by a stand-in for the absent
// one (pairTransport). Each such step begins an Incarnation. docs/decisions/pair.md
// tells why it is safe, and what it costs.
//
// One goroutine, run, decides; raft's messages, the partner's questions and its
// answers come in by others.
type pair struct {
	s     *Stripe
	log   *slog.Logger
	t     *pairTransport
	times pairTimes
	ask   asker
	// save keeps s on disk; with memory only it does nothing.
	save func(saved) error
	// grant is asked before this server goes on alone: the seat of a third voter
	// that grants each number once. nil: it may.
	grant func(context.Context, Incarnation) error
	clock func() time.Duration // monotonic, above zero, counts sleep of the machine too
	pace  func(id string)      // of a test, or nil

	served   serviceCount
	nextNote time.Duration // of run: before it noteService does not try again

	// Of run: after this time the partner certainly heard this server, and how long
	// this server itself had slept in sum then.
	verified, verifiedSlept time.Duration

	ready atomic.Bool   // start was called
	asked chan struct{} // closed when the first question was answered or failed

	writing sync.Mutex // held while kept changes, on disk too; taken before mu
	mu      sync.Mutex
	kept    saved // as it is on disk, or is about to be
	watch   watch
	partner note          // as last heard; zero: never in this run
	follows Incarnation   // the partner's incarnation that this server is catching up with; zero: its own
	forcing bool          // the stand-in is on, or about to be
	removes bool          // the passive is being removed, and it is not certain yet that it has not gone on
	leads   uint64        // the last term in which this server was raft's leader
	lostTo  *Incarnation  // the partner's data is kept, and not this server's
	split   bool          // both went on by themselves, and this server's data is kept
	proved  time.Duration // when this server's disk took a write for a partner whose own hangs; 0: never
	fails   string        // why nothing goes on, as last logged
}

// note is what two servers tell each other when one asks the other.
type note struct {
	ID      string          `json:"id"`
	Run     string          `json:"run,omitempty"`     // another one at each start
	History history         `json:"history,omitempty"` // of its data, as it is on disk
	Follows Incarnation     `json:"follows,omitzero"`  // the one that it is catching up with
	Leads   bool            `json:"leads,omitempty"`   // it is raft's leader
	Serves  bool            `json:"serves,omitempty"`  // it is the active one
	Voters  []raft.ServerID `json:"voters,omitempty"`  // identities, of its last configuration and of the last that was agreed to
	Config  uint64          `json:"config,omitempty"`  // index of the last one that was agreed to
	Last    uint64          `json:"last,omitempty"`    // index of its last entry
	Service service         `json:"service,omitempty"` // of the last of History
	Hangs   bool            `json:"hangs,omitempty"`   // its disk hangs
	Able    bool            `json:"able,omitempty"`    // its disk does not, since the partner's hangs, and it would go on if that one fell silent
}

// outdated reports whether the same run of a server has told of more since: an answer may be
// overtaken by a question of its own.
func (n note) outdated(since note) bool {
	return n.Run != "" && n.Run == since.Run && since.History.contains(n.History.tip()) && !n.History.contains(since.History.tip())
}

// asker asks the partner by a way of its own, beside raft's messages.
type asker func(context.Context, note) (note, error)

// openPair makes the part of a pair's server that raft is built on: its transport.
func (s *Stripe) openPair(t peerTransport, pace func(string)) (raft.Transport, error) {
	p := &pair{
		s: s, log: s.log, times: pairTimes{s.cfg.Timers.Lease, s.cfg.Timers.Alone}, pace: pace,
		ask: s.askPartner, save: func(saved) error { return nil },
		clock: func() time.Duration { return s.contact.mono() + 1 },
		asked: make(chan struct{}),
	}
	p.watch.times = p.times
	if s.root != nil {
		var err error
		if p.kept, err = readSaved(s.root.dir); err != nil {
			return nil, err
		}
		p.save = func(k saved) error { return k.write(s.root.dir) }
	}
	p.t = newPairTransport(t, s.stop, 2*p.times.alone, p.admits)
	p.t.setTip(p.kept.History.tip())
	p.served.begin(p.kept.Service, p.clock(), p.times.alone)
	s.fsm.serves, s.fsm.untold = p.serves, p.untold
	s.pair = p
	return p.t, nil
}

// start begins to watch over s.raft. A state that says that this server went on
// alone, or wanted to, is taken at its word.
func (p *pair) start() error {
	if p.kept.Reserved != 0 && p.soleVoter() && !p.kept.Doubt {
		if err := p.begin(p.aloneNow(p.s.raft.LastIndex())); err != nil {
			return err
		}
	}
	if p.s.raft.LastIndex() == 0 {
		p.kept = saved{} // what its log is gone of, it does not have
	}
	p.t.setTip(p.kept.History.tip())
	if p.kept.Doubt {
		p.s.fsm.gate.close()
	}
	failed := make(chan raft.Observation, 1)
	observer := raft.NewObserver(failed, false, func(o *raft.Observation) bool {
		_, yes := o.Data.(raft.FailedHeartbeatObservation)
		return yes
	})
	p.s.raft.RegisterObserver(observer)
	p.ready.Store(true)
	p.s.work.Add(2)
	go p.run(failed)
	go p.asking()
	return nil
}

// aloneNow is the incarnation of a server that goes on alone as the active one.
func (p *pair) aloneNow(fork uint64) Incarnation {
	p.mu.Lock()
	k := p.kept
	p.mu.Unlock()
	return Incarnation{
		Number: max(k.Reserved, k.History.tip().Number+1), Owner: p.s.id, WasActive: true, Fork: fork,
		Version: p.s.fsm.m.Index(), Time: p.s.fsm.m.Now(), Began: time.Now().UTC().Truncate(time.Second),
	}
}

// keep changes what is kept, on disk first. Where change returns false nothing is
// done. Neither p.mu nor p.writing is held.
func (p *pair) keep(change func(*saved) bool) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	k := p.kept
	p.mu.Unlock()
	if !change(&k) {
		return nil
	}
	if err := p.save(k); err != nil {
		return err
	}
	p.mu.Lock()
	if p.lostTo != nil {
		k.Service = p.kept.Service // who has given way tells of no more than it had then
	}
	p.kept = k
	p.mu.Unlock()
	return nil
}

// begin begins an incarnation: it is on disk when begin returns.
func (p *pair) begin(i Incarnation) error {
	p.served.begin(0, p.clock(), p.times.alone)
	err := p.keep(func(k *saved) bool {
		*k = saved{History: k.History.with(i)}
		return true
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.follows = Incarnation{}
	p.mu.Unlock()
	p.t.setTip(i)
	return nil
}

// run decides what to do, as often as times.tick says and when a heartbeat failed.
func (p *pair) run(failed <-chan raft.Observation) {
	defer p.s.work.Done()
	tick := time.NewTicker(p.times.tick())
	defer tick.Stop()
	for {
		dead := false
		select {
		case <-p.s.stop:
			return
		case <-failed:
			dead = !p.s.withdrawn.Load() && p.isDead()
		case <-tick.C:
		}
		if p.pace != nil {
			p.pace(p.s.id)
		}
		p.mu.Lock()
		p.watch.tick(p.clock(), time.Now())
		p.mu.Unlock()
		p.followHistory()
		p.noteService()
		switch {
		case p.isLost(), p.s.leaving.Load(), p.s.closing.Load(): // it begins nothing any more
		case p.s.withdrawn.Load(): // nor now: the partner is to
		case p.s.raft.State() == raft.Leader:
			p.lead(dead)
		default:
			if p.s.raft.State() == raft.Follower {
				p.heardNow() // its partner hears of it before this server is leader
			}
			p.consider()
		}
	}
}

// heardNow is called while the partner can't be silent: there is none, or this
// server is about to ask for its vote.
func (p *pair) heardNow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verified, p.verifiedSlept = p.clock(), p.watch.slept
}

// isDead reports whether the partner's process is gone for certain.
func (p *pair) isDead() bool {
	ctx, cancel := context.WithTimeout(context.Background(), p.times.tick())
	defer cancel()
	_, err := p.ask(ctx, p.note())
	return isRefused(err)
}

// followHistory writes down what the log told of the pair's history.
func (p *pair) followHistory() {
	applied := p.s.fsm.history()
	p.mu.Lock()
	tip := p.kept.History.tip()
	p.mu.Unlock()
	if applied.tip() == tip {
		return
	}
	err := p.keep(func(k *saved) bool {
		switch {
		case !applied.contains(k.History.tip()):
			return false
		case k.History.contains(applied.tip()):
			k.History = applied // of a forced one only the log tells at which state it forked
		default:
			*k = saved{History: applied}
		}
		return true
	})
	if err != nil {
		p.trouble("the incarnation can't be written: "+err.Error(), slog.LevelWarn)
		return
	}
	p.mu.Lock()
	if p.follows.Number > 0 && applied.contains(p.follows) {
		p.follows = Incarnation{}
		p.t.setTip(p.kept.History.tip())
	}
	p.mu.Unlock()
}

// untold reports whether this server goes on alone, or is about to, and its log does not
// say so yet.
func (p *pair) untold() bool {
	applied := p.s.fsm.history()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removes || p.kept.Doubt || !applied.contains(p.kept.History.tip())
}

// lead watches the passive, while this server is raft's leader.
func (p *pair) lead(dead bool) {
	p.mu.Lock()
	p.leads = p.s.raft.CurrentTerm()
	slept, doubt, forcing := p.watch.slept, p.kept.Doubt, p.forcing
	p.mu.Unlock()
	if doubt {
		p.resolveDoubt()
		return
	}
	partner, both := p.passive()
	if !both || forcing {
		p.heardNow() // a partner is let in, and hears of it, after this
		return
	}
	now := p.clock()
	if _, ago := p.s.contact.of(partner); ago >= 0 && now-ago > p.verified {
		p.verified, p.verifiedSlept = now-ago, slept
	}
	// What it does not hear while it sleeps itself says nothing.
	dead = dead || now-p.verified-(slept-p.verifiedSlept) >= p.times.silence()
	if dead && now-p.verified < p.times.lease {
		p.goAlone(partner)
	}
}

// passive returns the other one of the two voters, where this server and it are the voters.
func (p *pair) passive() (raft.ServerID, bool) {
	c := p.configuration()
	var other raft.ServerID
	voters, self := 0, false
	for _, server := range c.Servers {
		if server.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(server.ID) == p.s.id {
			self = true
		} else {
			other = server.ID
		}
	}
	return other, self && voters == 2
}

func (p *pair) soleVoter() bool {
	return onlyVoter(p.configuration(), p.s.id)
}

func (p *pair) configuration() raft.Configuration {
	f := p.s.raft.GetConfiguration()
	if f.Error() != nil {
		return raft.Configuration{}
	}
	return f.Configuration()
}

// reserve writes down the number of the incarnation in which this server would go
// on alone. It is called before the partner gets a vote, and by a new active one.
func (p *pair) reserve() error {
	return p.keep(func(k *saved) bool {
		next := k.History.tip().Number + 1
		if k.Reserved >= next {
			return false
		}
		k.Reserved = next
		return true
	})
}

// settle is called when raft made this server its leader, before it becomes
// active. It removes a partner that was stood in for, and puts the incarnation
// into the log. It fails where this server must not serve.
func (p *pair) settle() error {
	select {
	case <-p.asked: // a server that went on alone may have been overtaken while it was down
	case <-p.s.stop:
		return errStopping
	}
	p.mu.Lock()
	forcing, k, err := p.forcing, p.kept, p.refusesLocked()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if forcing {
		if partner, both := p.passive(); both {
			if err := p.await(p.s.raft.RemoveServer(partner, 0, 0)); err != nil {
				return err
			}
		}
		p.t.standIn("", 0)
		p.mu.Lock()
		p.forcing = false
		p.mu.Unlock()
		if !p.soleVoter() {
			return errors.New("the partner was not removed")
		}
	}
	if err := p.await(p.s.raft.Barrier(0)); err != nil {
		return err
	}
	tip := k.History.tip()
	if tip.Number == 0 {
		tip = Incarnation{Number: 1, Owner: p.s.id, Began: time.Now().UTC().Truncate(time.Second)}
		if err := p.begin(tip); err != nil {
			return err
		}
	}
	if !p.s.fsm.history().contains(tip) {
		if err := p.record(tip); err != nil {
			return err
		}
	}
	if _, both := p.passive(); both {
		return p.reserve()
	}
	return nil
}

// refusesLocked is why this server must not serve.
func (p *pair) refusesLocked() error {
	if p.lostTo != nil || p.follows.Number > 0 || p.kept.Doubt {
		return errors.New("it waits for its partner")
	}
	return nil
}

// allow calls serve, which makes this server the active one, unless the partner has
// been heard of, or the server has come into doubt, since settle.
func (p *pair) allow(serve func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refusesLocked(); err != nil {
		return err
	}
	if p.removes {
		return errors.New("its passive is lost, and is being removed")
	}
	serve()
	return nil
}

// await is f's error; raft forgets to answer some when it ends.
func (p *pair) await(f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-p.s.stop:
		return errStopping
	}
}

// trouble logs what stands in the way, once.
func (p *pair) trouble(text string, level slog.Level) {
	p.mu.Lock()
	again := p.fails == text
	p.fails = text
	p.mu.Unlock()
	if !again {
		p.log.Log(context.Background(), level, text)
		p.s.changed()
	}
}

func errorText(err error) string {
	if err == nil {
		return "no reason was given"
	}
	return err.Error()
}

// inSync reports whether this server's log has all that the sender of n, which
// counts it as a voter, can have acknowledged.
func (p *pair) inSync(n note) bool {
	m := p.s.fsm.members.Load()
	return m != nil && m.index >= n.Config && slices.Contains(m.voters, raft.ServerID(p.s.id)) && slices.Contains(n.Voters, raft.ServerID(p.s.id))
}
