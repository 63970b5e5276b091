package spin

import "time"

// Trial says whether to look where several commands come at a time. What a look costs
// there depends on what else the processors have to do, first of all for the other end. So
// both ways are tried in turn and timed, and the one that takes less time for a command
// is kept for a while. The zero value is ready; it is for one goroutine.
type Trial struct {
	look    bool
	last    time.Time // when the last wait began
	began   time.Time // the trial
	windows int       // of the trial
	ways    [2]taken  // without looks, and with them, in the trial
	kept    bool      // the trial is over
	until   time.Time // the next one begins

	window struct { // the one that runs
		taken
		began time.Time
		waits int
	}
}

// taken is what commands have taken.
type taken struct {
	time     time.Duration
	commands int
}

func (t *taken) add(o taken) { t.time, t.commands = t.time+o.time, t.commands+o.commands }

// perCommand is 0 where there was no command.
func (t taken) perCommand() float64 { return float64(t.time) / float64(max(1, t.commands)) }

// A window ends after windowWaits, or after windowTime where others keep the processors
// busy. Its beginning doesn't count: the other end has to find to the new way first.
const (
	windowWaits, beginWaits = 80, 16
	windowTime, beginTime   = 10 * time.Millisecond, 2 * time.Millisecond
)

// A trial has trialWindows, or two where the ways differ by plainly at the least. A gain
// below minGain is not worth the processor time that looks take from others. What was
// found better is kept keepFactor times as long as the trial took, unless it becomes
// plainly worse than it was.
const (
	trialWindows = 8
	plainly      = 1.5
	minGain      = 0.02
	keepFactor   = 12
)

// pause is what a wait counts at the most: a longer one tells of the node, not of looks.
const pause = 20 * time.Millisecond

// Open reports whether to look before the wait that begins now. commands is how many
// have come since the last wait began.
func (t *Trial) Open(now time.Time, commands int) bool {
	if t.last.IsZero() {
		t.begin(now)
	}
	took := min(now.Sub(t.last), pause)
	t.last = now
	w := &t.window
	sofar := now.Sub(w.began)
	if w.waits++; w.waits > beginWaits || sofar > beginTime {
		w.add(taken{took, commands})
	}
	if w.waits == windowWaits || sofar > windowTime {
		t.turn(now)
		w.taken, w.began, w.waits = taken{}, now, 0
	}
	return t.look
}

func (t *Trial) begin(now time.Time) {
	*t = Trial{look: t.look, last: now, began: now}
	t.window.began = now
}

// turn decides on the way of the next window.
func (t *Trial) turn(now time.Time) {
	way := &t.ways[0]
	if t.look {
		way = &t.ways[1]
	}
	if t.kept {
		if now.After(t.until) || t.window.perCommand() > 2*plainly*way.perCommand() {
			t.begin(now)
		}
		return
	}
	way.add(t.window.taken)
	t.windows++
	without, with := t.ways[0].perCommand(), t.ways[1].perCommand()
	if t.windows < trialWindows && (t.windows%2 == 1 || max(without, with) < plainly*min(without, with)) {
		t.look = !t.look
		return
	}
	t.look = with < (1-minGain)*without
	t.kept, t.until = true, now.Add(keepFactor*now.Sub(t.began))
}
