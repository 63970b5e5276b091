package stripe

import (
	"os"
	"path/filepath"
	"testing"
)

// A server that syncs once a second and whose machine crashed joins anew, if
// there is an active one; a process that was killed keeps its identity.
func TestACrashedMachineJoinsAnewWhereItMayHaveForgotten(t *testing.T) {
	t.Parallel()
	if bootID() == "" {
		t.Skip("this system does not tell when it was started")
	}
	c := newCluster(t, 3, Config{Durability: EverySecond})
	c.form()
	c.do("a")
	a := c.settle()
	i := (a + 1) % 3
	id := c.servers[i].id
	running := filepath.Join(c.dirs[i], runningFile)
	mark, err := os.ReadFile(running)
	if err != nil {
		t.Fatal(err)
	}
	again := func(mark string) string {
		t.Helper()
		c.kill(i)
		if _, err := os.Stat(running); err == nil {
			t.Fatal("an orderly end leaves the mark")
		}
		if err := os.WriteFile(running, []byte(mark), 0o640); err != nil {
			t.Fatal(err)
		}
		c.start(i)
		c.settle()
		return c.servers[i].id
	}
	if again(string(mark)) != id {
		t.Error("a process that was killed lost its identity")
	}
	if again("an earlier start of the machine") == id {
		t.Error("a machine that crashed came back under its identity")
	}
	c.do("b")
	c.equal("a", "b")

	// All machines crash at once: what the disks have is the best there is.
	for j := range c.servers {
		c.kill(j)
	}
	for _, dir := range c.dirs {
		if err := os.WriteFile(filepath.Join(dir, runningFile), []byte("earlier"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for j := range c.servers {
		c.start(j)
	}
	c.settle()
	c.do("c")
	c.equal("a", "b", "c")
}
