package store

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// foldOneByOne is what changeStubs means, in so many words.
func foldOneByOne(stubs []stub, f floor, list []change, by stamp) ([]stub, floor) {
	stubs = slices.Clone(stubs)
	for _, c := range list {
		stubs = slices.DeleteFunc(stubs, func(s stub) bool { return bytes.Equal(s.name, c.name) })
		if c.remove {
			stubs = append(stubs, stub{c.name, by})
		}
	}
	slices.SortFunc(stubs, func(a, b stub) int { return bytes.Compare(a.name, b.name) })
	for len(stubs) > maxStubs {
		oldest := 0
		for i := range stubs {
			if stubs[i].version < stubs[oldest].version {
				oldest = i
			}
		}
		f = f.fold(stubs[oldest].stamp)
		stubs = slices.Delete(stubs, oldest, oldest+1)
	}
	return stubs, f
}

func TestStubsAreFoldedOldestFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &record{}
		for version := range uint64(rapid.IntRange(1, 8).Draw(t, "commits")) {
			names := rapid.SliceOfNDistinct(rapid.IntRange(0, 60), 0, 40, rapid.ID).Draw(t, "names")
			slices.Sort(names)
			var list []change
			for _, n := range names {
				list = append(list, change{name: fmt.Appendf(nil, "a%02d", n), remove: rapid.Bool().Draw(t, "remove")})
			}
			by := stamp{version: version + 1, by: grant{counter: rapid.Uint64Range(0, 2).Draw(t, "counter")}, seq: version}
			want, floor := foldOneByOne(r.stubs, r.floor, list, by)
			r.changeStubs(list, by)
			same := func(a, b stub) bool { return bytes.Equal(a.name, b.name) && a.stamp == b.stamp }
			if !slices.EqualFunc(r.stubs, want, same) || r.floor != floor {
				t.Fatalf("stubs %v floor %v, want %v and %v", r.stubs, r.floor, want, floor)
			}
		}
	})
}

// One command that removes many unknown names must not hold up the stripe: it took
// 11 s for 60,000 names where each fold looked through all of them.
func TestManyRemovalsAreAppliedInOneGo(t *testing.T) {
	const names = 4000
	for what, version := range map[string]func(i int) uint64{
		"of one command":     func(int) uint64 { return 1 },
		"the oldest last":    func(i int) uint64 { return uint64(names - i) },
		"in no order at all": func(i int) uint64 { return uint64(i * 7919 % names) },
	} {
		list := make([]stub, names)
		for i := range list {
			list[i] = stub{fmt.Appendf(nil, "%06d", i), stamp{version: version(i)}}
		}
		looks := 0
		rest := (&record{}).foldOldest(list, func(a, b stub) int { looks++; return byVersion(a, b) })
		most := 2 * names * bits.Len(names) // of a sort
		if len(rest) != maxStubs || looks < names-1 || looks > most {
			t.Errorf("%s: %d are left, after %d looks; want %d to %d", what, len(rest), looks, names-1, most)
		}
	}
}
