package stripe

// Serves reports whether this server answers for the stripe now. It costs nearly nothing.
func (s *Stripe) Serves() bool { return s.active() && !s.closing.Load() }

// Takes reports whether changes are taken now: this server serves, and its disk can be written.
func (s *Stripe) Takes() bool { return s.refusal() == nil }

// Refusal says why this server does not answer for the stripe, as a *wire.Error,
// or nil where it does.
func (s *Stripe) Refusal() error {
	if e := s.readRefusal(); e != nil {
		return e
	}
	return nil
}
