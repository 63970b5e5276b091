package client

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// scripted is a server on a pipe. answer returns what to say to a command: "" is
// what a healthy server says, "-" nothing at all, else an error's line.
func scripted(nc net.Conn, answer func(cmd string) string) {
	r := resp.NewReader(nc, resp.Limits{})
	for {
		args, err := r.ReadCommand()
		if err != nil {
			return
		}
		out := resp.AppendSimple(nil, "OK")
		switch text := answer(string(args[0])); {
		case text == "-":
			continue
		case text != "":
			out = resp.AppendError(nil, text)
		case string(args[0]) == wire.CmdJoin:
			j := wire.Joined{Version: wire.Version, MaxValue: 1 << 20}
			out = resp.AppendCommand(nil, j.AppendTo(nil)...)
		case string(args[0]) == wire.CmdCommit:
			o := wire.Outcome{Version: 1}
			out = resp.AppendCommand(nil, o.AppendTo(nil)...)
		}
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}

// several are servers of one cluster in a bubble with a clock of its own.
type several struct {
	piped
	began  time.Time
	mu     sync.Mutex
	script map[string]func(cmd string) string // by host; none is healthy
	seen   map[string][]string                // commands by host
}

func newSeveral(script map[string]func(cmd string) string) *several {
	s := &several{script: script, began: time.Now(), seen: make(map[string][]string)}
	s.serve = func(_ int, addr string, nc net.Conn) {
		scripted(nc, func(cmd string) string {
			s.mu.Lock()
			s.seen[addr] = append(s.seen[addr], cmd)
			f := s.script[addr]
			s.mu.Unlock()
			if f == nil {
				return ""
			}
			return f(cmd)
		})
	}
	return s
}

func (s *several) age() time.Duration { return time.Since(s.began) }

func (s *several) count(host, cmd string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.seen[host] {
		if c == cmd {
			n++
		}
	}
	return n
}

func (s *several) client(t *testing.T, hosts ...string) *Client {
	return newClient(t, Options{Hosts: hosts, Node: true, Dial: s.dial})
}

// in runs f in a bubble; the client is closed before the bubble's end.
func in(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t) })
}

func get(t *testing.T, c *Client) {
	t.Helper()
	if _, err := c.Do(t.Context(), true, args("GET", "k")...); err != nil {
		t.Fatal(err)
	}
}

func TestServerThatHangsAtJoin(t *testing.T) {
	in(t, func(t *testing.T) {
		s := newSeveral(map[string]func(string) string{"a:1": func(cmd string) string {
			if cmd == wire.CmdJoin {
				return "-"
			}
			return ""
		}})
		c := s.client(t, "a:1", "b:1")
		get(t, c)
		if d := s.age(); d > 5*time.Second/5+stagger {
			t.Errorf("a server that hangs at JOIN held us up for %v", d)
		}
		c.Close()
	})
}

// A server that takes long to join us is not hopped away from for ever.
func TestServerThatJoinsSlowly(t *testing.T) {
	in(t, func(t *testing.T) {
		s := newSeveral(map[string]func(string) string{
			"a:1": func(cmd string) string {
				if cmd == wire.CmdJoin {
					time.Sleep(3 * time.Second)
				}
				return ""
			},
			"b:1": func(cmd string) string {
				if cmd == wire.CmdJoin {
					return "NOTACTIVE ask a:1"
				}
				return ""
			},
		})
		c := s.client(t, "a:1", "b:1")
		get(t, c)
		if d := s.age(); d > 10*time.Second {
			t.Errorf("took %v", d)
		}
		c.Close()
	})
}

// While the passives elect, they are asked again soon, however silent the old
// active is: the first call goes on within moments of the election's end.
func TestElectionIsAwaited(t *testing.T) {
	for _, old := range []string{"a:1", "silent:1"} {
		t.Run(old, func(t *testing.T) {
			in(t, func(t *testing.T) {
				const elected = 700 * time.Millisecond
				var s *several
				s = newSeveral(map[string]func(string) string{
					"a:1": func(string) string { return "-" }, // paused: it accepts and says nothing
					"b:1": func(cmd string) string {
						if cmd != "HELLO" && s.age() < elected {
							return "NOTACTIVE no active server is known yet"
						}
						return ""
					},
					"c:1": func(cmd string) string {
						if cmd != "HELLO" {
							return "NOTACTIVE ask " + old
						}
						return ""
					},
				})
				c := s.client(t, old, "b:1", "c:1")
				get(t, c)
				if d := s.age(); d > elected+60*time.Millisecond {
					t.Errorf("noticed %v after the election", d-elected)
				}
				if n := s.count("c:1", wire.CmdJoin); n > 100 {
					t.Errorf("asked a passive %d times in %v", n, s.age())
				}
				c.Close()
			})
		})
	}
}

// A server that stops in the middle of a stream is left for the next one; nobody
// waits longer than the stall time-out. What was sent is sent again, with its number.
func TestPausedServerIsLeft(t *testing.T) {
	in(t, func(t *testing.T) {
		const pause, elected = time.Minute, time.Minute + time.Second
		s := newSeveral(nil)
		s.script = map[string]func(string) string{"a:1": s.pausedFrom(pause), "b:1": func(cmd string) string {
			if cmd == wire.CmdJoin && s.age() < elected {
				return "NOTACTIVE ask a:1"
			}
			return ""
		}}
		c := s.client(t, "a:1", "b:1")
		get(t, c)
		time.Sleep(pause)
		at := time.Now()
		if _, err := c.Commit(t.Context(), commit("k")); err != nil {
			t.Error(err)
		}
		if d := time.Since(at); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
		first, second := s.count("a:1", wire.CmdCommit), s.count("b:1", wire.CmdCommit)
		if first != 1 || second != 1 {
			t.Errorf("sent %d times to the paused server, %d times to the next", first, second)
		}
		c.Close()
	})
}

// pausedFrom is a server that says nothing any more from that age on.
func (s *several) pausedFrom(age time.Duration) func(string) string {
	return func(string) string {
		if s.age() >= age {
			return "-"
		}
		return ""
	}
}

// An idle connection notices it too, so that the next call need not.
func TestPausedServerIsLeftWhileIdle(t *testing.T) {
	in(t, func(t *testing.T) {
		s := newSeveral(nil)
		s.script = map[string]func(string) string{"a:1": s.pausedFrom(time.Minute)}
		c := s.client(t, "a:1", "b:1")
		get(t, c)
		time.Sleep(time.Minute + 4*time.Second)
		synctest.Wait()
		if s.count("b:1", wire.CmdJoin) != 1 {
			t.Error("after 4 s still with the paused server")
		}
		c.Close()
	})
}

// A command may take its time as long as its server shows life elsewhere.
func TestSlowCommandIsNoPause(t *testing.T) {
	in(t, func(t *testing.T) {
		s := newSeveral(map[string]func(string) string{"a:1": func(cmd string) string {
			if cmd == "GET" {
				time.Sleep(8 * time.Second)
			}
			return ""
		}})
		c := s.client(t, "a:1", "b:1")
		get(t, c)
		if s.age() < 8*time.Second || s.count("a:1", wire.CmdJoin) != 1 || s.count("b:1", wire.CmdJoin) != 0 {
			t.Errorf("after %v: %v", s.age(), s.seen)
		}
		c.Close()
	})
}

// The address in a redirect may be good only where the servers are.
func TestRedirectToWhereNobodyCanGo(t *testing.T) {
	in(t, func(t *testing.T) {
		const failover = time.Minute
		s := newSeveral(nil)
		s.script = map[string]func(string) string{}
		for _, host := range []string{"a:1", "b:1"} {
			s.script[host] = func(cmd string) string {
				if cmd != "HELLO" && (host == "b:1") != (s.age() < failover) {
					return "NOTACTIVE the active server is silent-inside:9410."
				}
				return ""
			}
		}
		c := s.client(t, "a:1", "b:1")
		get(t, c)
		if d := s.age(); d > 2*stagger {
			t.Errorf("took %v", d)
		}
		time.Sleep(failover)
		at := time.Now()
		get(t, c)
		if d := time.Since(at); d > 3*stagger {
			t.Errorf("after the failover: took %v", d)
		}
		c.Close()
	})
}

// A server that stops sends its clients to the others.
func TestStoppingServerIsLeft(t *testing.T) {
	in(t, func(t *testing.T) {
		s := newSeveral(map[string]func(string) string{"a:1": func(cmd string) string {
			if cmd == "GET" || cmd == wire.CmdJoin {
				return "STOPPING this server is going down"
			}
			return ""
		}})
		c := s.client(t, "a:1", "b:1")
		get(t, c)
		c.Close()
	})
}

// Two servers that each name the other keep nobody busy.
func TestServersThatNameEachOtherAtJoin(t *testing.T) {
	in(t, func(t *testing.T) {
		other := map[string]string{"a:1": "b:1", "b:1": "a:1"}
		s := newSeveral(map[string]func(string) string{})
		for host, next := range other {
			s.script[host] = func(cmd string) string {
				if cmd == wire.CmdJoin {
					return "NOTACTIVE ask " + next
				}
				return ""
			}
		}
		c := s.client(t, "a:1")
		ctx := within(t, time.Minute)
		_, err := c.Do(ctx, true, args("GET", "k")...)
		var e *UnavailableError
		if !errors.As(err, &e) || len(e.Servers) != 2 {
			t.Errorf("got %v", err)
		}
		for host := range other {
			if n := s.count(host, wire.CmdJoin); n < 100 || n > 1000 {
				t.Errorf("%s was asked %d times in a minute", host, n)
			}
		}
		c.Close()
	})
}

// A server that is lost soon after it was found holds up nobody who can go elsewhere.
func TestAnotherServerIsTriedAtOnce(t *testing.T) {
	in(t, func(t *testing.T) {
		var mu sync.Mutex
		active, conns := "a:1", map[net.Conn]bool{}
		other := map[string]string{"a:1": "b:1", "b:1": "a:1"}
		p := piped{serve: func(_ int, addr string, nc net.Conn) {
			mu.Lock()
			up := addr == active
			conns[nc] = up
			mu.Unlock()
			if up {
				healthy(nc, func([][]byte) bool { return true })
			}
		}}
		c := newClient(t, Options{Hosts: []string{"a:1", "b:1"}, Node: true, Dial: p.dial})
		get(t, c)
		for round := range 20 {
			time.Sleep(stableAfter / 2)
			mu.Lock()
			active = other[active]
			for nc := range conns {
				nc.Close()
			}
			clear(conns)
			mu.Unlock()
			lost := time.Now()
			get(t, c)
			if d := time.Since(lost); d > 0 {
				t.Errorf("round %d: %v until the next server was used", round, d)
			}
		}
		c.Close()
	})
}

// A server whose connections never last is tried with pauses, as one that refuses them.
func TestAServerThatLetsGoIsNotHammered(t *testing.T) {
	in(t, func(t *testing.T) {
		p := piped{serve: func(_ int, _ string, nc net.Conn) {
			scripted(nc, func(cmd string) string {
				if cmd == "GET" {
					nc.Close()
				}
				return ""
			})
		}}
		for _, hosts := range [][]string{{"a:1"}, {"a:1", "b:1"}} {
			p.mu.Lock()
			p.dials = nil
			p.mu.Unlock()
			c := newClient(t, Options{Hosts: hosts, Node: true, Dial: p.dial})
			_, err := c.Do(within(t, time.Minute), true, args("GET", "k")...)
			if err == nil {
				t.Error("answered")
			}
			c.Close()
			if n := len(p.dials); n < 120*len(hosts) || n > 260*len(hosts) {
				t.Errorf("%d tries in a minute at %q; a pause is 250 to 500 ms at last", n, hosts)
			}
		}
	})
}

// No call outlives its context, whatever the servers do, and its error names each of them.
func TestNoCallOutlivesItsContext(t *testing.T) {
	in(t, func(t *testing.T) {
		s := newSeveral(map[string]func(string) string{
			"a:1": func(string) string { return "-" },
			"b:1": func(cmd string) string {
				if cmd == wire.CmdJoin {
					return "-"
				}
				return ""
			},
			"c:1": func(cmd string) string {
				if cmd == wire.CmdJoin {
					return "NOTACTIVE no active server is known yet"
				}
				return ""
			},
		})
		hosts := []string{"silent:1", "a:1", "b:1", "c:1"}
		c := s.client(t, hosts...)
		for _, patience := range []time.Duration{time.Millisecond, 500 * time.Millisecond, 20 * time.Second} {
			at := time.Now()
			_, err := c.Commit(within(t, patience), commit("k"))
			if d := time.Since(at); d != patience {
				t.Errorf("returned after %v, want %v", d, patience)
			}
			var e *UnavailableError
			if !errors.As(err, &e) || errors.Is(err, ErrUnsure) {
				t.Fatalf("got %v", err)
			}
			var names []string
			for _, a := range e.Servers {
				names = append(names, a.Server)
			}
			slices.Sort(names)
			if fmt.Sprint(names) != fmt.Sprint([]string{"a:1", "b:1", "c:1", "silent:1"}) {
				t.Errorf("names %v: %v", names, err)
			}
		}
		c.Close()
	})
}

func TestSearchHasBounds(t *testing.T) {
	in(t, func(t *testing.T) {
		n := 0
		s := newSeveral(nil)
		dial := s.dial
		serve := func(cmd string) string {
			if cmd == wire.CmdJoin {
				n++
				return fmt.Sprintf("NOTACTIVE ask other-%d:1", n)
			}
			return ""
		}
		s.script = map[string]func(string) string{"a:1": serve}
		for i := range 100 {
			s.script[fmt.Sprintf("other-%d:1", i)] = serve
		}
		c := newClient(t, Options{Hosts: []string{"a:1"}, Node: true, Dial: dial})
		_, err := c.Do(within(t, long), true, args("GET", "k")...)
		var e *UnavailableError
		if !errors.As(err, &e) || len(e.Servers) != maxServers {
			t.Errorf("got %v", err)
		}
		c.Close()
	})
}
