package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// asker is a node, with what a request does in short words.
type asker struct {
	*testing.T
	node *client.Client
}

func (a asker) load(key string) wire.Session {
	a.Helper()
	s, err := a.node.Load(a.ctx(), &wire.Load{Dataset: []byte(dataset), Key: []byte(key), Mode: wire.LoadRead})
	if err != nil {
		a.Fatalf("load %q: %v", key, err)
	}
	return s
}

// value is what an attribute is now; "" where there is none.
func (a asker) value(key, name string) string {
	a.Helper()
	for _, at := range a.load(key).Attributes {
		if string(at.Name) == name {
			return string(at.Value)
		}
	}
	return ""
}

func (a asker) create(key string, attributes ...string) wire.Token {
	a.Helper()
	w := &wire.Create{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(key)}}
	for _, name := range attributes {
		w.Set = append(w.Set, wire.Attribute{Name: []byte(name), Value: []byte("common")})
	}
	out, err := a.node.Create(a.ctx(), w)
	if err != nil {
		a.Fatalf("create %q: %v", key, err)
	}
	return out.Token
}

// commit sets attributes to value and returns which of them were dropped.
func (a asker) commit(key string, token wire.Token, value string, attributes ...string) (dropped []string, version uint64, err error) {
	w := &wire.Commit{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(key), Token: token}, Idle: wire.KeepIdle}
	for _, name := range attributes {
		w.Set = append(w.Set, wire.Attribute{Name: []byte(name), Value: []byte(value)})
	}
	out, err := a.node.Commit(a.ctx(), w)
	for _, name := range out.Dropped {
		dropped = append(dropped, string(name))
	}
	return dropped, out.Version, err
}

// set commits under token, which must have seen all that it changes.
func (a asker) set(key string, token wire.Token, value string, attributes ...string) (version uint64) {
	a.Helper()
	dropped, version, err := a.commit(key, token, value, attributes...)
	if err != nil || len(dropped) > 0 {
		a.Fatalf("change %q of %q: dropped %q, %v", attributes, key, dropped, err)
	}
	return version
}

// late commits under a token of the server whose data is set aside, and says what is to be dropped.
func (a asker) late(key string, token wire.Token, attributes []string, want ...string) {
	a.Helper()
	before := map[string]string{}
	for _, name := range attributes {
		before[name] = a.value(key, name)
	}
	value := fmt.Sprintf("late to %q under %v", attributes, token)
	dropped, _, err := a.commit(key, token, value, attributes...)
	if err != nil || !slices.Equal(dropped, want) {
		a.Errorf("a late change of %q to %q under %v: dropped %q, %v; want %q", attributes, key, token, dropped, err, want)
	}
	for _, name := range attributes {
		is := value
		if slices.Contains(want, name) {
			is = before[name]
		}
		if v := a.value(key, name); v != is {
			a.Errorf("%q of %q is %q, not %q", name, key, v, is)
		}
	}
}

// redis is a command of Redis that may be given again.
func (a asker) redis(args ...string) {
	a.Helper()
	var list [][]byte
	for _, arg := range args {
		list = append(list, []byte(arg))
	}
	if _, err := a.node.Do(a.ctx(), true, list...); err != nil {
		a.Fatalf("%q: %v", args, err)
	}
}

// ctx is for one operation, which may wait for a fail-over.
func (a asker) ctx() context.Context {
	ctx, cancel := context.WithTimeout(a.Context(), time.Minute)
	a.Cleanup(cancel)
	return ctx
}

// Requests that live across a split brain: they have loaded from the server whose
// data is set aside, and commit to the other one. What they have seen there is not in
// the data that is kept, so that they must not overwrite what was changed there.
func TestATokenOfTheSideThatIsNotKept(t *testing.T) {
	t.Parallel() // it mostly waits
	c := startPair(t, 1)
	c.together()
	all := asker{t, nodes(t, c.net, 1, c.Addrs()...)[0].(*client.Client)}
	var sides []*side
	var at []asker // each stays with its server during the split, and knows both
	for _, s := range c.Servers {
		host := "clients-of-" + s.Name()
		node, err := client.New(client.Options{Hosts: c.Addrs(), Node: true, Logger: quiet, Dial: c.net.Dialer(host)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		sides = append(sides, &side{host: host, node: node})
		at = append(at, asker{t, node})
		at[len(at)-1].create("joined-" + s.Name()) // both servers know the node
	}
	keys := []string{"both", "unseen", "untouched", "one", "ended", "renewed", "repeated", "alone-0", "alone-1"}
	for _, key := range keys {
		all.create(key, "a", "b", "c")
	}
	for _, key := range []string{"deleted", "set again", "not deleted"} {
		all.redis("SET", key, "common")
	}
	old := all.load("untouched").Token
	for try := 0; !c.splits(sides); try++ {
		if try == 20 {
			t.Fatal("this machine is too busy for both servers to go on")
		}
		c.net.MendAll()
		c.together()
	}

	// Both sides do the same, so that either may win. The changes that a late commit
	// must not overwrite come first, and the tokens last: by its index alone each
	// token covers the other side's changes.
	changed := make([]uint64, 2) // the last of what must not be overwritten
	for i, s := range at {
		mine := "of " + c.Servers[i].Name()
		s.set("unseen", s.load("unseen").Token, mine, "a")
		changed[i] = s.set("both", s.load("both").Token, mine, "a")
	}
	for _, s := range at {
		s.redis("DEL", "deleted", "set again")
		s.redis("SET", "set again", "new")
	}
	type tokens map[string]wire.Token
	given := make([]tokens, 2)
	made := make([]tokens, 2) // of creates
	fresh := make([]asker, 2) // nodes that only one side knows
	for i, s := range at {
		node, err := client.New(client.Options{Hosts: c.Addrs(), Node: true, Logger: quiet, Dial: c.net.Dialer(sides[i].host)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		fresh[i] = asker{t, node}
		fresh[i].create(fmt.Sprint("fresh-", i))
		s.create(fmt.Sprint("only-", i))
		for n := 0; s.load(fmt.Sprint("only-", i)).Version <= max(changed[0], changed[1]); n++ {
			s.set(fmt.Sprint("only-", i), s.load(fmt.Sprint("only-", i)).Token, fmt.Sprint(n), "n")
		}
		s.set("both", s.load("both").Token, "of "+c.Servers[i].Name(), "b")
		s.set("one", s.load("one").Token, "of "+c.Servers[i].Name(), fmt.Sprint("one-", i))
		made[i] = tokens{"made": s.create(fmt.Sprint("made-", i))}
		given[i] = tokens{}
		for _, key := range append(keys, fmt.Sprint("only-", i)) {
			given[i][key] = s.load(key).Token
		}
		if given[i]["both"].Index <= max(changed[0], changed[1]) {
			t.Fatalf("a token of index %d covers nothing that was changed at %d and %d: this proves nothing", given[i]["both"].Index, changed[0], changed[1])
		}
		if _, err := s.node.Invalidate(s.ctx(), &wire.Invalidate{Write: wire.Write{Dataset: []byte(dataset), Key: []byte("ended")}, Reason: []byte("logout")}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.node.Renew(s.ctx(), &wire.Renew{Write: wire.Write{Dataset: []byte(dataset), Key: []byte("renewed"), Token: given[i]["renewed"]},
			NewKey: fmt.Append(nil, "renewed-", i)}); err != nil {
			t.Fatal(err)
		}
	}
	// A change that a side makes, and whose first answer never arrives.
	repeats := make([]chan string, 2)
	for i, s := range at {
		host := c.Servers[i].Name()
		c.net.Cut(host, sides[i].host)
		repeats[i] = make(chan string, 2)
		for _, key := range []string{"repeated", fmt.Sprint("alone-", i)} {
			go func() {
				dropped, _, err := s.commit(key, given[i][key], "repeated by "+host, "a", "b")
				repeats[i] <- fmt.Sprint(key, " ", dropped, " ", err)
			}()
		}
	}
	looks := make([]asker, 2)
	for i, s := range c.Servers {
		node, err := client.New(client.Options{Hosts: []string{s.Addr()}, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		looks[i] = asker{t, node}
		for _, key := range []string{"repeated", fmt.Sprint("alone-", i)} {
			c.until("the change is made", func() bool {
				v, err := read(looks[i].ctx(), node, key)
				return err == nil && strings.HasPrefix(v, "repeated by")
			})
		}
	}
	c.net.Break(func(from, _ string) bool { return strings.HasPrefix(from, "clients-") })

	loser := c.heals()
	if loser < 0 {
		t.Fatal("not one of the two has set its data aside")
	}
	winner := c.Servers[1-loser]
	var listed []string
	for _, l := range c.lost(loser) {
		if l.Dataset == store.RedisDataset {
			listed = append(listed, fmt.Sprint(l.Key, " ", l.Ended, " ", l.Version > 0))
		}
	}
	slices.Sort(listed)
	if want := []string{"deleted deleted false", "set again  true"}; !slices.Equal(listed, want) {
		t.Errorf("of Redis keys the list says %q, not %q", listed, want)
	}
	var n [2]string
	for i := range repeats {
		answers := []string{<-repeats[i], <-repeats[i]}
		slices.Sort(answers)
		n[i] = strings.Join(answers, ", ")
	}
	// The side that is kept remembers what it answered. To the other one's repeats it
	// answers anew: what nobody else changed is changed, what it had changed is not.
	if want := fmt.Sprintf("alone-%d [] <nil>, repeated [] <nil>", 1-loser); n[1-loser] != want {
		t.Errorf("the repeats of changes that are kept: %s, not %s", n[1-loser], want)
	}
	if want := fmt.Sprintf("alone-%d [] <nil>, repeated [a b] <nil>", loser); n[loser] != want {
		t.Errorf("the repeats of changes that are not kept: %s, not %s", n[loser], want)
	}
	for i, s := range c.Servers {
		if v := all.value(fmt.Sprint("alone-", i), "b"); v != "repeated by "+s.Name() {
			t.Errorf("a change that was repeated: %q", v)
		}
	}

	// The node of that side goes on: at the other server, as one that was there before.
	now, token := at[loser], given[loser]
	now.late("both", token["both"], []string{"a", "b", "c"}, "a", "b")
	now.late("unseen", token["unseen"], []string{"a"}, "a")
	now.late("untouched", token["untouched"], []string{"a", "b"})
	now.late("one", token["one"], []string{fmt.Sprint("one-", loser), fmt.Sprint("one-", 1-loser), "c"}, fmt.Sprint("one-", 1-loser))
	forged := token["both"]
	forged.Index += 1 << 40
	now.late("both", forged, []string{"a"}, "a")
	forged.Incarnation++
	now.late("both", forged, []string{"a", "b"}, "a", "b")
	if _, _, err := now.commit("ended", token["ended"], "late", "a"); !wire.Is(err, wire.ErrSessionGone) {
		t.Errorf("a late change to a session that has ended: %v", err)
	}
	if _, _, err := now.commit("renewed", token["renewed"], "late", "a"); !wire.Is(err, wire.ErrSessionGone) {
		t.Errorf("a late change under an old key: %v", err)
	}
	if _, _, err := now.commit(fmt.Sprint("renewed-", loser), token["renewed"], "late", "a"); !wire.Is(err, wire.ErrSessionUnknown) {
		t.Errorf("a late change under a key that only the other side gave: %v", err)
	}
	for key, token := range map[string]wire.Token{fmt.Sprint("only-", loser): token[fmt.Sprint("only-", loser)], fmt.Sprint("made-", loser): made[loser]["made"]} {
		if _, _, err := now.commit(key, token, "late", "n"); !wire.Is(err, wire.ErrSessionUnknown) {
			t.Errorf("a late change to %q, which is not kept: %v", key, err)
		}
	}
	// The token stays what it was across a renewal that the side makes that is kept.
	key := fmt.Sprint("renewed-", 1-loser)
	now.set(key, now.load(key).Token, "new", "b")
	out, err := now.node.Renew(now.ctx(), &wire.Renew{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(key), Token: token["renewed"]}, NewKey: []byte("again")})
	if err != nil {
		t.Fatal(err)
	}
	now.late("again", out.Token, []string{"a", "b"}, "b")
	// Tokens of the side that is kept, and of both, are as good as ever.
	s := at[1-loser]
	kept := given[1-loser]["one"]
	s.late("one", kept, []string{"a", "b", "c"}, "c") // c was changed above
	s.late("untouched", old, []string{"a", "c"}, "a")
	s.set("both", s.load("both").Token, "new", "a", "b", "c")
	own := s.load("both").Token
	own.Index += 1 << 40
	if _, _, err := s.commit("both", own, "late", "a"); !wire.Is(err, wire.ErrBadRequest) {
		t.Errorf("a token of this side's future: %v", err)
	}
	// A node that came during the split is not known here, and comes back as a new one.
	fresh[loser].late("both", token["both"], []string{"a", "b"}, "a", "b")
	if v := now.value("both", "a"); v != "new" || !winner.Engine().Serves() {
		t.Errorf("a is %q in the end", v)
	}
}

// heals mends the network of a pair that is split, and waits until it is a pair again.
// Its clients hear nothing until then: the server whose data is set aside answers as long
// as it does not know of that. It returns which one it is, or -1.
func (c *cluster) heals() (loser int) {
	c.t.Helper()
	before := c.asides()
	c.net.Mend("tc1", "tc2")
	c.net.Mend("tc2", "tc1")
	c.until("one is to be set aside", func() bool {
		return slices.ContainsFunc(c.Servers, func(s *testcluster.Cluster) bool {
			select {
			case <-s.Engine().Lost():
				return true
			default:
				return false
			}
		})
	})
	c.together()
	c.net.MendAll()
	return c.setAsideSince(before)
}

// When something happens to a pair that is split and healed.
type splitPhase int32

const (
	paired  splitPhase = iota
	parting            // one of them may serve, or both
	parted             // both serve
	healing
	healed
)

// crossing is one session that nodes on both sides of a split change all the time, in
// requests that may begin before the split is healed and end after it. Every value is
// written once, and says which one its writer had seen. So what was changed and not
// seen is found: it is not among the values that led to the last one.
type crossing struct {
	t     *testing.T
	c     *cluster
	nodes []*client.Client // two for each side
	phase atomic.Int32

	mu      sync.Mutex
	made    int
	seen    map[string]string // value -> the one that its writer had seen
	kept    [2][]string       // side -> what was acknowledged while there were two of it
	sure    []string          // what was acknowledged by the pair
	crossed int               // commits after the healing of what was loaded before
	dropped int               // of these
	after   int               // commits that were begun and acknowledged after the healing
}

const crossed = "crossed" // the session's key

func newCrossing(t *testing.T, c *cluster, sides []*side) *crossing {
	x := &crossing{t: t, c: c, seen: map[string]string{}}
	for _, s := range sides {
		for range 2 {
			node, err := client.New(client.Options{Hosts: c.Addrs(), Node: true, Logger: quiet, Dial: c.net.Dialer(s.host)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { node.Close() })
			x.nodes = append(x.nodes, node)
		}
	}
	asker{t, x.nodes[0]}.create(crossed, "a")
	return x
}

func (x *crossing) enter(p splitPhase) { x.phase.Store(int32(p)) }

func (x *crossing) start(ctx context.Context, wg *sync.WaitGroup) {
	for i, node := range x.nodes {
		rnd := rand.New(rand.NewPCG(x.c.rnd.Uint64(), uint64(i)))
		wg.Go(func() {
			for ctx.Err() == nil {
				x.request(node, i/2, time.Duration(rnd.IntN(500))*time.Millisecond)
			}
		})
	}
}

// request loads the session, thinks, and changes it.
func (x *crossing) request(node *client.Client, side int, think time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := node.Load(ctx, &wire.Load{Dataset: []byte(dataset), Key: []byte(crossed), Mode: wire.LoadRead})
	if err != nil {
		rest(10 * time.Millisecond)
		return
	}
	loaded := splitPhase(x.phase.Load())
	rest(think)
	x.mu.Lock()
	x.made++
	value := fmt.Sprintf("%d of side %d", x.made, side)
	x.seen[value] = string(s.Attributes[0].Value)
	x.mu.Unlock()
	began := splitPhase(x.phase.Load())
	out, err := node.Commit(ctx, &wire.Commit{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(crossed), Token: s.Token}, Idle: wire.KeepIdle,
		Set: []wire.Attribute{{Name: []byte("a"), Value: []byte(value)}}})
	if err != nil {
		return // it may have been made or not
	}
	ended := splitPhase(x.phase.Load())
	x.mu.Lock()
	defer x.mu.Unlock()
	if loaded == parted && ended > parted {
		x.crossed++
		x.dropped += len(out.Dropped)
	}
	switch {
	case len(out.Dropped) > 0, began != ended:
	case ended == parted:
		x.kept[side] = append(x.kept[side], value)
	case ended == paired || ended == healed:
		x.sure = append(x.sure, value)
		if ended == healed {
			x.after++
		}
	}
}

// each waits until both sides have changed the session so often while they were apart.
func (x *crossing) each(times int) {
	x.t.Helper()
	x.c.until("both change the same session", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return len(x.kept[0]) >= times && len(x.kept[1]) >= times
	})
}

// goOn waits until what was loaded before the healing is committed.
func (x *crossing) goOn() {
	x.t.Helper()
	x.c.until("the requests go on", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.after >= 5
	})
}

// judge follows the last value back: all that was acknowledged is on its way.
func (x *crossing) judge(loser int) {
	t := x.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	last, err := read(ctx, x.nodes[0], crossed)
	if err != nil {
		t.Fatal(err)
	}
	led := map[string]bool{}
	for v := last; v != "common"; v = x.seen[v] {
		if _, known := x.seen[v]; !known || led[v] {
			t.Fatalf("%q was written by nobody, or leads to itself", v)
		}
		led[v] = true
	}
	for _, v := range append(x.sure, x.kept[1-loser]...) {
		if !led[v] {
			t.Errorf("%q was acknowledged, and overwritten by somebody who had not seen it", v)
		}
	}
	t.Logf("one session changed by both sides: %d values, %d of them led to the last; %d requests lived across the healing, %d of their changes were dropped",
		len(x.seen), len(led), x.crossed, x.dropped)
}
