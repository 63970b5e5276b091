package history

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// side is the clients that stay with one server of a pair while its network is cut.
type side struct {
	host string // on the network
	node *client.Client

	slow atomic.Bool // leaves the other side time to overtake it

	mu    sync.Mutex
	index uint64         // largest store index that was acknowledged
	acked []acked        // sessions that were created, each once
	last  map[string]int // session that only this side changes -> value acknowledged last
	err   error          // of what failed last
}

type acked struct {
	key   string
	apart bool // while both servers served, from its call on
}

// use creates sessions and counts in one of its own until the context ends. apart says
// whether each server serves its own side now.
func (s *side) use(ctx context.Context, id int, apart func() bool) {
	counter := fmt.Sprintf("%s-counter-%d", s.host, id)
	text := func(v int) []wire.Attribute {
		return []wire.Attribute{{Name: []byte("a"), Value: fmt.Append(nil, v)}}
	}
	create := func(key string) error {
		began := apart()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		o, err := s.node.Create(ctx, &wire.Create{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(key)}, Set: text(0)})
		if err == nil {
			s.mu.Lock()
			s.acked, s.index = append(s.acked, acked{key, began && apart()}), max(s.index, o.Version)
			s.mu.Unlock()
		}
		return err
	}
	count := func(v int) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		l, err := s.node.Load(ctx, &wire.Load{Dataset: []byte(dataset), Key: []byte(counter), Mode: wire.LoadRead})
		if err != nil {
			return err
		}
		o, err := s.node.Commit(ctx, &wire.Commit{Write: wire.Write{Dataset: []byte(dataset), Key: []byte(counter), Token: l.Token},
			Idle: wire.KeepIdle, Set: text(v)})
		if err == nil && len(o.Dropped) == 0 {
			s.mu.Lock()
			s.last[counter] = v
			s.mu.Unlock()
		}
		return err
	}
	made := create(counter) == nil
	for n := 1; ctx.Err() == nil; n++ {
		err := create(fmt.Sprintf("%s-%d-%d", s.host, id, n))
		if err == nil && made {
			err = count(n)
		}
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
		}
		if err != nil && !wire.Is(err, wire.ErrSessionUnknown) { // the counter may be among what is lost
			rest(10 * time.Millisecond)
		}
		for rest(time.Millisecond); s.slow.Load() && ctx.Err() == nil; {
			rest(time.Millisecond)
		}
	}
}

// behind reports whether s has come less far than other.
func (s *side) behind(other *side) bool {
	s.mu.Lock()
	mine := s.index
	s.mu.Unlock()
	other.mu.Lock()
	defer other.mu.Unlock()
	return mine < other.index
}

// alone counts the creations that were made apart.
func (s *side) alone() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.acked {
		if a.apart {
			n++
		}
	}
	return n
}

// The network between the servers of a pair is cut until both serve their own
// clients. Healed, one side's data is kept whole; what the other one acknowledged
// meanwhile is in its list, and nowhere else.
func TestPairSplitUnderFaults(t *testing.T) {
	t.Parallel() // they mostly wait
	eachSeed(t, func(t *testing.T, seed uint64) {
		c := startPair(t, seed)
		c.together()
		var sides []*side
		for _, s := range c.Servers {
			host := "clients-of-" + s.Name()
			node, err := client.New(client.Options{Hosts: []string{s.Addr()}, Node: true, Logger: quiet, Dial: c.net.Dialer(host)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { node.Close() })
			sides = append(sides, &side{host: host, node: node, last: map[string]int{}})
		}
		t.Cleanup(func() {
			for _, s := range sides {
				s.mu.Lock()
				t.Logf("%s: %d sessions, the last error: %v", s.host, len(s.acked), s.err)
				s.mu.Unlock()
			}
		})
		nodes(t, c.net, 1, c.Addrs()...) // opens the dataset
		var cutMu sync.Mutex
		isApart := false
		apart := func() bool {
			cutMu.Lock()
			defer cutMu.Unlock()
			return isApart
		}
		setApart := func(v bool) {
			cutMu.Lock()
			defer cutMu.Unlock()
			isApart = v
		}
		across := newCrossing(t, c, sides)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		across.start(ctx, &wg)
		for _, s := range sides {
			for id := range 3 {
				wg.Go(func() { s.use(ctx, id, apart) })
			}
		}
		rest(time.Duration(c.rnd.IntN(300)) * time.Millisecond)

		across.enter(parting)
		for try := 0; !c.splits(sides); try++ {
			if try == 20 {
				t.Fatal("this machine is too busy for both servers to go on")
			}
			c.net.MendAll()
			c.together()
		}
		setApart(true)
		across.enter(parted)
		c.until("both acknowledge", func() bool { return sides[0].alone() >= 20 && sides[1].alone() >= 20 })
		rest(time.Duration(c.rnd.IntN(1000)) * time.Millisecond)
		// By its index alone a token of the one side covers what the other one has changed.
		far := c.rnd.IntN(2)
		sides[1-far].slow.Store(true)
		c.until("the other side is overtaken", func() bool { return !sides[far].behind(sides[1-far]) })
		across.each(5)
		sides[1-far].slow.Store(false)
		setApart(false)
		across.enter(healing)
		c.h.Note("healed")
		before := c.asides()
		c.net.MendAll()
		told := map[string]bool{} // warnings of the server whose data is kept
		c.until("one is to be set aside", func() bool {
			lost := false
			for _, s := range c.Servers {
				if s.Engine().Status().SplitBrain {
					told[strings.Join(s.Status().Warnings, "; ")] = true
				}
				select {
				case <-s.Engine().Lost():
					lost = true
				default:
				}
			}
			return lost && len(told) > 0
		})
		if !strings.Contains(strings.Join(slices.Collect(maps.Keys(told)), " "), "split brain: the other server") {
			t.Errorf("the one that is kept warns: %v", told)
		}
		c.together()
		across.enter(healed)
		across.goOn()
		cancel()
		wg.Wait()
		loser := c.setAsideSince(before)
		if loser < 0 {
			t.Fatal("not one of the two has set its data aside")
		}
		c.afterSplit(sides, loser)
		across.judge(loser)
	})
}

// splits leaves each server alone with its clients until both have gone on for good: an active
// one still serves while it removes its passive, and may find then that it is too late for that.
// It reports false where one of them waits, as one does that slept on a busy machine.
func (c *cluster) splits(sides []*side) (both bool) {
	c.t.Helper()
	c.h.Note("%s is active, and the two are cut off from each other", c.Active().Name())
	common := uint64(0) // the incarnation that both are in
	for _, s := range c.Servers {
		number, _ := s.Engine().Reign()
		common = max(common, number)
	}
	c.isolate("tc1", []string{"tc2"})
	for i, s := range sides {
		c.isolate(s.host, []string{c.Servers[1-i].Name()})
	}
	c.net.Break(func(from, _ string) bool { return strings.HasPrefix(from, "clients-") })
	began := time.Now()
	c.until("both go on, or one of them waits", func() bool {
		waits := false
		both = true
		for _, s := range c.Servers {
			number, _ := s.Engine().Reign()
			both = both && s.Engine().Serves() && number > common
			waits = waits || s.Engine().Status().Waiting != ""
		}
		return both || waits || time.Since(began) > 20*time.Second
	})
	return both
}

func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); rest(2 * time.Millisecond) { // polls
		if time.Now().After(deadline) {
			for _, s := range c.Servers {
				c.t.Logf("%s: %+v", s.Name(), s.Engine().Status())
			}
			c.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// asides are the folders of what each server has set aside so far.
func (c *cluster) asides() (folders [2][]string) {
	c.t.Helper()
	for i, s := range c.Servers {
		var err error
		if folders[i], err = filepath.Glob(filepath.Join(c.dir, s.Name(), "aside-*")); err != nil {
			c.t.Fatal(err)
		}
	}
	return folders
}

// setAsideSince returns which server has set its data aside since before; -1 unless it is one of the two.
func (c *cluster) setAsideSince(before [2][]string) int {
	c.t.Helper()
	now := c.asides()
	zero, one := len(now[0]) > len(before[0]), len(now[1]) > len(before[1])
	switch {
	case zero && !one:
		return 0
	case one && !zero:
		return 1
	}
	return -1
}

// afterSplit compares what was acknowledged with what is there and what is listed.
func (c *cluster) afterSplit(sides []*side, loser int) {
	t := c.t
	t.Helper()
	list := map[string]bool{}
	for _, folders := range c.asides() { // a try to part them that did not do may have cost something, too
		for _, folder := range folders {
			for _, l := range c.listed(folder) {
				if l.Dataset != dataset {
					t.Errorf("%+v is listed, and none of ours", l)
				}
				list[l.Key] = true
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	there := func(key string) (string, bool) {
		v, err := read(ctx, sides[0].node, key)
		if err != nil && !wire.Is(err, wire.ErrSessionUnknown) {
			t.Fatalf("read %q: %v", key, err)
		}
		return v, err == nil
	}
	total, strict := 0, 0
	for i, s := range sides {
		for _, a := range s.acked {
			total++
			_, is := there(a.key)
			switch listed := list[a.key]; {
			case !is && !listed:
				t.Errorf("%q was acknowledged, and is neither there nor listed", a.key)
			case a.apart && i == loser && is:
				t.Errorf("%q was acknowledged by the server whose data is set aside, and yet is there", a.key)
			case a.apart && i != loser && !is:
				t.Errorf("%q was acknowledged by the server whose data is kept, and is not there", a.key)
			case a.apart && i == loser:
				strict++
			}
		}
		for key, v := range s.last {
			got, is := there(key)
			var n int
			if _, err := fmt.Sscan(got, &n); list[key] || is && err == nil && n >= v {
				continue
			}
			t.Errorf("%q was counted to %d, is %q, and is not listed", key, v, got)
		}
	}
	t.Logf("%d sessions acknowledged, %d of them by the losing side alone; %d listed", total, strict, len(list))
	if strict < 20 {
		t.Errorf("only %d were acknowledged by the losing side alone: this run proves nothing", strict)
	}
	warned := strings.Join(c.Servers[loser].Status().Warnings, "; ")
	if want := fmt.Sprintf("a split brain has cost %d changed sessions here", len(c.lost(loser))); !strings.Contains(warned, want) {
		t.Errorf("%s warns %q, want %q", c.Servers[loser].Name(), warned, want)
	}
}

// lost reads what a server has listed as lost when it set its data aside last.
func (c *cluster) lost(i int) []stripe.LostChange {
	c.t.Helper()
	st := c.Servers[i].Engine().Status().Lost
	list := c.listed(filepath.Join(c.dir, c.Servers[i].Name(), st.Folder))
	if len(list) != st.Changes || st.Fault != "" {
		c.t.Errorf("%d sessions are listed, and %d are told of: %q", len(list), st.Changes, st.Fault)
	}
	return list
}

// listed reads the list in a folder of what was set aside; each is there once.
func (c *cluster) listed(folder string) (list []stripe.LostChange) {
	c.t.Helper()
	f, err := os.Open(filepath.Join(folder, "lost.jsonl"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	keys := map[string]bool{}
	for in := bufio.NewScanner(f); in.Scan(); {
		var l stripe.LostChange
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			c.t.Fatal(err)
		}
		if keys[l.Dataset+" "+l.Key] {
			c.t.Errorf("%+v is listed twice", l)
		}
		keys[l.Dataset+" "+l.Key] = true
		list = append(list, l)
	}
	return list
}

func read(ctx context.Context, c Node, key string) (string, error) {
	s, err := c.Load(ctx, &wire.Load{Dataset: []byte(dataset), Key: []byte(key), Mode: wire.LoadPeek})
	if err != nil {
		return "", err
	}
	return string(s.Attributes[0].Value), nil
}
