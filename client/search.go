package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

const (
	stagger    = 150 * time.Millisecond // before the next server is tried beside a silent one
	maxServers = 16                     // tried in one search, redirects included
	complain   = 30 * time.Second       // between two log lines about the same outage

	// While an election may be under way, a server that says it is not active is
	// asked again soon: what follows backoff(electionTries), not more.
	electionTime  = 10 * time.Second
	electionTries = 2
)

// search looks for the server that takes us: one search is one outage. Every server
// known is tried by itself, again and again with pauses of its own, so that a silent
// one holds up nobody. Only joining is done one after the other, so that no two
// servers think that the node joined them.
type search struct {
	c       *Client
	ctx     context.Context // ends the dialling
	began   time.Time
	servers []*candidate // in the order to try them
	results chan dialed  // one from each dialling
	dialing int
	ready   []dialed // HELLO was answered; they wait to join

	joining  dialed // cn is nil while none is
	joined   chan error
	patience time.Duration // with a JOIN while another server is ready
	since    time.Time     // when the JOIN was sent
	logged   time.Time
}

// candidate is a server that may be the active one.
type candidate struct {
	host  string
	busy  bool // being dialled, ready or joining
	tries int  // that have failed
	due   time.Time
	err   error // of the last try
}

// dialed is what became of one dialling: a connection on which HELLO was
// answered, or the reason why there is none.
type dialed struct {
	by  *candidate
	cn  *conn
	err error
}

// rests holds servers back whose connections don't last: each for itself, so that the
// search for another active server begins at once. Its zero value holds back none.
type rests struct {
	of map[string]rest // host ->
}

type rest struct {
	short int // connections in a row that did not last
	until time.Time
}

// left notes that a connection ended. stable: it was a good one. retired: the server
// said that it is not the active one, which an election may mend soon.
func (r *rests) left(host string, now time.Time, stable, retired bool) {
	if stable {
		delete(r.of, host)
		return
	}
	if r.of == nil || len(r.of) >= 4*maxServers { // redirects may name ever new ones
		r.of = map[string]rest{}
	}
	n := r.of[host].short + 1
	tries := n
	if retired && n < 100 {
		tries = min(n, electionTries)
	}
	r.of[host] = rest{n, now.Add(backoff(tries))}
}

// until returns when a server may be tried again.
func (r *rests) until(host string) time.Time { return r.of[host].until }

// search returns a connection that is ready for use, or nil once the client is closed.
func (c *Client) search() *conn {
	ctx, cancel := context.WithCancel(c.ctx)
	s := &search{
		c: c, ctx: ctx, began: time.Now(), results: make(chan dialed, maxServers), joined: make(chan error, 1),
		patience: max(c.o.DialTimeout/5, time.Millisecond),
	}
	next := s.began
	for _, host := range c.hosts() {
		k := &candidate{host: host, due: next}
		if until := c.rests.until(host); until.After(s.began) {
			k.due, k.tries = until, 1 // it had its try: neither a redirect nor another's failure hurries it
		} else {
			next = next.Add(stagger)
		}
		s.servers = append(s.servers, k)
	}
	defer s.end(cancel)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return nil
		case <-timer.C:
		case d := <-s.results:
			s.dialing--
			if d.err != nil {
				s.failed(d.by, d.err)
			} else {
				s.ready = append(s.ready, d)
			}
		case err := <-s.joined:
			d := s.joining
			s.joining = dialed{}
			if err == nil {
				return d.cn
			}
			d.cn.close()
			if d.err != nil {
				err = d.err
			}
			s.failed(d.by, err)
		}
		timer.Reset(time.Until(s.next(time.Now())))
	}
}

// next starts what is due and returns when to look again.
func (s *search) next(now time.Time) time.Time {
	soon := now.Add(time.Hour)
	for _, k := range s.servers {
		if k.busy {
			continue
		}
		if !k.due.After(now) {
			s.dial(k)
		} else if k.due.Before(soon) {
			soon = k.due
		}
	}
	if len(s.ready) == 0 {
		return soon
	}
	if s.joining.cn == nil {
		s.joining, s.ready, s.since = s.ready[0], s.ready[1:], now
		cn := s.joining.cn
		s.c.wg.Go(func() { s.joined <- s.c.join(cn) }) // from run, which Close awaits: the counter is not zero
		return soon
	}
	// Somebody else might take us: a server that answers HELLO and hangs at JOIN
	// must not keep us. The patience grows, for one that is only slow.
	switch end := s.since.Add(s.patience); {
	case s.joining.err != nil: // given up; its result is on the way
	case !end.After(now):
		s.joining.err = fmt.Errorf("answer to %s: none within %v", wire.CmdJoin, s.patience)
		s.joining.cn.nc.Close()
		s.patience = min(2*s.patience, s.c.o.DialTimeout)
	case end.Before(soon):
		soon = end
	}
	return soon
}

func (s *search) dial(k *candidate) {
	k.busy = true
	s.dialing++
	go func() { // ends with ctx at the latest; its result is always taken
		cn, err := s.c.dial(s.ctx, k.host)
		s.results <- dialed{by: k, cn: cn, err: err}
	}()
}

// failed notes why a server does not take us, and lets the next one have its try at once.
func (s *search) failed(k *candidate, err error) {
	now := time.Now()
	k.busy, k.err = false, err
	tries := k.tries
	k.tries++
	var e *wire.Error
	notActive := errors.As(err, &e) && e.Word == wire.ErrNotActive
	if notActive && now.Sub(s.began) < electionTime {
		tries = min(tries, electionTries)
	}
	k.due = now.Add(backoff(tries))
	if !notActive || !s.redirected(activeIn(e.Text), now) {
		if i := slices.IndexFunc(s.servers, func(k *candidate) bool { return !k.busy && k.tries == 0 }); i >= 0 {
			s.servers[i].due = now
		}
	}
	tried := s.attempts()
	if s.c.noServer(tried, s.hopeless()) && now.Sub(s.logged) > complain {
		s.logged = now
		s.c.log.Warn("no terracotta server can be used yet; trying again until one can", "tried", attemptText(tried))
	}
}

// redirected lets the server that another one named have its try at once, unless
// it had one already: two servers may each believe the other one active, and the
// address may be good elsewhere only.
func (s *search) redirected(active string, now time.Time) bool {
	if active == "" {
		return false
	}
	if i := slices.IndexFunc(s.servers, func(k *candidate) bool { return k.host == active }); i >= 0 {
		k := s.servers[i]
		if k.busy || k.tries > 0 {
			return false
		}
		k.due = now
		return true
	}
	if len(s.servers) == maxServers {
		return false
	}
	s.servers = append(s.servers, &candidate{host: active, due: now})
	return true
}

// attempts tells how it stands with each server, those first that were tried.
func (s *search) attempts() (list []Attempt) {
	for _, k := range s.servers {
		if k.err != nil {
			list = append(list, Attempt{k.host, k.err})
		}
	}
	for _, k := range s.servers {
		if k.err == nil {
			list = append(list, Attempt{k.host, errConnecting})
		}
	}
	return list
}

// hopeless reports that every server was tried, and one said what no waiting
// mends, while none said what may pass.
func (s *search) hopeless() (yes bool) {
	for _, k := range s.servers {
		var e *wire.Error
		var p *resp.ProtocolError
		switch {
		case k.err == nil:
			return false
		case errors.As(k.err, &p):
			yes = true
		case errors.As(k.err, &e):
			if e.Word.Retryable() {
				return false
			}
			yes = yes || final(e.Word)
		}
	}
	return yes
}

// final reports refusals of a handshake that no waiting mends.
func final(w wire.Word) bool {
	switch w {
	case wire.ErrNoAuth, wire.ErrWrongPass, wire.ErrBadRequest, wire.ErrGeneric:
		return true
	}
	return false
}

// end gives up what is still under way.
func (s *search) end(cancel context.CancelFunc) {
	cancel()
	for _, d := range s.ready {
		d.cn.close()
	}
	if n := s.dialing; n > 0 {
		s.c.wg.Go(func() {
			for range n {
				if d := <-s.results; d.cn != nil {
					d.cn.close()
				}
			}
		})
	}
}

// hosts returns the servers in the order to try them.
func (c *Client) hosts() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.Clone(c.o.Hosts)
	if c.redirect != "" {
		list = slices.DeleteFunc(list, func(h string) bool { return h == c.redirect })
		list = slices.Insert(list, 0, c.redirect)
		c.redirect = ""
	}
	return list[:min(len(list), maxServers)]
}

// activeIn finds the host:port that the text of a NOTACTIVE names, "" where it
// names none.
func activeIn(text string) string {
	for _, w := range strings.Fields(text) {
		w = strings.TrimRight(w, ".,;")
		host, port, err := net.SplitHostPort(w)
		if _, bad := strconv.ParseUint(port, 10, 16); err == nil && bad == nil && host != "" {
			return w
		}
	}
	return ""
}

func attemptText(list []Attempt) string {
	var b strings.Builder
	for i, a := range list {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(a.Server + ": " + a.Err.Error())
	}
	return b.String()
}

// noServer remembers how the search stands, for the errors of calls that give up,
// and reports whether every server was tried. Where it is hopeless, nobody waits.
func (c *Client) noServer(tried []Attempt, hopeless bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts = tried
	if hopeless {
		for _, k := range append(c.backlog, c.resting...) {
			u := k.unsure
			c.failLocked(k, &UnavailableError{Command: string(k.args[0]), Servers: tried, Unsure: u})
		}
		c.backlog, c.resting = nil, nil
	}
	return !slices.ContainsFunc(tried, func(a Attempt) bool { return a.Err == errConnecting })
}
