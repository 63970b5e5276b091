package stripe

import (
	"errors"
	"slices"
)

// Status tells the role and progress of this server.
func (s *Stripe) Status() Status {
	now := s.stands()
	st := Status{
		ServerID: s.id,
		StripeID: s.stripe(),
		State:    now.state,
		Waiting:  now.why,
		Formed:   s.formed.Load(),
		Term:     s.term.Load(),
		LogIndex: s.raft.LastIndex(),
		Applied:  s.fsm.applied.Load(),
	}
	if s.direct {
		st.LogIndex = max(st.LogIndex, st.Applied)
	}
	if r := s.unwanted.Load(); r != nil {
		st.Refusal = r.Text
		st.Unfit = !st.Formed && (r.Code == refusedAgreement || r.Code == refusedTimers)
	}
	if st.Lost = s.aside; s.pair != nil {
		s.pair.status(&st)
	}
	if e := s.ill.Load(); e != nil {
		st.DiskError = e.Text
	} else if e := s.stalled.Load(); e != nil {
		st.DiskError = e.Text
	} else if p := s.fsm.damage.Load(); p != nil {
		st.DiskError, st.Later = (*p).Error(), errors.Is(*p, errLater)
	}
	if t := s.diverged.Load(); t != nil {
		st.Divergence = *t
	}
	return st
}

// Status is a moment of a stripe's server.
type Status struct {
	ServerID    string // the identity in the data root
	StripeID    string // the stripe that it belongs to; "" before it was formed or joined
	State       string // wire.StateActive and so on; a sole server shows StateActive before it is formed too
	Refusal     string // why the stripe does not let this server in, and what to do; "" where it does
	Unfit       bool   // Refusal is for the settings that this server, which has no data, runs with: no waiting mends that
	Formed      bool
	Incarnation uint64 // of a pair in availability mode
	Term        uint64 // of this server's last time as the active one
	LogIndex    uint64 // last entry in the log
	Applied     uint64 // last entry applied
	Divergence  string // how this server's state differs from the active one's, and what to do; "" where it does not
	Later       bool   // DiskError is that the log has what only a later version understands
	DiskError   string // why writes are refused, "" where they are not
	Waiting     string // why this server does not serve; "" where it does, never where State is one of the suspended

	// Of a pair in availability mode:
	Alone              bool         // this server goes on without its partner
	SplitBrainPossible bool         // and the partner may do so too
	SplitBrain         bool         // it did: its data is being set aside
	Lost               *LostChanges // what a split brain has cost here, until its folder is moved away
}

// Changes returns a channel that gets a value (coalesced) whenever State may
// have changed. Every call makes a channel of its own, so call it once per
// reader; it is never closed.
func (s *Stripe) Changes() <-chan struct{} {
	c, _ := s.subscribe()
	return c
}

func (s *Stripe) subscribe() (c chan struct{}, leave func()) {
	c = make(chan struct{}, 1)
	s.subscribers.Lock()
	defer s.subscribers.Unlock()
	s.subscribers.list = append(s.subscribers.list, c)
	return c, func() {
		s.subscribers.Lock()
		defer s.subscribers.Unlock()
		s.subscribers.list = slices.DeleteFunc(s.subscribers.list, func(l chan struct{}) bool { return l == c })
	}
}

func (s *Stripe) changed() {
	s.subscribers.Lock()
	defer s.subscribers.Unlock()
	for _, c := range s.subscribers.list {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
