package history

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// A session in the model: it is absent, then live, then gone, and never comes back.
// It has two attributes; a value is a number that is written once, 0 is none.

type phase byte

const (
	absent phase = iota
	live
	gone
)

func (p phase) String() string { return [...]string{"absent", "live", "gone"}[p] }

const attributes = 2

type values [attributes]uint64

type state struct {
	phase  phase
	values values
}

type opKind byte

const (
	opLoad opKind = iota
	opCreate
	opCommit
	opEnd
)

type input struct {
	kind opKind
	key  string
	seen values // opCommit: what its load was told
	set  values // opCreate, opCommit: what to write; 0 leaves the attribute alone
}

// output is what the caller was told.
type output struct {
	unknown bool             // nothing at all
	found   phase            // what it met: live where it did its work
	values  values           // opLoad
	dropped [attributes]bool // opCommit: came too late
}

var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, in, out any) (bool, any) {
		ok, next := step(s.(state), in.(input), out.(output))
		return ok, next
	},
	DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
}

// step says whether the answer fits the state, and what the state becomes.
func step(s state, in input, out output) (bool, state) {
	met := s.phase
	next := s
	var dropped [attributes]bool
	switch in.kind {
	case opLoad:
		return out.found == s.phase && out.values == s.values, s
	case opCreate:
		if s.phase == absent {
			// A create that finds nothing does its work, and is told "absent".
			next = state{live, in.set}
		}
	case opEnd:
		if s.phase == live {
			next = state{phase: gone}
		} else {
			met = gone // it is told that there was none, not why
		}
	case opCommit:
		if s.phase != live {
			break
		}
		for i, v := range in.set {
			switch {
			case v == 0:
			case s.values[i] == in.seen[i]:
				next.values[i] = v
			default:
				dropped[i] = true
			}
		}
	}
	if out.unknown {
		return true, next
	}
	return out.found == met && out.dropped == dropped, next
}

// describe is an operation in words, for people.
func describe(in input, out output) string {
	told := fmt.Sprintf("met %v", out.found)
	if out.unknown {
		told = "unknown"
	}
	switch in.kind {
	case opLoad:
		return fmt.Sprintf("load: %s %v", told, out.values)
	case opCreate:
		return fmt.Sprintf("create %v: %s", in.set, told)
	case opEnd:
		return fmt.Sprintf("end: %s", told)
	}
	return fmt.Sprintf("commit %v having seen %v: %s, dropped %v", in.set, in.seen, told, out.dropped)
}
