package spin

import (
	"testing"
	"time"
)

// waits counts how many waits a gate lets pass without a look.
func waits(g *Gate) (n int) {
	for !g.Open() {
		n++
	}
	return n
}

func TestGateLearnsFromWhatWasInVain(t *testing.T) {
	var g Gate
	note := func(found bool, took time.Duration, want int) {
		t.Helper()
		g.Note(found, took)
		if got := waits(&g); got != want {
			t.Errorf("%d waits go without a look, want %d", got, want)
		}
	}
	const quick = Limit / 10
	vain := func(want int) {
		t.Helper()
		for range 4 {
			note(false, Limit, 0)
		}
		note(false, Limit, want)
	}
	vain(8)
	vain(16)
	note(true, quick, 0)
	vain(32) // one that was worth it is not enough
	for range 100 {
		note(true, quick, 0)
	}
	note(true, 30*Limit, 8) // it came too late: others had the processor
	for range 10 {
		g.Note(false, 30*Limit)
	}
	waits(&g)
	vain(256) // there is an end to it
}
