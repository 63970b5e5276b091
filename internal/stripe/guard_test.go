package stripe

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// A passive server whose state differs from the active one's says so, does not
// become active, and gets the state anew at its next start; its old state is kept.
func TestAServerThatDivergedStartsAnew(t *testing.T) {
	t.Parallel()
	var log lines
	c := newClusterIn(t, make([]string, 3), Config{Logger: log.logger(t), Timers: calm}, parts{guard: 50 * time.Millisecond})
	c.form()
	for _, op := range []string{"a", "b"} {
		c.do(op)
	}
	c.equal("a", "b")
	eventually(t, "all servers have summed", func() bool {
		for _, s := range c.servers {
			if len(s.guard.known()) == 0 {
				return false
			}
		}
		return true
	})
	for _, s := range c.servers {
		s.look(time.Now())
		if st := s.Status(); st.Divergence != "" {
			t.Fatalf("equal states differ: %+v", st)
		}
	}
	bad := (c.settle() + 1) % 3
	c.ledgers[bad].Apply(c.ledgers[bad].Now(), []byte("what no log holds"))
	eventually(t, "it notices", func() bool {
		c.servers[bad].look(time.Now())
		return c.servers[bad].Status().Divergence != ""
	})
	if !log.have("THE STATE OF THIS SERVER IS NOT THAT OF THE ACTIVE ONE") {
		t.Error("the log does not say so")
	}
	a := -1
	eventually(t, "one is active", func() bool { a = c.active(); return a >= 0 }) // the bad one may be removed by now
	for i, s := range c.servers {
		if d := s.Status().Divergence; i != bad && d != "" {
			t.Errorf("server %d: %s", i+1, d)
		}
	}
	// Even if it is elected it serves nothing, and another one does.
	if err := c.servers[a].raft.LeadershipTransferToServer("", "").Error(); err == nil {
		t.Error("transferred to nobody")
	}
	to := c.servers[bad]
	c.servers[a].raft.LeadershipTransferToServer(raftID(to), raftAddress(to.cfg.Self, to.id)).Error()
	eventually(t, "a sound server is active", func() bool { return !to.leading.Load() && c.active() >= 0 && c.active() != bad })

	// It is removed, and then told to start anew: before that it is needed under its name.
	id := to.id
	c.restarted(bad, func() {
		for _, s := range c.servers {
			s.look(time.Now())
		}
	})
	c.settle()
	c.do("c")
	c.equal("a", "b", "c")
	if c.servers[bad].id == id {
		t.Error("it has the old identity")
	}
	aside, _ := filepath.Glob(filepath.Join(c.dirs[bad], "set-aside-*"))
	if len(aside) != 1 {
		t.Fatalf("set aside: %q", aside)
	}
	if b, err := os.ReadFile(filepath.Join(aside[0], divergedFile)); err != nil || !strings.Contains(string(b), "differs from that of the active server") {
		t.Errorf("why it was set aside: %q, %v", b, err)
	}
	list, err := os.ReadDir(aside[0])
	if err != nil || !slices.ContainsFunc(list, func(e os.DirEntry) bool { return e.Name() == walFolder }) {
		t.Errorf("set aside: %v, %v", list, err)
	}
	if c.servers[bad].Status().State != wire.StatePassive {
		t.Errorf("%+v", c.servers[bad].Status())
	}
}

// lines keeps what was logged.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), l), nil))
}

func (l *lines) have(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.all.String(), words)
}

// restarted waits until server i is to start anew, and starts it as its process does.
func (c *cluster) restarted(i int, poll func()) {
	c.t.Helper()
	eventually(c.t, "it is to start anew", func() bool {
		poll()
		select {
		case <-c.servers[i].Lost():
			return true
		default:
			return false
		}
	})
	c.kill(i)
	c.start(i)
}

// Of two servers that need each other the passive one that diverged keeps its
// promises until the active one has removed it, even if it is restarted meanwhile.
// Where it is needed for the majority it stays.
func TestADivergedServerLeavesOnlyWhereItCan(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprint(n, " servers"), func(t *testing.T) {
			t.Parallel()
			var log lines
			c := newClusterIn(t, make([]string, n), Config{Logger: log.logger(t), Timers: calm}, parts{})
			c.form()
			c.do("a")
			c.equal("a")
			a := c.settle()
			bad, id := (a+1)%n, c.servers[(a+1)%n].id
			if n == 3 {
				third := raftID(c.servers[3-a-bad])
				c.kill(3 - a - bad)
				eventually(t, "the third is missed", func() bool { return !c.servers[a].inTouch(third) })
			}
			c.isolate(bad, true) // nobody hears yet that it diverged
			c.servers[bad].diverge("a test says so")
			c.kill(bad)
			c.start(bad)
			c.isolate(bad, false)
			if d := c.servers[bad].Status().Divergence; d != "a test says so" {
				t.Fatalf("after a restart: %q", d)
			}
			if n == 3 {
				a = c.settle()
				for range 3 {
					c.servers[a].look(time.Now())
					c.servers[bad].look(time.Now())
				}
				select {
				case <-c.servers[bad].Lost():
					t.Fatal("it leaves, and nothing is a majority any more")
				default:
				}
				if !log.have("A PASSIVE SERVER HAS OTHER DATA than this active one, and is needed for the majority") {
					t.Error("the log does not say why it stays")
				}
				c.do("b")
				c.start(3 - a - bad)
			}
			c.restarted(bad, func() {
				for _, s := range c.servers {
					s.look(time.Now())
				}
			})
			c.settle()
			c.do("c")
			if c.servers[bad].id == id || c.servers[bad].Status().Divergence != "" {
				t.Errorf("%+v", c.servers[bad].Status())
			}
		})
	}
}

func raftID(s *Stripe) raft.ServerID { return raft.ServerID(s.id) }
