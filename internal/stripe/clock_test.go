package stripe

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/store"
)

// fakeTime is a monotonic clock and a wall clock that can jump.
type fakeTime struct {
	mu     sync.Mutex
	passed time.Duration
	wall   time.Time
}

func newFakeTime() *fakeTime {
	return &fakeTime{passed: time.Hour, wall: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
}

func (f *fakeTime) clock() *logClock {
	return &logClock{
		mono: func() time.Duration { f.mu.Lock(); defer f.mu.Unlock(); return f.passed },
		wall: func() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.wall },
	}
}

func (f *fakeTime) pass(d time.Duration) { f.passed += d; f.wall = f.wall.Add(d) }

func ms(d time.Duration) store.Time { return store.Time(d / time.Millisecond) }

func TestLogTimeStartsFromTheWallClockOnlyForward(t *testing.T) {
	f := newFakeTime()
	wall := store.Time(f.wall.UnixMilli())
	c := f.clock()
	if c.read() != 0 {
		t.Error("a clock that was not started reads", c.read())
	}
	c.start(5, true) // cold, last entry long ago
	if c.read() != wall {
		t.Errorf("cold start at %d, wall clock %d", c.read(), wall)
	}
	c = f.clock()
	c.start(wall+ms(24*time.Hour), true) // cold, last entry ahead of the wall clock
	if c.read() != wall+ms(24*time.Hour) {
		t.Error("a cold start went back")
	}
	c = f.clock()
	c.start(wall-ms(24*time.Hour), false) // taken over from an active that counted
	if c.read() != wall-ms(24*time.Hour) {
		t.Error("a start that is not cold took the wall clock whole")
	}
}

// A wall clock that jumps by a day, either way, neither freezes log time nor
// lets it run: an hour stays an hour but for one part in a hundred.
func TestAClockJumpOfADayFreezesNothing(t *testing.T) {
	for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		f := newFakeTime()
		c := f.clock()
		c.start(0, true)
		before := c.read()
		f.wall = f.wall.Add(jump)
		for range 3600 {
			f.pass(time.Second)
			c.read()
		}
		hour := time.Duration(c.read()-before) * time.Millisecond
		if hour < 59*time.Minute || hour > 61*time.Minute {
			t.Errorf("after a jump of %v an hour took %v", jump, hour)
		}
		// And it goes towards the wall clock, so that it agrees some day.
		if (hour > time.Hour) != (jump > 0) {
			t.Errorf("after a jump of %v an hour took %v: that is away from the wall clock", jump, hour)
		}
	}
}

func TestLogTimeGoesOnWhenLeadershipComesBack(t *testing.T) {
	f := newFakeTime()
	c := f.clock()
	c.start(0, true)
	f.pass(time.Minute)
	at := c.read()
	f.pass(time.Minute)
	c.start(at, false)
	if got := c.read() - at; got != ms(time.Minute) {
		t.Errorf("a minute without leadership took %d ms", got)
	}
}

// Law: log time never goes back and never differs from elapsed time by more than
// one part in a hundred, whatever the wall clock does.
func TestLogTimeLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFakeTime()
		c := f.clock()
		c.start(store.Time(rapid.Int64Range(0, 1<<41).Draw(t, "last")), rapid.Bool().Draw(t, "cold"))
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			before := c.read()
			longest := rapid.SampledFrom([]time.Duration{3 * time.Millisecond, time.Hour}).Draw(t, "longest")
			d := time.Duration(rapid.Int64Range(0, int64(longest)).Draw(t, "passed"))
			f.pass(d)
			f.wall = f.wall.Add(time.Duration(rapid.Int64Range(-int64(48*time.Hour), int64(48*time.Hour)).Draw(t, "jump")))
			got := c.read() - before
			if low, high := ms(d*99/100)-1, ms(d*101/100)+1; got < max(0, low) || got > high+1 {
				t.Fatalf("%v took %d ms", d, got)
			}
		}
	})
}

// Law: through restarts, with a wall clock that jumps by days either way, log
// time in the log never goes back, and never sticks.
func TestLogTimeLawThroughRestarts(t *testing.T) {
	t.Parallel()
	dir, f := t.TempDir(), newFakeTime()
	var last store.Time
	for i, jump := range []time.Duration{0, -24 * time.Hour, 24 * time.Hour, -48 * time.Hour, 0} {
		f.wall = f.wall.Add(jump)
		s, l := start(t, Config{Dir: dir}, parts{clock: f.clock()})
		form(t, s)
		if s.Now() < last {
			t.Fatalf("start %d: log time %d, was %d", i, s.Now(), last)
		}
		for range 5 {
			must(t, s, "x")
			if l.back || l.Now() < last {
				t.Fatalf("start %d: log time went back from %d to %d", i, last, l.Now())
			}
			last = l.Now()
			f.mu.Lock()
			f.pass(time.Minute)
			f.wall = f.wall.Add(-jump / 2)
			f.mu.Unlock()
			must(t, s, "y")
			if d := l.Now() - last; d < ms(59*time.Second) || d > ms(61*time.Second) {
				t.Fatalf("start %d: a minute took %d ms", i, d)
			}
			last = l.Now()
		}
		if i%2 == 1 {
			if err := s.snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
	}
}
