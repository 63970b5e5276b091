package stripe

import (
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// A server that comes back has forgotten which active server it followed, and would
// vote at once, within the lease that it had confirmed. So for one heartbeat
// time-out nobody reaches its raft; it is asked and joined as ever. One that belongs
// to no stripe has confirmed nothing, and waits for nobody.
func TestARestartedServerIsNotReachedForOneHeartbeat(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Config{Timers: Timers{Heartbeat: 400 * time.Millisecond}})
	fresh := c.servers[1]
	if !fresh.open() {
		t.Error("a server of no stripe waits")
	}
	c.form()
	peer := c.servers[0].self()
	peer.Run = "another"
	c.kill(0)
	c.kill(1)
	cfg := c.config(1)
	cfg.Timers = Timers{Heartbeat: time.Hour}
	c.open(1, cfg)
	s := c.servers[1]
	peer.Timers = s.self().Timers
	if err := c.dialed(1, hello{Purpose: forRaft, peer: peer}); refusedAs(err) != refusedStarting {
		t.Errorf("raft is reached before the heartbeat time-out is over: %v", err)
	}
	if err := c.dialed(1, hello{Purpose: forAsk, peer: peer}); err != nil {
		t.Errorf("and it does not answer: %v", err)
	}
	if wait := s.opens - s.contact.mono(); wait < 30*time.Minute || wait > time.Hour {
		t.Errorf("it waits %v of a time-out of an hour", wait)
	}
	if st := s.Status(); st.State == wire.StateActive {
		t.Errorf("%+v", st)
	}
	c.kill(1)
	for i := range c.servers { // and it opens in time
		c.start(i)
	}
	c.settle()
	if s := c.servers[1]; s.opens == 0 || !s.open() {
		t.Error("it is in place, and not open")
	}
}
