package websessions

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Hooks are called on the node where something happens, after it was agreed,
// one after the other within a request. They may use the request's session; ctx
// is the request's. nil ones are skipped.
type Hooks struct {
	Created func(ctx context.Context, id string)
	Renewed func(ctx context.Context, before, after string) // by RenewID or Login
	// Ended is called for a session that this request has ended (reason
	// "logout"), or that it asked for and that had run out ("expired"; then once
	// for each such request).
	Ended   func(ctx context.Context, id, reason string)
	Changed func(ctx context.Context, id string, attributes []string)
	// Conflict is called when another request was first with an attribute, so
	// that this request's change of it was dropped.
	Conflict func(ctx context.Context, id string, attributes []string)
}

func (s *Session) hookLocked(f func(context.Context, string)) {
	if f != nil {
		ctx, id := s.r.Context(), s.key
		s.events = append(s.events, func() { f(ctx, id) })
	}
}

func (s *Session) endedLocked(id, reason string) {
	if f := s.m.cfg.Hooks.Ended; f != nil {
		ctx := s.r.Context()
		s.events = append(s.events, func() { f(ctx, id, reason) })
	}
}

func (s *Session) changedLocked(set []wire.Attribute, removed [][]byte) {
	f := s.m.cfg.Hooks.Changed
	if f == nil || len(set)+len(removed) == 0 {
		return
	}
	var names []string
	for _, a := range set {
		names = append(names, string(a.Name))
	}
	for _, name := range removed {
		names = append(names, string(name))
	}
	ctx, id := s.r.Context(), s.key
	s.events = append(s.events, func() { f(ctx, id, names) })
}

// conflictLocked counts changes that were dropped, calls the hook, and logs once a minute.
func (s *Session) conflictLocked(names []string) {
	m := s.m
	total := m.stats.dropped.Add(int64(len(names)))
	if m.stats.sayConflict(m.now()) {
		m.log.Warn("a request's change was dropped, because another one had changed the attribute first; use Attribute.Update",
			"attributes", names, "path", s.r.URL.Path, "dropped_since_start", total)
	}
	if f := m.cfg.Hooks.Conflict; f != nil {
		ctx, id := s.r.Context(), s.key
		s.events = append(s.events, func() { f(ctx, id, names) })
	}
}

// counters are what Stats is made from.
type counters struct {
	loads, misses, commits, dropped, late, failures, creations, renewed atomic.Int64

	mu          sync.Mutex // guards what follows
	minute      time.Time  // start of the current minute of creations
	thisMinute  int64
	lastMinute  int64
	ends        int64 // sessions ended here
	total       time.Duration
	least, most time.Duration
	saidAt      time.Time // last log line about conflicts
}

func (c *counters) created(now time.Time) {
	c.creations.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turnLocked(now)
	c.thisMinute++
}

func (c *counters) turnLocked(now time.Time) {
	switch gone := now.Sub(c.minute); {
	case gone < time.Minute:
	case gone < 2*time.Minute:
		c.lastMinute, c.thisMinute, c.minute = c.thisMinute, 0, c.minute.Add(time.Minute)
	default:
		c.lastMinute, c.thisMinute, c.minute = 0, 0, now
	}
}

func (c *counters) ended(life time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends == 0 || life < c.least {
		c.least = life
	}
	c.most = max(c.most, life)
	c.total += life
	c.ends++
}

func (c *counters) sayConflict(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.saidAt.IsZero() && now.Sub(c.saidAt) < time.Minute {
		return false
	}
	c.saidAt = now
	return true
}

// Stats are the figures of one Sessions since its start, and the settings that
// operators look up with them. Lifetimes are of sessions that ended on this
// node, -1 where there are none.
type Stats struct {
	ContextPath          string
	SessionsCreated      int64
	SessionsCreationRate int64 // created in the last full minute
	SessionsEnded        int64 // by Invalidate
	SessionsRenewed      int64

	AverageSessionLifetime time.Duration
	MinimumSessionLifetime time.Duration
	MaximumSessionLifetime time.Duration

	Loads    int64   // sessions asked for
	Misses   int64   // of these, unknown or ended
	HitRatio float64 // share of the loads served without the network: NaN in this version, whose nodes keep nothing
	Commits  int64   // changes sent
	Dropped  int64   // attribute changes that came too late
	Late     int64   // commits to sessions that had ended
	Failures int64   // requests that ended with the error page or were cut off

	// The settings, as this version behaves: it always rejoins and always waits.
	SessionTimeout   time.Duration // 0 = none
	NonStopTimeout   time.Duration // negative = none
	Concurrency      int
	MaxBytesOnHeap   int64
	MaxBytesOffHeap  int64
	RejoinEnabled    bool
	SessionLocking   bool
	SynchronousWrite bool
}

// Stats returns the figures as they are now.
func (m *Sessions) Stats() Stats {
	c := &m.stats
	s := Stats{
		ContextPath: m.cfg.ContextPath, SessionsCreated: c.creations.Load(), SessionsRenewed: c.renewed.Load(),
		Loads: c.loads.Load(), Misses: c.misses.Load(), HitRatio: math.NaN(), Commits: c.commits.Load(),
		Dropped: c.dropped.Load(), Late: c.late.Load(), Failures: c.failures.Load(),
		SessionTimeout: m.cfg.IdleTimeout, NonStopTimeout: m.cfg.NonStopTimeout, Concurrency: m.cfg.Concurrency,
		MaxBytesOnHeap: m.cfg.MaxBytesOnHeap, MaxBytesOffHeap: m.cfg.MaxBytesOffHeap,
		RejoinEnabled: true, SessionLocking: m.cfg.SessionLocking, SynchronousWrite: true,
		AverageSessionLifetime: -1, MinimumSessionLifetime: -1, MaximumSessionLifetime: -1,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turnLocked(m.now())
	s.SessionsCreationRate, s.SessionsEnded = c.lastMinute, c.ends
	if c.ends > 0 {
		s.AverageSessionLifetime = c.total / time.Duration(c.ends)
		s.MinimumSessionLifetime, s.MaximumSessionLifetime = c.least, c.most
	}
	return s
}
