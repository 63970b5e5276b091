package stripe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// cluster is servers of one stripe in this process, each with a network of its
// own to the others.
type cluster struct {
	t       testing.TB
	cfg     Config // what they have in common
	parts   parts
	addrs   []string           // real group ports
	ports   []*net.TCPListener // kept open, so that nobody else gets them; servers have copies
	links   [][]*link          // from -> to
	newer   bool               // of the ledgers
	dirs    []string           // "" with MemoryOnly
	mu      sync.Mutex         // guards servers, for the writers
	servers []*Stripe          // nil while stopped
	ledgers []*ledger

	repeated map[string]bool // operations that do proposed again because nobody knew
}

// calm are timers that no busy machine makes servers miss: for tests in which nobody
// is to be elected by himself.
var calm = Timers{Heartbeat: 2 * time.Second}

func serverName(i int) string { return fmt.Sprintf("server-%d", i+1) }

func newCluster(t testing.TB, n int, cfg Config) *cluster {
	return newClusterIn(t, make([]string, n), cfg, parts{})
}

// newClusterOn ends the servers of another cluster and starts them anew, on their
// folders and with other addresses.
func newClusterOn(t testing.TB, old *cluster) *cluster {
	for i, s := range old.servers {
		if s != nil {
			old.kill(i)
		}
	}
	return newClusterIn(t, old.dirs, old.cfg, old.parts)
}

// newClusterIn starts servers on folders; "" makes one.
func newClusterIn(t testing.TB, dirs []string, cfg Config, p parts) *cluster {
	n := len(dirs)
	if cfg.Durability == "" {
		cfg.Durability = EveryWrite
	}
	if cfg.Timers == (Timers{}) {
		cfg.Timers = Timers{Heartbeat: time.Second} // shorter ones are missed on a busy machine
	}
	c := &cluster{t: t, cfg: cfg, parts: p, servers: make([]*Stripe, n), ledgers: make([]*ledger, n), links: make([][]*link, n)}
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		c.addrs, c.ports = append(c.addrs, l.Addr().String()), append(c.ports, l.(*net.TCPListener))
		dir := dirs[i]
		if cfg.Durability != MemoryOnly && dir == "" {
			dir = t.TempDir()
		}
		c.dirs = append(c.dirs, dir)
	}
	for i := range n {
		for j := range n {
			var k *link
			if i != j {
				k = newLink(t, c.addrs[j])
			}
			c.links[i] = append(c.links[i], k)
		}
	}
	for i := range n {
		c.start(i)
	}
	return c
}

// config is how server i is opened.
func (c *cluster) config(i int) Config {
	cfg := c.cfg
	cfg.Dir, cfg.ServerName, cfg.Self = c.dirs[i], serverName(i), serverName(i)
	if cfg.Logger == nil {
		cfg.Logger = testLog(c.t).With("on", i+1)
	}
	for j := range c.servers {
		m := Member{Name: serverName(j), ClientAddr: fmt.Sprintf("client-%d:9410", j+1), GroupAddr: "127.0.0.1:1"}
		if i != j {
			m.GroupAddr = c.links[i][j].addr()
		}
		cfg.Members = append(cfg.Members, m)
	}
	return cfg
}

func (c *cluster) start(i int) {
	c.t.Helper()
	c.open(i, c.config(i))
}

func (c *cluster) open(i int, cfg Config) {
	c.t.Helper()
	for j := range c.servers {
		if i != j {
			c.links[j][i].kill(false)
		}
	}
	c.freed(i)
	cfg.Listener = c.port(i)
	c.ledgers[i] = &ledger{newer: c.newer}
	c.set(i, startOn(c.t, cfg, c.parts, c.ledgers[i]))
}

// freed returns once the former run of server i has let go of its files: on a busy machine
// Close may have given up before.
func (c *cluster) freed(i int) {
	c.t.Helper()
	if c.dirs[i] == "" {
		return
	}
	eventually(c.t, "the files are free", func() bool {
		lock, err := openLocked(filepath.Join(c.dirs[i], lockFile))
		if err == nil {
			unlock(lock)
		}
		return !errors.Is(err, errLocked)
	})
}

// port opens the group port of server i.
func (c *cluster) port(i int) net.Listener {
	c.t.Helper()
	f, err := c.ports[i].File()
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

func (c *cluster) set(i int, s *Stripe) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[i] = s
}

// running returns the servers that run.
func (c *cluster) running() (list []*Stripe) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if s != nil {
			list = append(list, s)
		}
	}
	return list
}

// kill ends a server as a killed process ends: the others hear no word from it.
func (c *cluster) kill(i int) {
	for j := range c.servers {
		if i != j {
			c.links[i][j].kill(true)
			c.links[j][i].kill(true)
		}
	}
	s := c.servers[i]
	c.set(i, nil)
	s.Close()
	for j := range c.servers {
		if i != j {
			c.links[i][j].kill(false)
		}
	}
}

// isolate cuts a server off in both directions; the connections stay open.
func (c *cluster) isolate(i int, cut bool) {
	for j := range c.servers {
		if i != j {
			c.links[i][j].set(cut, cut, 0)
			c.links[j][i].set(cut, cut, 0)
		}
	}
}

// form founds the stripe on server 1 and waits until all others are passives.
func (c *cluster) form() {
	c.t.Helper()
	form(c.t, c.servers[0])
	c.settle()
}

// active returns the number of the server that is active and confirmed it; -1 for none.
func (c *cluster) active() int {
	for i, s := range c.servers {
		if s == nil || !s.leading.Load() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := s.Confirm(ctx)
		cancel()
		if err == nil {
			return i
		}
	}
	return -1
}

// settle waits until all servers that run are in place, and returns the active one.
func (c *cluster) settle() int {
	c.t.Helper()
	a := -1
	if !within(time.Minute, func() bool {
		if a = c.active(); a < 0 {
			return false
		}
		for i, s := range c.servers {
			if s != nil && i != a && s.Status().State != wire.StatePassive {
				return false
			}
		}
		for _, m := range c.servers[a].Members() {
			if i := slices.IndexFunc(c.servers, func(s *Stripe) bool { return s != nil && s.cfg.Self == m.Name }); i >= 0 && !m.Voter {
				return false
			}
		}
		return true
	}) {
		for i, s := range c.servers {
			if s != nil {
				c.t.Logf("server %d: %+v\n%+v", i+1, s.Status(), s.Members())
			}
		}
		c.t.Fatal("the stripe does not settle")
	}
	return a
}

// do proposes op on whoever is active until it is certain, and returns how often
// it was proposed without being certain of the outcome.
func (c *cluster) do(op string) (unsure int) {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, s := range c.servers {
			if s == nil || !s.leading.Load() {
				continue
			}
			agreed, known := c.try(s, op)
			if agreed {
				return unsure
			}
			if !known {
				unsure++
			}
		}
	}
	c.t.Fatalf("%q was not agreed in a minute", op)
	return 0
}

// try proposes op on s, which may not be active, to be proposed again unless it is agreed.
// known is false where it may have been made all the same.
func (c *cluster) try(s *Stripe, op string) (agreed, known bool) {
	c.t.Helper()
	switch _, err := do(s, op); {
	case err == nil:
		return true, true
	case wire.Is(err, wire.ErrUnsure):
		c.repeats(op)
		return false, false
	case !wire.Is(err, wire.ErrNotActive):
		c.t.Fatalf("propose: %v", err)
	}
	return false, true
}

// repeats notes that op may be made again.
func (c *cluster) repeats(op string) {
	if c.repeated == nil {
		c.repeated = map[string]bool{}
	}
	c.repeated[op] = true
}

// once leaves out what was made again: what do repeated may be there several times,
// one behind the other or with others' operations between them.
func (c *cluster) once(list []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(list), func(op string) bool {
		again := seen[op] && c.repeated[op]
		seen[op] = true
		return again
	})
}

// equal waits until all servers that run have applied the same.
func (c *cluster) equal(want ...string) {
	c.t.Helper()
	want = c.once(want)
	if !within(time.Minute, func() bool {
		for i, s := range c.servers {
			if s != nil && !slices.Equal(c.once(c.ledgers[i].list()), want) {
				return false
			}
		}
		return true
	}) {
		for i, s := range c.servers {
			if s != nil {
				c.t.Logf("server %d: %d operations of %d; %+v", i+1, len(c.ledgers[i].list()), len(want), s.Status())
			}
		}
		c.t.Fatal("not all servers have applied the same")
	}
	other := 0
	if !within(time.Minute, func() bool { other = c.differs(); return other == 0 }) { // a repeat may still be on its way
		c.t.Fatalf("server %d has other bytes", other)
	}
}

// differs returns the number of a server, from 1 on, whose state is not that of the
// first one that runs; 0: none.
func (c *cluster) differs() int {
	c.t.Helper()
	var first []byte
	for i, s := range c.servers {
		if s == nil {
			continue
		}
		v, _, err := s.fsm.viewNow()
		if err != nil {
			c.t.Fatal(err)
		}
		var b bytes.Buffer
		_, err = v.WriteTo(&b)
		v.Release()
		if err != nil {
			c.t.Fatal(err)
		}
		if first == nil {
			first = b.Bytes()
		}
		if !bytes.Equal(first, b.Bytes()) {
			return i + 1
		}
	}
	return 0
}

// writers propose numbered operations until stop is called, which returns those
// that were acknowledged and those whose fate is not known.
func (c *cluster) writers(n int) (stop func() (acked, unsure []string, refused map[wire.Word]int)) {
	var mu sync.Mutex
	var acked, unsure []string
	refused := map[wire.Word]int{}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for w := range n {
		wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-done:
					return
				default:
				}
				op := fmt.Sprintf("w%d-%d", w, k)
				for _, s := range c.running() {
					if !s.leading.Load() {
						continue
					}
					_, err := do(s, op)
					var e *wire.Error
					mu.Lock()
					switch {
					case err == nil:
						acked = append(acked, op)
					case wire.Is(err, wire.ErrUnsure):
						unsure = append(unsure, op)
					case errors.As(err, &e):
						refused[e.Word]++
					default:
						c.t.Errorf("propose: %v", err)
					}
					mu.Unlock()
					break
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() ([]string, []string, map[wire.Word]int) {
		close(done)
		wg.Wait()
		return acked, unsure, refused
	}
}

// check verifies that all that was acknowledged is there, once, and nothing but
// what was acknowledged or is unsure.
func (c *cluster) check(ledger []string, acked, unsure []string) {
	c.t.Helper()
	count := map[string]int{}
	for _, op := range c.once(ledger) {
		count[op]++
	}
	for _, op := range acked {
		if count[op] != 1 {
			c.t.Fatalf("acknowledged %q is there %d times", op, count[op])
		}
		delete(count, op)
	}
	for _, op := range unsure {
		if count[op] > 1 {
			c.t.Fatalf("unsure %q is there %d times", op, count[op])
		}
		delete(count, op)
	}
	if len(count) > 0 {
		c.t.Fatalf("%d operations are there that were refused", len(count))
	}
}
