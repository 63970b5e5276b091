package store

import (
	"cmp"
	"slices"
)

// users finds the sessions of a user: a sorted list of pairs of hashes, in leaves
// of bounded size. Two pairs may be equal: hashes are not proof, so who reads looks
// at the session.
type users struct {
	leaves [][]pair // none is empty; each is sorted, and so are they
}

// pair is a session that has a user: the hashes of both names.
type pair struct{ user, key uint64 }

const leafPairs = 256

func comparePair(a, b pair) int {
	return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.key, b.key))
}

// leaf returns the first leaf whose last pair is not before p; the last leaf where there is none.
func (u *users) leaf(p pair) int {
	i, _ := slices.BinarySearchFunc(u.leaves, p, func(l []pair, p pair) int { return comparePair(l[len(l)-1], p) })
	return min(i, len(u.leaves)-1)
}

func (u *users) add(p pair) {
	if len(u.leaves) == 0 {
		u.leaves = [][]pair{{p}}
		return
	}
	i := u.leaf(p)
	at, _ := slices.BinarySearchFunc(u.leaves[i], p, comparePair)
	u.leaves[i] = slices.Insert(u.leaves[i], at, p)
	if l := u.leaves[i]; len(l) >= leafPairs {
		right := append(make([]pair, 0, leafPairs), l[len(l)/2:]...)
		u.leaves[i] = l[:len(l)/2]
		u.leaves = slices.Insert(u.leaves, i+1, right)
	}
}

// remove takes one pair equal to p out, which is there.
func (u *users) remove(p pair) {
	i := u.leaf(p)
	at, found := slices.BinarySearchFunc(u.leaves[i], p, comparePair)
	if !found {
		panic("store: a session is missing among its user's")
	}
	u.leaves[i] = slices.Delete(u.leaves[i], at, at+1)
	switch {
	case len(u.leaves[i]) == 0:
		u.leaves = slices.Delete(u.leaves, i, i+1)
	case i+1 < len(u.leaves) && len(u.leaves[i])+len(u.leaves[i+1]) < leafPairs/2:
		u.leaves[i] = append(u.leaves[i], u.leaves[i+1]...)
		u.leaves = slices.Delete(u.leaves, i+1, i+2)
	}
}

// keys returns the hashes of the keys of user's sessions, each once.
func (u *users) keys(user uint64) (keys []uint64) {
	if len(u.leaves) == 0 {
		return nil
	}
	first := pair{user: user}
	for i := u.leaf(first); i < len(u.leaves); i++ {
		at, _ := slices.BinarySearchFunc(u.leaves[i], first, comparePair)
		for _, p := range u.leaves[i][at:] {
			if p.user != user {
				return keys
			}
			if n := len(keys); n == 0 || keys[n-1] != p.key {
				keys = append(keys, p.key)
			}
		}
	}
	return keys
}
