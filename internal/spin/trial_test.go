package spin

import (
	"math/rand/v2"
	"testing"
	"time"
)

// world is a node and a processor on which the waits take what cost says.
type world struct {
	trial Trial
	now   time.Time
	cost  func(look bool) time.Duration
	look  bool
}

// looked returns the share of n waits before which the trial has looked.
func (w *world) looked(n int) float64 {
	looks := 0
	for range n {
		w.look = w.trial.Open(w.now, 5)
		if w.look {
			looks++
		}
		w.now = w.now.Add(w.cost(w.look))
	}
	return float64(looks) / float64(n)
}

// costs are waits that take a tenth more or less by chance, and with looks by gain less.
func costs(usual time.Duration, gain float64) func(bool) time.Duration {
	chance := rand.New(rand.NewPCG(1, 2))
	return func(look bool) time.Duration {
		d := float64(usual) * (0.9 + 0.2*chance.Float64())
		if look {
			d *= 1 - gain
		}
		return time.Duration(d)
	}
}

const rounds = windowWaits * trialWindows * (1 + keepFactor)

func TestTrialKeepsTheFasterWay(t *testing.T) {
	for _, test := range []struct {
		usual time.Duration
		gain  float64
		looks bool
	}{
		{30 * time.Microsecond, 0.1, true}, {30 * time.Microsecond, -0.1, false}, {30 * time.Microsecond, 0, false},
		{3 * time.Millisecond, 0.1, true}, {3 * time.Millisecond, -0.5, false},
	} {
		w := world{now: time.Unix(1, 0), cost: costs(test.usual, test.gain)}
		w.looked(rounds)
		got := w.looked(3 * rounds)
		if test.looks && got < 0.75 || !test.looks && got > 0.25 {
			t.Errorf("waits of %v, looks save %v of that: before %.2f of them it looks", test.usual, test.gain, got)
		}
	}
}

// What was worth it and is no more ends soon, also where a wait has become long.
func TestTrialFollowsTheLoad(t *testing.T) {
	w := world{now: time.Unix(1, 0), cost: costs(30*time.Microsecond, 0.2)}
	w.looked(rounds)
	if !w.look {
		t.Fatal("it does not look")
	}
	w.cost = costs(4*time.Millisecond, -0.5)
	began := w.now
	for w.looked(200) > 0.1 {
		if w.now.Sub(began) > 10*time.Second {
			t.Fatal("it still looks after ten seconds")
		}
	}
	w.cost = costs(30*time.Microsecond, 0.2)
	w.looked(2 * rounds)
	if got := w.looked(rounds); got < 0.75 {
		t.Errorf("it looks before %.2f of the waits only", got)
	}
}

// On a busy machine looks that wait for a processor are few: trying them costs little time.
func TestTrialOfWhatIsBadIsShort(t *testing.T) {
	w := world{now: time.Unix(1, 0)}
	var spent [2]time.Duration
	w.cost = func(look bool) time.Duration {
		if look {
			spent[1] += 4 * time.Millisecond
			return 4 * time.Millisecond
		}
		spent[0] += 100 * time.Microsecond
		return 100 * time.Microsecond
	}
	w.looked(200_000)
	if spent[1] > spent[0]/10 {
		t.Errorf("%v with looks, %v without", spent[1], spent[0])
	}
}
