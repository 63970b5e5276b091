package stripe

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// full is a machine whose views hold too much until they get on or are given up.
type full struct {
	ledger
	got    int64         // bytes written of the view that is held
	seen   int64         // at the last look
	since  time.Time     // it is written
	rate   int64         // bytes a second
	needed time.Duration // until it holds less
	given  int
}

func (m *full) Crowded() bool {
	m.got = int64(float64(m.rate) * time.Since(m.since).Seconds())
	return m.given == 0 && time.Since(m.since) < m.needed
}

func (m *full) GiveUp(least int64) int {
	if m.got-m.seen < least {
		m.given++
		return 1
	}
	m.seen = m.got
	return 0
}

// Changes wait for a snapshot as long as it gets on, and for one that stands still only so long.
func TestChangesWaitForASnapshotThatGetsOn(t *testing.T) {
	for what, c := range map[string]struct {
		rate   int64
		needed time.Duration
		waits  time.Duration
		given  int64
	}{
		"it gets on":        {roomLeast, 10 * time.Second, 10 * time.Second, 0},
		"it is done soon":   {0, time.Second, time.Second, 0},
		"it stands still":   {0, time.Hour, roomPatience, 1},
		"it does not, much": {roomLeast / 4, time.Hour, roomPatience, 1},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &full{since: time.Now(), rate: c.rate, needed: c.needed}
				f := &fsm{m: m, log: slog.New(slog.DiscardHandler)}
				begin := time.Now()
				f.makeRoom()
				if d := time.Since(begin); d < c.waits || d > c.waits+2*roomLook {
					t.Errorf("it waited for %v, not %v", d, c.waits)
				}
				if n := f.room.given.Load(); n != c.given {
					t.Errorf("%d were given up", n)
				}
				if d := time.Duration(f.room.waited.Load()); d < c.waits {
					t.Errorf("%v are counted", d)
				}
			})
		})
	}
}

// A pause between two waits is not time in which a snapshot stood still.
func TestWaitsThatAreApartAreJudgedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &full{needed: roomPatience / 2}
		f := &fsm{m: m, log: slog.New(slog.DiscardHandler)}
		for range 5 {
			m.since, m.got, m.seen = time.Now(), 0, 0
			f.makeRoom()
			time.Sleep(roomPatience / 2)
		}
		if m.given > 0 {
			t.Error("it was given up")
		}
	})
}

// Other servers that ask are answered meanwhile.
func TestQuestionsDoNotWaitForASnapshot(t *testing.T) {
	f := new(fsm)
	f.StoreConfiguration(1, raft.Configuration{Servers: []raft.Server{{ID: "a"}}})
	f.turn.Lock() // as whoever makes room does
	defer f.turn.Unlock()
	answered := make(chan bool, 1)
	go func() { answered <- f.knows("a") && !f.knows("b") }()
	select {
	case right := <-answered:
		if !right {
			t.Error("it does not know who belongs to the stripe")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits")
	}
}

// A server that stops waits for nobody's snapshot.
func TestAStopEndsTheWaitForASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		f := &fsm{m: &full{since: time.Now(), rate: 10 * roomLeast, needed: time.Hour}, log: slog.New(slog.DiscardHandler), stop: stop}
		time.AfterFunc(time.Second, func() { close(stop) })
		begin := time.Now()
		f.makeRoom()
		if d := time.Since(begin); d > time.Second {
			t.Errorf("it waited for %v", d)
		}
	})
}

// A backup whose reader sleeps does not make the server grow, nor changes wait for ever.
func TestABackupThatStandsStillIsGivenUp(t *testing.T) {
	st := store.New()
	s, err := Open(t.Context(), Config{Durability: MemoryOnly, Logger: testLog(t)}, st)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	form(t, s)
	must(t, s, string(store.AppendConfigure(nil, &wire.Cluster{Name: "C", Stripes: []wire.StripeConfig{{
		Servers:          []wire.ServerConfig{{Name: "tc1", Host: "tc1", Port: 9410, GroupPort: 9430}},
		OffheapResources: []wire.OffheapResource{{Name: "main", Size: 64 << 20}},
		FailoverPriority: "availability",
	}}})))
	must(t, s, string(store.AppendOpen(nil, &wire.Open{Dataset: []byte("d"), LockMode: []byte("none")})))
	node, seq := wire.NodeID{1}, uint64(0)
	must(t, s, string(store.AppendJoin(nil, &wire.Join{Node: node, Generation: 1, Low: 1})))
	const sessions, size = 40, 500_000
	each := func(op func(w wire.Write, set []wire.Attribute) []byte) {
		t.Helper()
		for i := range sessions {
			seq++
			w := wire.Write{Dataset: []byte("d"), Key: fmt.Append(nil, i), Node: node, Seq: seq, Low: seq, Token: wire.Token{Term: 1, Index: st.Index()}}
			o, err := do(s, string(op(w, []wire.Attribute{{Name: []byte("a"), Value: make([]byte, size)}})))
			if err != nil || o.Err != nil || o.Dropped != nil {
				t.Fatal(o, err)
			}
			if m := st.Memory(); m.Held > st.MayHold()+2*size {
				t.Fatalf("%d bytes are held of %d", m.Held, st.MayHold())
			}
		}
	}
	each(func(w wire.Write, set []wire.Attribute) []byte {
		return store.AppendCreate(nil, &wire.Create{Write: w, Set: set})
	})
	sleeper := &sleeper{asleep: make(chan struct{}), wake: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Backup(t.Context(), sleeper)
		ended <- err
	}()
	<-sleeper.asleep
	for range 3 {
		each(func(w wire.Write, set []wire.Attribute) []byte {
			return store.AppendCommit(nil, &wire.Commit{Write: w, Idle: wire.KeepIdle, Set: set})
		})
	}
	close(sleeper.wake)
	if err := <-ended; !errors.Is(err, store.ErrGivenUp) {
		t.Errorf("the backup: %v", err)
	}
	if waited, given := s.Held(); waited < roomPatience || given != 1 || st.Memory().Held != 0 {
		t.Errorf("changes waited for %v, %d were given up, %d bytes are held", waited, given, st.Memory().Held)
	}
}

// sleeper takes the first bytes, and the others when it is woken.
type sleeper struct {
	n            int
	asleep, wake chan struct{}
}

func (s *sleeper) Write(b []byte) (int, error) {
	if s.n++; s.n == 2 {
		close(s.asleep)
	}
	if s.n > 1 {
		<-s.wake
	}
	return len(b), nil
}
