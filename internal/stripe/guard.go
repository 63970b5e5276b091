package stripe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// guardInterval is how often the servers of a stripe compare their states.
const guardInterval = 30 * time.Minute

// divergedFile lies in the folder of a server whose state turned out to differ
// from the active server's, and says how.
const divergedFile = "diverged"

const divergedHint = "the active server lets it go once the others are enough without it; then it sets its state aside and gets it anew by itself"

// guard compares the states of the servers. An entry of the log fixes the moment;
// each server sums the bytes of its snapshot of that moment, beside the traffic;
// the passive ones ask for the active one's sum with all else that they ask.
type guard struct {
	views chan probe

	mu   sync.Mutex
	sums map[uint64]string // entry -> format ":" sum; of the last few
	last []uint64
}

type probe struct {
	index uint64
	view  view
}

const sumsKept = 4

func newGuard() *guard { return &guard{views: make(chan probe, 1), sums: map[uint64]string{}} }

// take gets the state at an entry. It is called by the goroutine that applies.
func (g *guard) take(index uint64, v view) {
	select {
	case g.views <- probe{index, v}:
	default:
		v.Release() // still busy with the one before
	}
}

func (g *guard) note(index uint64, sum string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sums[index] = sum
	if g.last = append(g.last, index); len(g.last) > sumsKept {
		delete(g.sums, g.last[0])
		g.last = g.last[1:]
	}
}

// known returns the sums there are.
func (g *guard) known() map[uint64]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := make(map[uint64]string, len(g.sums))
	for index, sum := range g.sums {
		c[index] = sum
	}
	return c
}

// differs returns an entry at which the sums are not the same; 0 where they are.
func (g *guard) differs(others map[uint64]string) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	for index, sum := range g.sums {
		ours, _, _ := strings.Cut(sum, ":")
		theirs, _, _ := strings.Cut(others[index], ":")
		if ours == theirs && others[index] != sum { // another version may write the same state otherwise
			return index
		}
	}
	return 0
}

// guardian sums what is taken and, on the active server, asks for the next.
func (s *Stripe) guardian(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case p := <-s.guard.views:
			sum := sha256.New()
			_, err := p.view.Drain(newPacer(sum, s.stop, s.fsm.bytes.Load, s.fsm.m.Hurried))
			p.view.Release()
			if err == nil {
				s.guard.note(p.index, strconv.Itoa(s.fsm.newest)+":"+hex.EncodeToString(sum.Sum(nil)))
			}
		case <-tick.C:
			if s.leading.Load() && !s.sole.Load() {
				env := make([]byte, envelopeSize)
				seal(env, s.clock.read(), 0)
				env[0] = entryProbe
				s.raft.Apply(env, enqueueTimeout) // whether it succeeds does not matter
			}
		}
	}
}

// compare looks at the answer of another server.
func (s *Stripe) compare(p peer, a *answer) {
	if s.leading.Load() {
		if a.Diverged && s.pair == nil {
			s.dismiss(p)
		}
		return
	}
	if a.Active == nil || a.Active.ID != p.ID || s.pair != nil && !s.pair.mayJoin() {
		return // the two sides of a split brain do differ
	}
	if s.diverged.Load() == nil {
		index := s.guard.differs(a.Sums)
		if index == 0 {
			return
		}
		s.diverge(fmt.Sprintf("this server's state differs from that of the active server %q at entry %d: it will not become active; %s", p.Name, index, divergedHint))
		s.log.Error("THE STATE OF THIS SERVER IS NOT THAT OF THE ACTIVE ONE: it will not become active", "active", p.Name, "entry", index, "hint", divergedHint)
	}
	// The active one of a pair goes on alone by itself. Elsewhere this server counts
	// for the majority under its identity, until it is removed.
	if s.pair != nil || a.Removed {
		s.startAnew(*s.diverged.Load())
	}
}

// diverge notes that this server's state is not the active one's.
func (s *Stripe) diverge(text string) {
	s.diverged.Store(&text)
	if s.root != nil {
		if err := writeAtomic(filepath.Join(s.root.dir, divergedFile), []byte(text+"\n")); err != nil {
			s.log.Error("it could not be noted that the state differs", "error", err)
		}
	}
	s.changed()
}

// recall reads what diverge noted in an earlier run.
func (s *Stripe) recall() error {
	b, err := os.ReadFile(filepath.Join(s.root.dir, divergedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain(s.root.dir, err)
	}
	text := strings.TrimSpace(string(b))
	s.diverged.Store(&text)
	return nil
}

// dismiss removes a passive server that has other data, so that it can come back
// as a new one: under its identity it has promised to keep its log. Whoever is
// left must be a majority in touch, and one server goes at a time.
func (s *Stripe) dismiss(p peer) {
	config, err := s.configuration()
	if err != nil {
		return
	}
	voters, touched, member := 0, 0, false
	for _, m := range config.Servers {
		switch {
		case string(m.ID) == p.ID:
			member = true
		case m.Suffrage != raft.Voter:
			return // that one first
		default:
			voters++
			if string(m.ID) == s.id || s.inTouch(m.ID) {
				touched++
			}
		}
	}
	if !member {
		return
	}
	if touched <= voters/2 {
		s.group.complain("diverged"+p.ID, "A PASSIVE SERVER HAS OTHER DATA than this active one, and is needed for the majority: start the other servers", "name", p.Name)
		return
	}
	if err := s.removeMember(raft.ServerID(p.ID)); err != nil {
		s.log.Warn("a passive server that has other data could not be removed", "name", p.Name, "error", err)
		return
	}
	s.log.Error("A PASSIVE SERVER HAS OTHER DATA than this active one: it was removed, and gets the state anew", "name", p.Name, "server-id", p.ID)
}

// knows reports whether the last configuration that was agreed to has a server. It waits
// for nothing: the partner takes who does not answer for silent.
func (f *fsm) knows(id string) bool {
	m := f.members.Load()
	return m == nil || isMember(m.all, id) == nil
}
