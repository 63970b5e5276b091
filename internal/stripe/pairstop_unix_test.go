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
	var stopped time.Time
	stop := func(p *pairProcess) {
		stopped = time.Now()
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	a, b := pair.tries(func(a, b *pairProcess) bool {
		stop(a)
		return b.goesOn(stopped.Add(defaultPairAlone / 2))
	}, func(a, _ *pairProcess) { a.cmd.Process.Signal(syscall.SIGCONT) })
	t.Logf("the passive goes on after %v", b.lastActed().Sub(stopped))
	woken := time.Now()
	a.cmd.Process.Signal(syscall.SIGCONT)
	if !within(time.Minute, func() bool { return a.is() == "PASSIVE true" }) {
		t.Fatalf("it does not come back: %s", a.is())
	}
	if acted := a.lastActed(); acted.After(woken) {
		t.Errorf("it answered what it was asked %v after it woke", acted.Sub(woken))
	}
	// And the passive: it may have been removed while it slept, so it waits.
	a, b = pair.tries(func(a, b *pairProcess) bool {
		stop(b)
		return a.goesOn(stopped.Add(5 * defaultPairAlone / 4))
	}, func(_, b *pairProcess) { b.cmd.Process.Signal(syscall.SIGCONT) })
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
