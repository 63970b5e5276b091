package server

import (
	"io"
	"net"
	"testing"
)

// The rule behind TestAttackPipelinedLoadsWithoutReading.
func TestTurnOfAnAnswer(t *testing.T) {
	here, there := net.Pipe()
	limits := Limits{MaxOutput: 10}.withDefaults()
	var a answers
	a.init(here, &limits, nil, nil)
	may := func(s *slot, first bool) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.mayAnswerLocked(s, first)
	}
	one, two := a.wait(), a.wait()
	if !may(one, true) || may(two, true) || !may(two, false) {
		t.Error("before any answer: the first may always, the second out of order only")
	}
	a.inline = append(a.inline, "a long answer behind the second"...)
	three := a.wait() // hands it over
	if !may(one, false) || may(two, false) || may(three, false) {
		t.Error("what is held behind the first must stop the others, and not it")
	}
	one.settle(func(dst []byte) []byte { return append(dst, "a long first answer"...) })
	if may(two, false) || may(two, true) {
		t.Error("the second may answer although the peer has not taken the first")
	}
	read := make(chan int)
	go func() {
		b, _ := io.ReadAll(there)
		read <- len(b)
	}()
	two.turn(true) // comes when the first is read
	two.settle(func(dst []byte) []byte { return append(dst, '2') })
	three.turn(true)
	a.mu.Lock()
	a.breakLocked()
	a.mu.Unlock()
	a.wait().turn(true) // a broken connection keeps nobody
	a.flushs.Wait()
	if n := <-read; n < len("a long first answer") {
		t.Errorf("%d bytes were read", n)
	}
}
