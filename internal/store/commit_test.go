package store

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func (r *rig) dropped(out wire.Outcome, names ...string) {
	r.Helper()
	r.ok(out)
	if got := string(bytes.Join(out.Dropped, []byte(","))); got != strings.Join(names, ",") {
		r.Fatalf("dropped %q; want %q", got, names)
	}
}

func TestOldTokenOfAnotherAttributeIsKept(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0, "cart", "book", "lang", "en"))
	old := r.ticket("s")
	r.dropped(r.set(nodeB, "s", r.ticket("s"), "cart", "cd"))
	r.dropped(r.set(nodeA, "s", old, "lang", "de"))
	r.shows("s", "cart=cd lang=de")
}

func TestOldTokenOfTheSameAttributeIsDropped(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0, "cart", "book", "lang", "en"))
	old := r.ticket("s")
	won := r.ok(r.set(nodeB, "s", r.ticket("s"), "cart", "cd"))
	r.dropped(r.set(nodeA, "s", old, "cart", "tv", "lang", "de"), "cart")
	r.shows("s", "cart=cd lang=de")
	late := r.ok(r.remove(nodeA, "s", old, "cart"))
	r.dropped(late, "cart")
	if late.Version >= r.Index() || late.Version <= won.Version {
		t.Fatalf("a commit that changed nothing has version %d at index %d", late.Version, r.Index())
	}
}

func TestOneTokenCommitsAgainAndAgain(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0))
	tok := r.ticket("s")
	first := r.write(nodeA, "s", tok) // taken, sent late
	r.dropped(r.set(nodeA, "s", tok, "n", "2"))
	r.dropped(r.set(nodeA, "s", tok, "n", "3"))
	r.shows("s", "n=3")
	r.dropped(r.apply(AppendCommit(nil, &wire.Commit{Write: first, Idle: wire.KeepIdle, Set: attrs("n", "1")})), "n")
	r.dropped(r.set(nodeB, "s", r.ticket("s"), "n", "4"))
	r.dropped(r.set(nodeA, "s", tok, "n", "5"), "n") // another was in between
	r.shows("s", "n=4")
}

func TestZeroTokenIsNobodys(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0, "n", "1"))
	r.dropped(r.set(nodeB, "s", wire.Token{}, "n", "2"), "n")
	r.dropped(r.set(nodeA, "s", wire.Token{}, "n", "2"), "n")
}

func TestLateSetAfterRemovalIsDropped(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0, "cart", "book"))
	old := r.ticket("s")
	r.dropped(r.remove(nodeB, "s", r.ticket("s"), "cart", "never there"))
	r.dropped(r.set(nodeA, "s", old, "cart", "tv", "never there", "x"), "cart", "never there")
	r.shows("s", "")
	r.dropped(r.set(nodeA, "s", r.ticket("s"), "cart", "new"))
	r.shows("s", "cart=new")
}

func TestFoldedRemovalsStayRemoved(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0))
	r.ok(r.set(nodeA, "s", r.ticket("s"), "keep", "1"))
	old := r.ticket("s")
	tok := r.ticket("s")
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("n%02d", i))
		r.dropped(r.set(nodeB, "s", tok, names[i], "x"))
	}
	r.dropped(r.remove(nodeB, "s", tok, names...))
	for _, name := range names {
		r.dropped(r.set(nodeA, "s", old, name, "late"), name)
	}
	r.dropped(r.set(nodeA, "s", old, "keep", "2")) // what is there never conflicts with them
	for _, name := range names {                   // nor do they with who removed them
		r.dropped(r.set(nodeB, "s", tok, name, "again"))
	}
	r.dropped(r.remove(nodeA, "s", r.ticket("s"), names...))
	r.dropped(r.set(nodeB, "s", tok, names[0], "too late"), names[0])
	r.dropped(r.set(nodeB, "s", r.ticket("s"), names[0], "fresh"))
	r.shows("s", "keep=2 n00=fresh")
}

func TestFloorTellsGrantsApart(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0))
	first, second := r.ticket("s"), r.ticket("s")
	names := func(letter string) (list []string) {
		for i := range maxStubs {
			list = append(list, fmt.Sprintf("%s%02d", letter, i))
		}
		return list
	}
	for _, name := range names("c") {
		r.dropped(r.set(nodeB, "s", second, name, "x"))
	}
	r.dropped(r.remove(nodeA, "s", first, names("a")...))
	r.dropped(r.remove(nodeB, "s", second, names("b")...))
	r.dropped(r.remove(nodeB, "s", second, names("c")...)) // now a and b are folded
	r.dropped(r.set(nodeB, "s", second, "a00", "late"), "a00")
	r.dropped(r.set(nodeB, "s", second, "b00", "late"), "b00") // as strict as a00: the price of folding
	r.dropped(r.set(nodeB, "s", second, "c00", "again"))
}

func TestFloorKeepsTheHighestNumberOfAGrant(t *testing.T) {
	tok := wire.Token{Counter: 1}
	f := floor{}.fold(stamp{version: 5, by: grantOf(tok), seq: 9}).fold(stamp{version: 6, by: grantOf(tok), seq: 4})
	if f.admits(tok, 7) || !f.admits(tok, 10) {
		t.Fatalf("%+v", f)
	}
}

// Folding may drop a change that need not have been, and only where more names
// than maxStubs were removed; it never lets one in.
func TestLawFoldingIsOnlyStricter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var names []string
		for i := range rapid.SampledFrom([]int{maxStubs, maxStubs * 2}).Draw(t, "names") {
			names = append(names, fmt.Sprintf("n%02d", i))
		}
		rec := &record{}
		exact := map[string]stamp{}
		var s scratch
		version := uint64(1)
		for i := rapid.IntRange(1, 60).Draw(t, "steps"); i > 0; i-- {
			version++
			tok := wire.Token{Counter: rapid.Uint64Range(1, 2).Draw(t, "grant"), Index: version - rapid.Uint64Range(1, min(version, 30)).Draw(t, "behind")}
			seq := rapid.Uint64Range(version, version+2).Draw(t, "seq")
			var set []wire.Attribute
			var remove [][]byte
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 12, rapid.ID).Draw(t, "changed") {
				if rapid.IntRange(0, 2).Draw(t, "set") == 0 {
					set = append(set, wire.Attribute{Name: []byte(name)})
				} else {
					remove = append(remove, []byte(name))
				}
			}
			list, _ := s.gather(set, remove)
			var wrong []string
			for _, c := range list {
				if !exact[string(c.name)].admits(tok, seq) {
					wrong = append(wrong, string(c.name))
				}
			}
			list, dropped := rec.judge(list, tok, seq)
			for _, c := range list {
				if slices.Contains(wrong, string(c.name)) {
					t.Fatalf("%q was let in", c.name)
				}
				exact[string(c.name)] = stamp{version, grantOf(tok), seq}
			}
			if len(names) <= maxStubs && len(dropped) > len(wrong) {
				t.Fatalf("%q were dropped; only %q had to be", dropped, wrong)
			}
			rec = rec.clone()
			rec.change(list, stamp{version, grantOf(tok), seq})
			if len(rec.stubs) > maxStubs {
				t.Fatalf("%d stubs", len(rec.stubs))
			}
		}
	})
}

func TestCommitThatNamesAnAttributeTwiceIsRefused(t *testing.T) {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "s", "", 0, 0))
	tok := r.ticket("s")
	r.refused(wire.ErrBadRequest, r.set(nodeA, "s", tok, "a", "1", "b", "2", "a", "3"))
	r.refused(wire.ErrBadRequest, r.remove(nodeA, "s", tok, "a", "a"))
	r.refused(wire.ErrBadRequest, r.apply(AppendCommit(nil, &wire.Commit{
		Write: r.write(nodeA, "s", tok), Idle: wire.KeepIdle, Set: attrs("a", "1"), Remove: [][]byte{[]byte("a")}})))
	r.refused(wire.ErrBadRequest, r.create(nodeA, "s2", "", 0, 0, "a", "1", "a", "1"))
	r.shows("s", "")
}

func TestAccessIsNoChange(t *testing.T) {
	r := newRig(t, 1<<20)
	made := r.ok(r.create(nodeA, "s", "", time.Minute, 0, "a", "1"))
	r.now += 500
	r.ok(r.apply(AppendTouch(nil, shop, []Touch{{[]byte("s"), r.now}})))
	out := r.ok(r.set(nodeA, "s", r.ticket("s")))
	if out.Version != made.Version {
		t.Fatalf("an empty commit made version %d of %d", out.Version, made.Version)
	}
	idle := func(d time.Duration) uint64 {
		return r.ok(r.apply(AppendCommit(nil, &wire.Commit{Write: r.write(nodeA, "s", wire.Token{}), Idle: d}))).Version
	}
	if v := idle(time.Minute); v != made.Version {
		t.Fatalf("the same idle timeout made version %d", v)
	}
	if v := idle(0); v != r.Index() {
		t.Fatalf("another idle timeout left version %d", v)
	}
}

// An application that adds attributes for ever must not make every answer huge.
func TestAttackSessionThatGrowsForEver(t *testing.T) {
	r := newRig(t, 1<<30)
	r.ok(r.create(nodeA, "s", "", 0, 0))
	value := strings.Repeat("v", 8<<20)
	var last wire.Outcome
	for i := range 5 {
		if last = r.set(nodeA, "s", r.ticket("s"), fmt.Sprint("a", i), value); last.Err != nil {
			break
		}
	}
	if last.Err == nil || last.Err.Word != wire.ErrTooBig {
		t.Fatalf("%+v", last)
	}
	r.ok(r.set(nodeA, "s", r.ticket("s"), "a0", "small")) // it may shrink, and grow again
	r.ok(r.set(nodeA, "s", r.ticket("s"), "a9", value[:1<<20]))
}
