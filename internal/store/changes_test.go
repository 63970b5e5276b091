package store

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// What was changed or ended since a moment is told, and nothing else.
func TestChangesSince(t *testing.T) {
	r := newRig(t, 64<<20)
	for _, key := range []string{"untouched", "changed", "ended", "renewed"} {
		r.ok(r.create(nodeA, key, "", time.Hour, 0, "a", "1"))
	}
	r.ok(r.create(nodeA, "ended before", "", time.Hour, 0))
	r.ok(r.invalidate(nodeA, "ended before", "logout"))
	since, after := r.Index(), r.Now()
	r.now += 1000
	r.ok(r.set(nodeA, "changed", r.ticket("changed"), "a", "2"))
	r.ok(r.create(nodeA, "new", "", time.Hour, 0))
	r.ok(r.invalidate(nodeA, "ended", "logout"))
	r.ok(r.renew(nodeA, "renewed", "renewed to", time.Second))

	changes := func(since uint64, after Time) (list []string) {
		if err := r.Changes(since, after, func(c Change) error {
			if (c.Version > since) == (c.Ended != "") {
				t.Errorf("%+v", c)
			}
			list = append(list, c.Dataset+" "+string(c.Key)+" "+c.Ended)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(list)
		return list
	}
	want := []string{"shop changed ", "shop ended logout", "shop new ", "shop renewed to "}
	if got := changes(since, after); !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	if got := changes(r.Index(), r.Now()); len(got) > 0 {
		t.Errorf("nothing was changed since, and %q is told", got)
	}
	stop := errors.New("enough")
	if err := r.Changes(0, 0, func(Change) error { return stop }); err != stop {
		t.Error(err)
	}
	if err := newStore(t).Changes(0, 0, func(Change) error { return stop }); err != nil {
		t.Error("of a store that is not configured:", err)
	}
}
