package testcluster

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Priority sets the failover-priority; StartStripe's default is consistency.
func Priority(p string) Option { return func(o *options) { o.priority = p } }

// Timers sets by what times servers of a stripe notice each other's absence.
func Timers(t stripe.Timers) Option { return func(o *options) { o.timers = t } }

// Calm is Timers that no busy machine makes servers miss: for tests that are not about
// elections.
func Calm() Option { return Timers(stripe.Timers{Heartbeat: time.Second}) }

// Via replaces the address of the group port by which server from reaches server
// to, such as by a proxy that can cut the line; where both are the same,
// what the server tells others as its own. It is asked at each Start.
func Via(f func(from, to, addr string) string) Option { return func(o *options) { o.via = f } }

// Stripe is several running servers, tc1, tc2 and so on, of one stripe. Each of
// them can be stopped, killed and started by itself. Its methods fail the test
// instead of returning errors; they are for the test's goroutine.
type Stripe struct {
	t       testing.TB
	Servers []*Cluster
}

// StartStripe starts n servers of one stripe that are stopped when the test ends.
// Unless Unconfigured, tc1 is configured as the active one, and it returns when
// all others are its passives. With Dir each server has a folder of its name below it.
func StartStripe(t testing.TB, n int, opts ...Option) *Stripe {
	t.Helper()
	s := &Stripe{t: t}
	opts = append([]Option{Priority(stripe.Consistency)}, opts...)
	for i := range n {
		c := newCluster(t, "tc"+strconv.Itoa(i+1), opts)
		c.addr = net.JoinHostPort("127.0.0.1", FreePort(t))
		c.group = net.JoinHostPort("127.0.0.1", FreePort(t))
		if c.o.dir != "" {
			c.o.dir = filepath.Join(c.o.dir, c.name)
		}
		if i == 0 {
			c.makeLicense()
		} else {
			first := s.Servers[0]
			c.key, c.keys, c.license, c.files = first.key, first.keys, first.license, first.files
		}
		s.Servers = append(s.Servers, c)
	}
	for _, c := range s.Servers {
		c.peers = s.Servers
	}
	for _, c := range s.Servers {
		c.Start()
	}
	if !s.Servers[0].o.unconfigured {
		s.Servers[0].Configure()
		s.AwaitInService()
	}
	return s
}

// joinPeers completes the stripe's configuration with the other servers.
func (c *Cluster) joinPeers(cfg *stripe.Config, running wire.StripeConfig) (err error) {
	if c.peers == nil {
		return nil
	}
	if cfg.Dir != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o755); err != nil {
			return err
		}
	}
	cfg.Members, cfg.Self = server.Members(running), c.name
	for i := range cfg.Members {
		if m := &cfg.Members[i]; c.o.via != nil {
			m.GroupAddr = c.o.via(c.name, m.Name, m.GroupAddr)
		}
	}
	cfg.Secret, cfg.Priority, cfg.Timers = c.o.password, c.o.priority, c.o.timers
	cfg.Agreement, cfg.MayJoin = server.Agreement(running), server.MayJoin(c.store)
	cfg.Listener, err = listen(c.group)
	return err
}

// Name is what the server is called.
func (c *Cluster) Name() string { return c.name }

// GroupAddr is the host:port for the other servers of its stripe.
func (c *Cluster) GroupAddr() string { return c.group }

// IsRunning reports whether the server was started and neither stopped nor killed.
func (c *Cluster) IsRunning() bool { return c.running }

// Engine is the stripe's server underneath, for what only a test asks of it.
func (c *Cluster) Engine() *stripe.Stripe { return c.stripe }

// Addrs are the host:port for clients of all servers.
func (s *Stripe) Addrs() []string {
	var list []string
	for _, c := range s.Servers {
		list = append(list, c.Addr())
	}
	return list
}

// Active waits for a running server that serves, and returns it.
func (s *Stripe) Active() (active *Cluster) {
	s.t.Helper()
	s.await("no server is active", func() bool {
		for _, c := range s.Servers {
			if c.running && c.stripe.Serves() {
				active = c
				return true
			}
		}
		return false
	})
	return active
}

// Passives returns the running servers but for the active one.
func (s *Stripe) Passives() (list []*Cluster) {
	s.t.Helper()
	active := s.Active()
	for _, c := range s.Servers {
		if c.running && c != active {
			list = append(list, c)
		}
	}
	return list
}

// AwaitInService waits until one of the running servers is active and all others
// are its passives with everything that it has.
func (s *Stripe) AwaitInService() {
	s.t.Helper()
	s.await("not all servers are in service", func() bool {
		actives := 0
		for _, c := range s.Servers {
			if !c.running {
				continue
			}
			st := c.Status()
			if !wire.InService(st.State) || st.Cluster == nil {
				return false
			}
			if c.stripe.Serves() {
				actives++
			}
		}
		return actives == 1
	})
}

// await polls a condition for a minute.
func (s *Stripe) await(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			for _, c := range s.Servers {
				if c.running {
					s.t.Logf("%s: %s, members %+v", c.name, c.Status().State, c.Status().Members)
				}
			}
			s.t.Fatalf("testcluster: %s after a minute", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}
