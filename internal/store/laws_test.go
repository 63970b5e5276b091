package store

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/wire"
)

const (
	lawSegments = 3
	lawRoom     = 3000 // for sessions: about a dozen keys, so that it is often full
	lawOffheap  = datasetCost + lawSegments*segmentCost + lawRoom
)

// player draws operations and plays them to a model, which also tells it what is
// worth drawing.
type player struct {
	*model
	seq  map[wire.NodeID]uint64
	past []played // writes that may be repeated
}

// played is one operation: its log form, and what it came to in the model.
type played struct {
	now  Time
	op   []byte
	do   func() wire.Outcome
	want wire.Outcome
}

var (
	lawNodes = []wire.NodeID{{0: 1}, {0: 2}, {0: 3}}
	lawKeys  = []string{"k0", "k1", "k2", "k3", "a-much-longer-key-4", "k5", "k6", "k7", "k8", "k9", "ka", "kb", "kc", "kd"}
	lawNames = []string{"", "a", "b", "cart", "lang"}
)

// lawStart configures stores as all laws have them, with all nodes joined.
func lawStart(stores ...*Store) *player {
	p := &player{model: newModel(lawRoom), seq: map[wire.NodeID]uint64{}}
	ops := [][]byte{
		AppendConfigure(nil, testCluster(lawOffheap)),
		AppendOpen(nil, &wire.Open{Dataset: shop, LockMode: []byte("none"), Concurrency: lawSegments}),
	}
	for _, n := range lawNodes {
		j := &wire.Join{Node: n, Generation: 1, Low: 1}
		ops = append(ops, AppendJoin(nil, j))
		p.join(j)
	}
	for _, op := range ops {
		for _, s := range stores {
			s.Apply(1, slices.Clone(op))
		}
		p.now, p.index = 1, p.index+1
	}
	return p
}

// key draws a key, more often than not one that leads somewhere.
func (p *player) key(t *rapid.T) string {
	live := slices.Sorted(maps.Keys(p.sessions))
	live = append(live, slices.Sorted(maps.Keys(p.aliases))...)
	if len(live) > 0 && rapid.IntRange(0, 4).Draw(t, "live") > 0 {
		return rapid.SampledFrom(live).Draw(t, "key")
	}
	return rapid.SampledFrom(lawKeys).Draw(t, "any key")
}

func (p *player) write(t *rapid.T) wire.Write {
	n := rapid.SampledFrom(lawNodes).Draw(t, "node")
	p.seq[n]++
	seq := p.seq[n]
	if rapid.IntRange(0, 9).Draw(t, "gap") == 0 {
		seq = rapid.Uint64Range(1, seq+3).Draw(t, "seq")
	}
	w := wire.Write{Dataset: shop, Key: []byte(p.key(t)), Node: n, Seq: seq,
		Low: rapid.Uint64Range(max(1, seq-min(seq, 8)), seq).Draw(t, "low")}
	if counter := rapid.Uint64Range(0, 3).Draw(t, "grant"); counter > 0 {
		w.Token = wire.Token{Term: 1, Counter: counter, Index: p.index - min(p.index, rapid.Uint64Range(0, 30).Draw(t, "behind"))}
	}
	return w
}

func drawSet(t *rapid.T) (set []wire.Attribute) {
	for _, name := range rapid.SliceOfN(rapid.SampledFrom(lawNames), 0, 4).Draw(t, "set") {
		set = append(set, wire.Attribute{Name: []byte(name), Value: make([]byte, rapid.IntRange(0, 300).Draw(t, "size"))})
	}
	return set
}

func drawTime(t *rapid.T, what string) time.Duration {
	return time.Duration(rapid.SampledFrom([]int{0, 0, 1, 50, 1000, 30000}).Draw(t, what)) * time.Millisecond
}

// draw draws the next operation and plays it.
func (p *player) draw(t *rapid.T) played {
	// Back in time too: the store raises it to the last.
	given := p.now + Time(rapid.SampledFrom([]int{0, 0, 0, 1, 20, 400, 900, 20000, 300000, -500}).Draw(t, "later"))
	var op []byte
	var do func() wire.Outcome
	what := rapid.IntRange(0, 21).Draw(t, "what")
	switch {
	case what >= 20 && len(p.past) > 0:
		old := p.past[rapid.IntRange(0, len(p.past)-1).Draw(t, "again")]
		op, do = slices.Clone(old.op), old.do
	case what < 4:
		c := &wire.Create{Write: p.write(t), Idle: drawTime(t, "idle"), Absolute: drawTime(t, "absolute"), Set: drawSet(t),
			User: []byte(rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(t, "user"))}
		c.Key = []byte(rapid.SampledFrom(lawKeys).Draw(t, "new key"))
		op, do = AppendCreate(nil, c), func() wire.Outcome { return p.create(c) }
	case what < 9:
		c := &wire.Commit{Write: p.write(t), Idle: wire.KeepIdle, Set: drawSet(t)}
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(lawNames), 0, 2).Draw(t, "remove") {
			c.Remove = append(c.Remove, []byte(name))
		}
		if rapid.IntRange(0, 3).Draw(t, "new idle") == 0 {
			c.Idle = drawTime(t, "idle")
		}
		op, do = AppendCommit(nil, c), func() wire.Outcome { return p.commit(c) }
	case what < 10:
		c := &wire.Invalidate{Write: p.write(t), Reason: []byte(rapid.SampledFrom([]string{"logout", "x"}).Draw(t, "reason"))}
		op, do = AppendInvalidate(nil, c), func() wire.Outcome { return p.invalidate(c) }
	case what < 14:
		c := &wire.Renew{Write: p.write(t), NewKey: []byte(rapid.SampledFrom(lawKeys).Draw(t, "to")), Grace: drawTime(t, "grace")}
		if rapid.Bool().Draw(t, "set user") {
			c.SetUser, c.User = true, []byte(rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(t, "user"))
		}
		op, do = AppendRenew(nil, c), func() wire.Outcome { return p.renew(c) }
		if string(c.NewKey) == string(c.Key) {
			do = func() wire.Outcome { return mRefuse(wire.ErrBadRequest) }
		}
	default:
		op, do = p.drawQuiet(t, what)
	}
	if what < 14 {
		p.past = append(p.past, played{op: op, do: do})
	}
	p.now, p.index = max(p.now, given), p.index+1
	return played{now: given, op: op, want: do()}
}

// drawQuiet draws what the active proposes by itself.
func (p *player) drawQuiet(t *rapid.T, what int) (op []byte, do func() wire.Outcome) {
	switch what {
	case 14:
		var list []Touch
		for _, key := range rapid.SliceOfN(rapid.SampledFrom(lawKeys), 0, 3).Draw(t, "touched") {
			list = append(list, Touch{[]byte(key), max(0, p.now+Time(rapid.IntRange(-2000, 100).Draw(t, "when")))})
		}
		return AppendTouch(nil, shop, list), func() wire.Outcome { return p.touch(list) }
	case 15:
		keys := rapid.SliceOfN(rapid.SampledFrom(lawKeys), 0, 10).Draw(t, "expire")
		var list [][]byte
		for _, key := range keys {
			list = append(list, []byte(key))
		}
		return AppendExpire(nil, shop, list), func() wire.Outcome { return p.expire(keys) }
	case 16, 18:
		limit := rapid.IntRange(0, 4).Draw(t, "limit")
		return AppendPrune(nil, limit), func() wire.Outcome { return p.prune(limit, lawSegments) }
	case 17:
		if rapid.IntRange(0, 3).Draw(t, "leave") == 0 {
			n := rapid.SampledFrom(lawNodes).Draw(t, "node")
			return AppendLeave(nil, n), func() wire.Outcome {
				delete(p.nodes, n)
				return wire.Outcome{Version: p.index}
			}
		}
	}
	j := &wire.Join{Node: rapid.SampledFrom(lawNodes).Draw(t, "node"), Generation: rapid.Uint64Range(1, 2).Draw(t, "generation"), Low: 1}
	return AppendJoin(nil, j), func() wire.Outcome { return p.join(j) }
}

// sameOutcome compares but for the texts for people.
func sameOutcome(a, b wire.Outcome) bool {
	word := func(o wire.Outcome) wire.Word {
		if o.Err == nil {
			return ""
		}
		return o.Err.Word
	}
	return word(a) == word(b) && a.Version == b.Version && a.Existed == b.Existed && a.Token == b.Token &&
		slices.EqualFunc(a.Dropped, b.Dropped, func(x, y []byte) bool { return bytes.Equal(x, y) })
}

func TestLawStoreAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t)
		p := lawStart(s)
		for i := rapid.IntRange(1, 80).Draw(t, "steps"); i > 0; i-- {
			next := p.draw(t)
			if got := s.Apply(next.now, next.op); !sameOutcome(got, next.want) {
				t.Fatalf("operation %x: outcome %+v (%v); the model says %+v (%v)", next.op, got, got.Err, next.want, next.want.Err)
			}
			compare(t, s, p.model)
		}
	})
}

// compare looks at everything that a store shows.
func compare(t *rapid.T, s *Store, m *model) {
	if s.Now() != m.now || s.Index() != m.index {
		t.Fatalf("time %d, index %d; the model has %d, %d", s.Now(), s.Index(), m.now, m.index)
	}
	used := s.Offheap()[0].Used - datasetCost - lawSegments*segmentCost
	if used != m.cost() || used > lawRoom || s.Datasets()[0].Bytes != s.Offheap()[0].Used {
		t.Fatalf("%d bytes are accounted (dataset %d); the model counts %d, the room is %d", used, s.Datasets()[0].Bytes, m.cost(), lawRoom)
	}
	if n := s.Datasets()[0].Sessions; n != uint64(len(m.sessions)) {
		t.Fatalf("%d sessions; the model has %d", n, len(m.sessions))
	}
	for _, key := range lawKeys {
		at, refusal := m.resolve(key)
		var got string
		err := s.View(shop, []byte(key), func(r *Record) { got = describe(r) })
		if err != nil {
			if err.Word != refusal {
				t.Fatalf("%q: %v; the model says %q", key, err, refusal)
			}
			if tomb, ok := m.tombs[key]; ok && err.Text != tomb.reason {
				t.Fatalf("%q: %v; the model says %q", key, err, tomb.reason)
			}
			continue
		}
		if want := m.sessions[at].describe(at); refusal != "" || got != want {
			t.Fatalf("%q:\n got %s\nwant %s (%s)", key, got, want, refusal)
		}
	}
	compareLists(t, s, m)
}

func compareLists(t *rapid.T, s *Store, m *model) {
	for _, user := range []string{"ann", "bob"} {
		var want, got []string
		for key, ms := range m.sessions {
			if ms.user == user {
				want = append(want, key)
			}
		}
		list, _ := s.UserSessions(shop, []byte(user), 100)
		for _, us := range list {
			got = append(got, string(us.Key))
		}
		sort.Strings(want)
		sort.Strings(got)
		if !slices.Equal(got, want) {
			t.Fatalf("sessions of %s: %q; the model has %q", user, got, want)
		}
	}
	for _, later := range []Time{0, 60, 40000} {
		var got []string
		due, _ := s.Due(m.now+later, 100)
		for _, d := range due {
			for _, key := range d.Keys {
				got = append(got, string(key))
			}
		}
		sort.Strings(got)
		if want := m.dueKeys(m.now + later); !slices.Equal(got, want) {
			t.Fatalf("due at +%d: %q; the model has %q", later, got, want)
		}
	}
}

func describe(r *Record) string {
	s := fmt.Sprintf("%s v%d %d %d %d %v %s", r.Key, r.Version, r.Created, r.LastAccess, r.Deadline, r.Idle, r.User)
	for _, at := range r.Attributes() {
		s += fmt.Sprintf(" %q=%d", at.Name, len(at.Value))
	}
	return s
}

func (ms mSession) describe(key string) string {
	s := fmt.Sprintf("%s v%d %d %d %d %v %s", key, ms.version, ms.created, ms.last, ms.deadline, ms.idle, ms.user)
	var names []string
	for name, at := range ms.attrs {
		if !at.removed {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		s += fmt.Sprintf(" %q=%d", name, len(ms.attrs[name].value))
	}
	return s
}

func snapshotOf(t interface{ Fatalf(string, ...any) }, s *Store) []byte {
	n := s.Snapshot()
	defer n.Release()
	var buf bytes.Buffer
	if _, err := n.WriteTo(&buf); err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return buf.Bytes()
}

func TestLawSameLogSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newStore(t), newStore(t)
		p := lawStart(a, b)
		for i := rapid.IntRange(1, 80).Draw(t, "steps"); i > 0; i-- {
			next := p.draw(t)
			x, y := a.Apply(next.now, slices.Clone(next.op)), b.Apply(next.now, next.op)
			if !reflect.DeepEqual(x, y) {
				t.Fatalf("outcomes differ: %+v, %+v", x, y)
			}
			// What only one of them is asked must not show in the other.
			if rapid.IntRange(0, 5).Draw(t, "asked") == 0 {
				b.Due(p.now+5000, 2)
				b.UserSessions(shop, []byte("ann"), 10)
			}
		}
		if !bytes.Equal(snapshotOf(t, a), snapshotOf(t, b)) {
			t.Fatalf("the same log made different snapshots")
		}
	})
}

func TestLawSnapshotAndRestoreAreInvisible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newStore(t), newStore(t)
		p := lawStart(a)
		play := func(what string) {
			for i := rapid.IntRange(0, 60).Draw(t, what); i > 0; i-- {
				next := p.draw(t)
				x := a.Apply(next.now, slices.Clone(next.op))
				if what == "before" {
					continue
				}
				if y := b.Apply(next.now, next.op); !reflect.DeepEqual(normal(x), normal(y)) {
					t.Fatalf("outcomes differ: %+v, %+v", x, y)
				}
			}
		}
		play("before")
		point := a.Snapshot()
		bytesAt := snapshotOf(t, a)
		if err := b.Restore(bytes.NewReader(bytesAt)); err != nil {
			t.Fatalf("restore: %v", err)
		}
		if !bytes.Equal(snapshotOf(t, b), bytesAt) {
			t.Fatalf("restored store makes another snapshot")
		}
		play("after")
		if !bytes.Equal(snapshotOf(t, a), snapshotOf(t, b)) {
			t.Fatalf("stores went apart after a restore")
		}
		compare(t, b, p.model)
		if !reflect.DeepEqual(a.Offheap(), b.Offheap()) || !reflect.DeepEqual(a.Datasets(), b.Datasets()) {
			t.Fatalf("accounts differ: %+v %+v", a.Offheap(), b.Offheap())
		}
		var buf bytes.Buffer
		if _, err := point.WriteTo(&buf); err != nil || !bytes.Equal(buf.Bytes(), bytesAt) {
			t.Fatalf("a snapshot changed under later writes (%v)", err)
		}
	})
}

// normal makes empty and missing names alike.
func normal(o wire.Outcome) wire.Outcome {
	for i, name := range o.Dropped {
		if name == nil {
			o.Dropped[i] = []byte{}
		}
	}
	return o
}

func TestLawRepeatOfAWriteChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t)
		p := lawStart(s)
		for i := rapid.IntRange(1, 40).Draw(t, "steps"); i > 0; i-- {
			next := p.draw(t)
			first := s.Apply(next.now, slices.Clone(next.op))
			switch kind(next.op[0]) {
			case kindCreate, kindCommit, kindInvalidate, kindRenew:
			default:
				continue
			}
			before := snapshotOf(t, s)
			index := s.Index()
			if again := s.Apply(0, slices.Clone(next.op)); !reflect.DeepEqual(first, again) {
				t.Fatalf("first %+v, again %+v", first, again)
			}
			s.st.Load().index.Store(index) // all that a repeat changes
			if !bytes.Equal(before, snapshotOf(t, s)) {
				t.Fatalf("a repeat changed the store")
			}
		}
	})
}
