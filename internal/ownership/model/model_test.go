package model

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// notUnderRace skips what takes ten times as long there. Its goroutines are those of
// the tests that stay, and make unit runs it without.
func notUnderRace(t *testing.T) {
	if race {
		t.Skip("takes too long with the race detector: make unit runs it without")
	}
}

// What takes more than a moment is make model's.
func TestSearchesFindNothing(t *testing.T) {
	notUnderRace(t)
	for _, c := range []Search{
		{Name: "requests", Writes: 1, Loads: 2, Renews: 1, PassThrough: true},
		{Name: "synchronous", Writes: 2, Loads: 1, Renews: 1, Sync: true},
		{Name: "logout", Writes: 1, Loads: 2, Renews: 1, Logout: true, PassThrough: true},
		{Name: "break", Loads: 1, Breaks: 1, Renews: 1, Progress: true},
		{Name: "fault", Loads: 1, Faults: 1, Renews: 1, Admin: true},
		{Name: "expiry", Loads: 1, Renews: 1, Expiry: true},
		{Name: "locking", Writes: 1, Loads: 1, Renews: 1, Locking: true, Progress: true},
		{Name: "drift", Writes: 1, Loads: 1, Renews: 1, Drift: 1},
	} {
		t.Run(c.Name, func(t *testing.T) {
			r := Run(context.Background(), c, Limits{})
			if r.Broken != "" || r.Cut != "" || r.Overflow > 0 {
				t.Errorf("%s breaks after %d steps; cut: %q; %d states did not fit\n%s", r.Broken, r.Depth, r.Cut, r.Overflow, r.Trace)
			}
			t.Logf("%d states, %v", r.States, r.Time)
		})
	}
}

func TestWhatRulesAreThereFor(t *testing.T) {
	notUnderRace(t)
	for _, c := range Mutations() {
		if c.Long {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			r := Run(context.Background(), c.Search, Limits{})
			if r.Broken != c.Broken || r.Cut != "" || r.Overflow > 0 {
				t.Fatalf("%q breaks, not %q; cut: %q; %d states did not fit\n%s", r.Broken, c.Broken, r.Cut, r.Overflow, r.Trace)
			}
			if c.Broken != "" && (r.Depth != c.Steps || len(r.Trace) != c.Steps) {
				t.Errorf("%s breaks after %d steps, which a trace of %d tells; not after %d", r.Broken, r.Depth, len(r.Trace), c.Steps)
			}
			t.Logf("%d states, %v", r.States, r.Time)
		})
	}
}

func TestEveryRuleHasAMutation(t *testing.T) {
	names := map[string]bool{}
	for _, r := range Rules() {
		if r.String() == "" || r.Says() == "" || names[r.String()] {
			t.Errorf("rule %d: no name of its own, or no text", r)
		}
		names[r.String()] = true
		if got, ok := RuleNamed(r.String()); !ok || got != r {
			t.Errorf("RuleNamed(%q) = %v, %v", r, got, ok)
		}
		i := slices.IndexFunc(Mutations(), func(m Mutation) bool { return len(m.Without) == 1 && m.Without[0] == r })
		if i < 0 {
			t.Errorf("%s: no mutation switches it off alone", r)
			continue
		}
		if m := Mutations()[i]; (m.Broken == "") != (m.Because != "") {
			t.Errorf("%s: a mutation breaks something or says why not", r)
		}
	}
}

// The search takes a state and its mirror image for one: what the one can do, the
// other must be able to do, too.
func TestNodesAreAlike(t *testing.T) {
	for _, c := range Searches() {
		at := c.initial()
		random := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			here, there := following(&c, at), following(&c, at.swapped())
			for i := range there {
				there[i] = there[i].swapped()
			}
			if !slices.Equal(hashes(here), hashes(there)) {
				t.Fatalf("%s: a state has %d successors, its mirror image %d others:\n%+v", c.Name, len(here), len(there), at)
			}
			if at = c.initial(); len(here) > 0 {
				at = here[random.IntN(len(here))]
			}
		}
	}
}

func following(c *Search, at state) (list []state) {
	var m *machine
	m = newMachine(c, func() { list = append(list, m.s) })
	m.successors(&at)
	return list
}

func hashes(list []state) []uint64 {
	var h []uint64
	for _, s := range list {
		h = append(h, maphash.Comparable(seed, s))
	}
	slices.Sort(h)
	return h
}

func TestTraceTellsTheWay(t *testing.T) {
	r := Run(context.Background(), Search{Writes: 1, Admin: true, Without: []Rule{AdminRecalls}}, Limits{})
	text := r.Trace.String()
	for _, want := range []string{"1. the active is told to end the session, entry 1.\n", "2. the log: commit 1 is made; the store has {}.\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the trace lacks %q:\n%s", want, text)
		}
	}
}

func TestLimitsCutSearchesAndSaySo(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name, want string
		ctx        context.Context
		limits     Limits
	}{
		{"states", "more than 100 states", context.Background(), Limits{States: 100}},
		{"memory", "more than 1 MiB of memory", context.Background(), Limits{Memory: 1 << 20}},
		{"context", "stopped: context canceled", ended, Limits{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := Run(c.ctx, Search{Writes: 1, Loads: 1, Renews: 1}, c.limits); r.Cut != c.want {
				t.Errorf("cut %q, not %q", r.Cut, c.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []Search{{Writes: 4}, {Writes: 3, Admin: true}, {Loads: 5}, {Breaks: -1}, {Faults: 3}, {Drift: 3}, {Locking: true, PassThrough: true}} {
		if c.Validate() == nil {
			t.Errorf("%+v is valid", c)
		}
	}
	for _, c := range Searches() {
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

func TestQueueKeepsOrder(t *testing.T) {
	var q queue
	for i := range uint8(len(q)) {
		if !q.put(msg(ack, i, 0, 0)) || q.len() != i+1 {
			t.Fatalf("message %d had no room", i)
		}
	}
	if q.put(msg(ack, 9, 0, 0)) {
		t.Error("a full queue took one more")
	}
	if g := q.take(1); g.a() != 1 || q.take(0).a() != 0 || q.take(0).a() != 2 || q.len() != 5 {
		t.Errorf("out of order: %v, then %v", g, q)
	}
	if g := msg(grant, 7, 5, bit(1)|bit(3)); g.kind() != grant || g.a() != 7 || g.b() != 5 || g.set() != bit(1)|bit(3) {
		t.Errorf("a message changed: %x", g)
	}
}

// The page for implementers has each rule as the code has it.
func TestPageTellsEveryRule(t *testing.T) {
	page, err := os.ReadFile("../../../docs/ownership.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range Mutations() {
		if len(m.Without) == 0 {
			continue
		}
		var names []string
		for _, r := range m.Without {
			names = append(names, "`"+r.String()+"`")
		}
		says := m.Without[0].Says()
		if len(names) > 1 {
			says = "both"
		}
		breaks := fmt.Sprintf("%s, %d", m.Broken, m.Steps)
		if m.Broken == "" {
			breaks = "nothing: " + m.Because
		}
		if line := fmt.Sprintf("| %s | %s | %s |\n", strings.Join(names, ", "), says, breaks); !strings.Contains(string(page), line) {
			t.Errorf("docs/ownership.md lacks\n%s", line)
		}
	}
	for _, p := range Properties() {
		if !strings.Contains(string(page), "\n| `"+string(p)+"` | ") {
			t.Errorf("docs/ownership.md does not explain %s", p)
		}
	}
}
