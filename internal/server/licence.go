package server

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

// licenceInterval is how often a licence that needs attention is logged.
const licenceInterval = 30 * time.Minute

// licenceWatch tells how the installed licence stands. The document is
// verified once, not at each question.
type licenceWatch struct {
	keys *license.Keys

	mu  sync.Mutex // guards what follows
	doc string     // the document that l and err are about
	l   *license.License
	err error
}

func (w *licenceWatch) verify(doc string) (*license.License, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.doc != doc || (w.l == nil && w.err == nil) {
		w.doc = doc
		w.l, w.err = license.Verify([]byte(doc), w.keys)
	}
	return w.l, w.err
}

// status tells how the licence of c stands at now, or nil where there is no
// cluster. A licence that no longer verifies here, or no longer fits what is
// configured, limits growth like one that has expired: sessions live on.
func (w *licenceWatch) status(c *wire.Cluster, now time.Time) *wire.LicenseStatus {
	if c == nil {
		return nil
	}
	l, err := w.verify(c.License)
	if err != nil {
		return &wire.LicenseStatus{State: string(license.Limited), Message: "the installed licence does not verify on this server: " + reason(err)}
	}
	s := &wire.LicenseStatus{
		State: string(l.State(now)), SerialNumber: l.SerialNumber, Customer: l.CustomerName, Expires: l.Expires(),
		OffheapLimit: l.OffheapLimit, KeyID: l.KeyID, SHA256: l.SHA256,
	}
	switch license.State(s.State) {
	case license.Expiring:
		s.Message = fmt.Sprintf("the licence expires: its last valid day is %s (UTC); install a renewed one", s.Expires)
	case license.Grace:
		s.Message = fmt.Sprintf("the licence has expired: its last valid day was %s (UTC); seven days later new datasets are refused; install a renewed one", s.Expires)
	case license.Limited:
		s.Message = fmt.Sprintf("the licence has expired: its last valid day was %s (UTC); sessions live on, growth is refused; install a renewed one", s.Expires)
	}
	return s
}

// reason joins what is wrong with a licence and what to do about it.
func reason(err error) string {
	var e *license.Error
	if errors.As(err, &e) && e.Hint != "" {
		return e.Reason + " (" + e.Hint + ")"
	}
	return err.Error()
}

// growthOf says what running c asks of a licence.
func growthOf(c *wire.Cluster, version string) license.Growth {
	g := license.Growth{Stripes: len(c.Stripes), Version: version}
	for _, s := range c.Stripes {
		var sum uint64
		for _, r := range s.OffheapResources {
			if sum += r.Size; sum < r.Size {
				sum = ^uint64(0) // overflow: more than any licence allows
			}
			g.Largest = max(g.Largest, r.Size)
		}
		g.Offheap = append(g.Offheap, sum)
		g.Security = g.Security || s.Security
	}
	return g
}

// LogWarnings logs what an operator must know about trusted keys and the
// installed licence. The process calls it at its start, once the log was read;
// what matters later is logged again every half an hour.
func (s *Server) LogWarnings() {
	for _, w := range append(s.developmentKeys(), s.weakPassword()...) {
		s.log.Warn(w)
	}
	s.firstLicence(s.store.Cluster())
}

// firstLicence logs how the licence stands when this server first knows it: from
// its log at the start, or when it joins.
func (s *Server) firstLicence(c *wire.Cluster) {
	if c != nil && s.licenceTold.CompareAndSwap(false, true) {
		s.logLicence(c)
	}
}

func (s *Server) watchLicence() {
	ticker := time.NewTicker(licenceInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.logLicence(s.store.Cluster())
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Server) logLicence(c *wire.Cluster) {
	for _, w := range s.licenceWarnings(c) {
		s.log.Warn(w)
	}
}

func (s *Server) developmentKeys() (list []string) {
	if s.cfg.Keys == nil {
		return nil
	}
	for _, id := range s.cfg.Keys.IDs() {
		if license.Development(id) {
			list = append(list, fmt.Sprintf("development key %q is trusted: anybody with this clone's private key can make licences; not for production", id))
		}
	}
	return list
}

// licenceWarnings tells of the installed licence and of what it no longer covers.
func (s *Server) licenceWarnings(c *wire.Cluster) (list []string) {
	now := s.cfg.Now()
	st := s.licence.status(c, now)
	if st == nil {
		return nil
	}
	if st.Message != "" {
		list = append(list, st.Message)
	}
	if l, err := s.licence.verify(c.License); err == nil {
		if !l.Expiration.IsZero() && !now.Before(l.Expiration) {
			now = l.Expiration.Add(-1) // that it has expired is said already
		}
		if err := l.Allow(growthOf(c, s.cfg.Version), now); err != nil {
			list = append(list, "the installed licence does not cover this cluster: "+reason(err))
		}
	}
	return list
}
