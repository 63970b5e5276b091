package stripe

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// A server that was removed while it was away finds that out, and joins anew with
// the data it has.
func TestARemovedServerJoinsAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, Config{})
	c.form()
	c.do("a")
	id := c.servers[2].Status().ServerID
	c.kill(2)
	a := c.settle()
	if err := c.servers[a].removeMember(raft.ServerID(id)); err != nil {
		t.Fatal(err)
	}
	c.do("b")
	c.start(2)
	c.settle()
	c.do("c")
	c.equal("a", "b", "c")
	if c.servers[2].Status().ServerID != id {
		t.Error("it has another identity")
	}
}

// The state of a stripe of several is not started as that of a sole server, nor
// without the file that says which stripe it is of.
func TestStateOfSeveralIsNotMistaken(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, Config{})
	c.form()
	c.kill(0)
	c.kill(1)
	_, err := open(Config{Dir: c.dirs[0], Durability: EveryWrite}, &ledger{}, parts{})
	refusedWith(t, err, "a stripe of 2 servers", "configure all of them")
	if err := os.Remove(filepath.Join(c.dirs[0], stripeFile)); err != nil {
		t.Fatal(err)
	}
	cfg := c.config(0)
	cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(cfg, &ledger{}, parts{})
	refusedWith(t, err, stripeFile, "put the file back")
}

// A sole server's data goes on in a stripe of several: the others join it.
func TestASoleServerGetsPassives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := start(t, Config{Dir: dir}, parts{})
	form(t, s)
	must(t, s, "alone")
	s.Close()
	os.Remove(filepath.Join(dir, stripeFile)) // as an earlier version left it
	c := newClusterIn(t, []string{dir, "", ""}, Config{}, parts{})
	c.settle()
	c.do("together")
	c.equal("alone", "together")
	config, err := c.servers[c.settle()].configuration()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range config.Servers {
		if name, _ := splitAddress(m.Address); !strings.HasPrefix(name, "server-") {
			t.Errorf("a server without a name: %v", m)
		}
	}
}
