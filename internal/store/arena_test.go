package store

import (
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Blocks never overlap, keep their bytes, and are given back whole.
func TestLawBlocksAreApart(t *testing.T) {
	type taken struct {
		r    ref
		mark uint32
		n    int
	}
	rapid.Check(t, func(t *rapid.T) {
		var a arena
		defer a.close()
		var all []taken
		write := func(b taken) {
			mem := a.at(b.r)[:b.n]
			fill(mem, byte(b.mark))
			binary.LittleEndian.PutUint32(mem, b.mark)
		}
		check := func(b taken) {
			mem := a.at(b.r)[:b.n]
			if binary.LittleEndian.Uint32(mem) != b.mark || slices.ContainsFunc(mem[4:], func(c byte) bool { return c != byte(b.mark) }) {
				t.Fatalf("block %d of %d bytes was overwritten", b.mark, b.n)
			}
		}
		sizes := rapid.OneOf(rapid.IntRange(4, 300), rapid.IntRange(4, 5000), rapid.IntRange(4, 40_000),
			rapid.Just(smallBytes), rapid.Just(smallBytes+1), rapid.IntRange(chunkBytes-10, chunkBytes+10))
		for mark := uint32(1); mark < rapid.Uint32Range(2, 300).Draw(t, "steps"); mark++ {
			if len(all) > 0 && rapid.IntRange(0, 5).Draw(t, "give") < 2 {
				i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
				check(all[i])
				a.give(all[i].r, all[i].n)
				all = slices.Delete(all, i, i+1)
				continue
			}
			n := sizes.Draw(t, "size")
			b := taken{a.take(n), mark, n}
			if b.r == 0 || b.r >= 1<<refBits {
				t.Fatalf("block at %d", b.r)
			}
			write(b)
			all = append(all, b)
		}
		used := uint64(0)
		for _, b := range all {
			check(b)
			used += uint64(blockBytes(b.n))
		}
		if a.used != used || a.blocks != uint64(len(all)) || a.mapped < used {
			t.Fatalf("%d bytes in %d blocks are counted, and %d mapped; there are %d in %d", a.used, a.blocks, a.mapped, used, len(all))
		}
		for _, b := range all {
			a.give(b.r, b.n)
		}
		if a.used != 0 || a.blocks != 0 || a.mapped != 0 {
			t.Fatalf("after everything was given back: %d bytes, %d blocks, %d mapped", a.used, a.blocks, a.mapped)
		}
	})
}

func TestSizesOfBlocksAreClose(t *testing.T) {
	last := 0
	for n := 1; n <= smallBytes; n++ {
		size := classBytes(classOf(n))
		if size < n || size < last || n > 256 && size-n > n/16 || n > 32 && size-n >= max(16, n/16+1) {
			t.Fatalf("%d bytes take %d (before: %d)", n, size, last)
		}
		last = size
	}
	if c := classOf(smallBytes); c != classes-1 || classOf(1) != 1 {
		t.Fatalf("classes go from %d to %d", classOf(1), c)
	}
	for c := range classes {
		if n := spanPages(c) * pageBytes / classBytes(c); n < 1 || n > 1<<15 || spanPages(c) > chunkPages {
			t.Fatalf("a span of class %d has %d slots", c, n)
		}
	}
}

// The list of users agrees with a map, also where two sessions' hashes are the same.
func TestLawUsersAgreeWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var u users
		want := map[pair]int{}
		for range rapid.IntRange(1, 2000).Draw(t, "steps") {
			p := pair{rapid.Uint64Range(0, 3).Draw(t, "user"), rapid.Uint64Range(0, 400).Draw(t, "key")}
			if want[p] > 0 && rapid.Bool().Draw(t, "remove") {
				u.remove(p)
				want[p]--
			} else {
				u.add(p)
				want[p]++
			}
		}
		n := 0
		for _, l := range u.leaves {
			if len(l) == 0 || len(l) >= leafPairs || !slices.IsSortedFunc(l, comparePair) {
				t.Fatalf("a leaf of %d", len(l))
			}
			n += len(l)
		}
		for user := range uint64(4) {
			var keys []uint64
			for p, times := range want {
				if p.user == user && times > 0 {
					keys = append(keys, p.key)
				}
				if p.user == user {
					n -= times
				}
			}
			slices.Sort(keys)
			if got := u.keys(user); !slices.Equal(got, keys) {
				t.Fatalf("user %d has %v; want %v", user, got, keys)
			}
		}
		if n != 0 {
			t.Fatalf("%d pairs too many", n)
		}
	})
}
