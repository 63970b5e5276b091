package server

// lobby holds the connections that have not introduced themselves: no command
// yet, or no password where one is set. When they are too many, the one that has
// waited longest goes: a real client needs milliseconds, so only those go who
// came to fill the house, and they keep nobody out.
type lobby struct {
	strangers int
	queue     []*conn // in the order they came; those that have left are still in it
}

func (l *lobby) enter(c *conn) {
	if len(l.queue) >= 64 && len(l.queue) > 2*l.strangers {
		l.sweep()
	}
	c.stranger = true
	l.strangers++
	l.queue = append(l.queue, c)
}

// leave may be called twice.
func (l *lobby) leave(c *conn) {
	if c.stranger {
		c.stranger = false
		l.strangers--
	}
	if l.strangers == 0 {
		l.queue = nil // it would keep what they leave behind
	}
}

// turnOut lets the stranger leave who has waited longest; there must be one.
func (l *lobby) turnOut() *conn {
	for !l.queue[0].stranger {
		l.queue[0] = nil
		l.queue = l.queue[1:]
	}
	c := l.queue[0]
	l.leave(c)
	return c
}

// sweep forgets those that have left.
func (l *lobby) sweep() {
	kept := make([]*conn, 0, 2*l.strangers)
	for _, c := range l.queue {
		if c.stranger {
			kept = append(kept, c)
		}
	}
	l.queue = kept
}
