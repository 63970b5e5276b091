//go:build unix

package stripe

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGSTOP of the active one for longer than its passive waits, then SIGCONT: it
// must not answer anything that it was asked after it woke.
func TestPairStopped(t *testing.T) {
	t.Parallel()
	pair := newPairProcesses(t)
	a, b := pair.ready()
	if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	if !within(time.Minute, func() bool { return b.lastActed().After(stopped.Add(defaultPairAlone / 2)) }) {
		a.cmd.Process.Signal(syscall.SIGCONT)
		t.Fatalf("the passive does not go on: %s", b.is())
	}
	t.Logf("the passive goes on after %v", time.Since(stopped))
	woken := time.Now()
	a.cmd.Process.Signal(syscall.SIGCONT)
	if !within(time.Minute, func() bool { return a.is() == "PASSIVE true" }) {
		t.Fatalf("it does not come back: %s", a.is())
	}
	if acted := a.lastActed(); acted.After(woken) {
		t.Errorf("it answered what it was asked %v after it woke", acted.Sub(woken))
	}
	// And the passive: it may have been removed while it slept, so it waits.
	a, b = pair.ready()
	b.cmd.Process.Signal(syscall.SIGSTOP)
	stopped = time.Now()
	if !within(time.Minute, func() bool { return a.lastActed().After(stopped.Add(5 * defaultPairAlone / 4)) }) {
		t.Fatalf("the active does not go on: %s", a.is())
	}
	a.kill()
	woken = time.Now()
	b.cmd.Process.Signal(syscall.SIGCONT)
	if !within(time.Minute, func() bool { return strings.HasPrefix(b.is(), "PASSIVE_SUSPENDED") }) {
		t.Fatalf("it is %s", b.is())
	}
	time.Sleep(5 * defaultPairAlone / 4)
	if acted := b.lastActed(); acted.After(woken) {
		t.Error("it serves its old data")
	}
	a.start()
	pair.ready()
}
