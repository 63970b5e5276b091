package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func node(t testing.TB, c *testcluster.Cluster) *client.Client {
	t.Helper()
	cl, err := client.New(client.Options{Hosts: []string{c.Addr()}, Node: true, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

// long ends a test that hangs; no machine is so busy that anything here takes as long.
const long = time.Minute

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

var dataset = []byte("carts")

func open(t testing.TB, cl *client.Client) {
	t.Helper()
	if err := cl.Open(within(t, long), &wire.Open{Dataset: dataset, LockMode: []byte("none")}); err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, cl *client.Client, key string) wire.Token {
	t.Helper()
	w := &wire.Create{Write: wire.Write{Dataset: dataset, Key: []byte(key)}, Idle: time.Hour,
		Set: []wire.Attribute{{Name: []byte("a"), Value: []byte("1")}}}
	o, err := cl.Create(within(t, long), w)
	if err != nil {
		t.Fatal(err)
	}
	return o.Token
}

func load(key string) *wire.Load {
	return &wire.Load{Dataset: dataset, Key: []byte(key), Mode: wire.LoadRead}
}

func TestCloseLeavesTheCluster(t *testing.T) {
	c := testcluster.Start(t)
	cl := node(t, c)
	open(t, cl)
	create(t, cl, "k")
	if n := c.Status().Nodes; n != 1 {
		t.Fatalf("%d nodes", n)
	}
	cl.Close() // does not always wait until the server has carried it out
	for deadline := time.Now().Add(long); c.Status().Nodes != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) { // a node that has only gone is waited for twice as long
			t.Fatalf("%d nodes after Close", c.Status().Nodes)
		}
	}
}

func TestLifeOfASession(t *testing.T) {
	c := testcluster.Start(t)
	cl := node(t, c)
	ctx := within(t, long)
	open(t, cl)
	create(t, cl, "k1")
	s, err := cl.Load(ctx, load("k1"))
	if err != nil || len(s.Attributes) != 1 || string(s.Attributes[0].Value) != "1" || s.IdleMax != time.Hour {
		t.Fatalf("got %+v, %v", s, err)
	}
	w := &wire.Commit{Write: wire.Write{Dataset: dataset, Key: []byte("k1"), Token: s.Token}, Idle: wire.KeepIdle,
		Set: []wire.Attribute{{Name: []byte("b"), Value: bytes.Repeat([]byte("x"), 1<<20)}}, Remove: [][]byte{[]byte("a")}}
	if o, err := cl.Commit(ctx, w); err != nil || len(o.Dropped) != 0 {
		t.Fatalf("got %+v, %v", o, err)
	}
	if s, err = cl.Load(ctx, load("k1")); err != nil || len(s.Attributes) != 1 || len(s.Attributes[0].Value) != 1<<20 {
		t.Fatalf("after the commit: %d attributes, %v", len(s.Attributes), err)
	}
	r := &wire.Renew{Write: wire.Write{Dataset: dataset, Key: []byte("k1"), Token: s.Token}, NewKey: []byte("k2"), SetUser: true, User: []byte("ann")}
	if _, err := cl.Renew(ctx, r); err != nil {
		t.Fatal(err)
	}
	if list, err := cl.UserSessions(ctx, string(dataset), "ann"); err != nil || len(list) != 1 || string(list[0].Key) != "k2" {
		t.Errorf("sessions of ann: %+v, %v", list, err)
	}
	i := &wire.Invalidate{Write: wire.Write{Dataset: dataset, Key: []byte("k2")}, Reason: []byte("logout")}
	if o, err := cl.Invalidate(ctx, i); err != nil || !o.Existed {
		t.Errorf("invalidate: %+v, %v", o, err)
	}
	if _, err := cl.Load(ctx, load("k2")); !wire.Is(err, wire.ErrSessionGone) || !strings.Contains(err.Error(), "logout") {
		t.Errorf("after the logout: %v", err)
	}
	if _, err := cl.Load(ctx, load("unknown")); !wire.Is(err, wire.ErrSessionUnknown) {
		t.Errorf("unknown session: %v", err)
	}
	st, err := cl.Status(ctx)
	if err != nil || st.State != wire.StateActive || st.Cluster == nil || st.Nodes != 1 {
		t.Errorf("status: %+v, %v", st, err)
	}
	d, err := cl.Dump(ctx)
	if err != nil || d.Status.State != st.State || d.Engine.Applied == 0 || len(d.Nodes) != 1 {
		t.Errorf("dump: %+v, %v", d, err)
	}
}

func TestCallsWaitForConfigure(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	cl := node(t, c)
	o := &wire.Open{Dataset: dataset, LockMode: []byte("none")}
	err := errors.New("not asked")
	for patience := 100 * time.Millisecond; !wire.Is(err, wire.ErrUnconfigured) && patience < long; patience *= 2 {
		err = cl.Open(within(t, patience), o) // on a busy machine the first one may not even be sent
	}
	if !wire.Is(err, wire.ErrUnconfigured) || !strings.Contains(err.Error(), "cluster-tool configure") {
		t.Errorf("before configure: %v", err)
	}
	c.Configure()
	open(t, cl)
}

func TestPasswordOfTheRealServer(t *testing.T) {
	c := testcluster.Start(t, testcluster.Password("right"))
	for password, want := range map[string]wire.Word{"": wire.ErrNoAuth, "wrong": wire.ErrWrongPass} {
		cl, err := client.New(client.Options{Hosts: []string{c.Addr()}, Password: password, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cl.Status(within(t, long)); !wire.Is(err, want) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("password %q: %v", password, err)
		}
		cl.Close()
	}
	cl, err := client.New(client.Options{Hosts: []string{c.Addr()}, Password: "right", Node: true, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	open(t, cl)
}

// A server without a data root starts empty: the node joins as a new one and opens its dataset again.
func TestMemoryOnlyRestart(t *testing.T) {
	c := testcluster.Start(t)
	cl := node(t, c)
	open(t, cl)
	create(t, cl, "k1")
	before := cl.Node()
	c.Restart()
	if _, err := cl.Load(within(t, long), load("k1")); !wire.Is(err, wire.ErrSessionUnknown) {
		t.Errorf("got %v", err)
	}
	if cl.Node() == before {
		t.Error("the node id is the old one")
	}
	create(t, cl, "k1")
}

// Promise: whatever a restart or a kill interrupts is answered in the end, and
// each acknowledged change is there once.
func TestChangesOverRestartsAndKills(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, testcluster.Dir(t.TempDir()))
	cl := node(t, c)
	open(t, cl)
	create(t, cl, "k1")
	id := cl.Node()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	made := make([]atomic.Int64, 4)
	for i := range made {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s, err := cl.Load(within(t, long), load("k1"))
				if err != nil {
					t.Errorf("load: %v", err)
					return
				}
				name := fmt.Sprintf("n%d-%d", i, made[i].Load())
				o, err := cl.Commit(within(t, long), &wire.Commit{
					Write: wire.Write{Dataset: dataset, Key: []byte("k1"), Token: s.Token}, Idle: wire.KeepIdle,
					Set: []wire.Attribute{{Name: []byte(name), Value: []byte("x")}},
				})
				if err != nil || len(o.Dropped) != 0 {
					t.Errorf("commit: %+v, %v", o, err)
					return
				}
				made[i].Add(1)
			}
		})
	}
	for i := range 4 {
		for j := range made { // work is under way
			for deadline, was := time.Now().Add(long), made[j].Load(); made[j].Load() < was+3; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("no change is made any more")
				}
			}
		}
		if i%2 == 0 {
			c.Kill()
		} else {
			c.Stop()
		}
		c.Start()
	}
	close(stop)
	wg.Wait()
	s, err := cl.Load(within(t, long), load("k1"))
	if err != nil {
		t.Fatal(err)
	}
	total := 1
	for i := range made {
		total += int(made[i].Load())
	}
	if len(s.Attributes) != total {
		t.Errorf("%d attributes, want %d", len(s.Attributes), total)
	}
	if cl.Node() != id {
		t.Error("the node id has changed though the server kept its data")
	}
}

// While the disk of the only server hangs, reads go on, and a change says why it waits; who gives it up is told
// that nobody knows, and who waits on gets it, made once.
func TestADiskThatHangs(t *testing.T) {
	t.Parallel()
	var hung atomic.Bool
	answers := make(chan struct{})
	c := testcluster.Start(t, testcluster.Dir(t.TempDir()), testcluster.Faults(func(string) *stripe.Faults {
		return &stripe.Faults{Stall: 20 * time.Millisecond, Disk: func(bool) error {
			if hung.Load() {
				<-answers
			}
			return nil
		}}
	}))
	answer := sync.OnceFunc(func() { hung.Store(false); close(answers) })
	defer answer()
	cl := node(t, c)
	open(t, cl)
	token := create(t, cl, "k")
	set := func(ctx context.Context, name string) <-chan error {
		fate := make(chan error, 1)
		go func() {
			_, err := cl.Commit(ctx, &wire.Commit{Write: wire.Write{Dataset: dataset, Key: []byte("k"), Token: token}, Idle: wire.KeepIdle,
				Set: []wire.Attribute{{Name: []byte(name), Value: []byte("1")}}})
			fate <- err
		}()
		return fate
	}
	hung.Store(true)
	ctx, giveUp := context.WithCancel(t.Context())
	given := set(ctx, "given up")
	for deadline := time.Now().Add(long); c.Engine().Status().DiskError == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody notices that the disk hangs")
		}
	}
	if _, err := cl.Load(within(t, long), load("k")); err != nil {
		t.Fatalf("a read: %v", err)
	}
	awaited := set(within(t, long), "awaited")
	giveUp()
	if err := <-given; !errors.Is(err, client.ErrUnsure) || !strings.Contains(err.Error(), "the disk does not answer") {
		t.Errorf("who gave up was told: %v", err)
	}
	answer()
	if err := <-awaited; err != nil {
		t.Errorf("who waited on was told: %v", err)
	}
	s, err := cl.Load(within(t, long), load("k"))
	if err != nil || len(s.Attributes) != 3 {
		t.Errorf("the session has %d attributes: %v", len(s.Attributes), err)
	}
}

func TestStopTheServer(t *testing.T) {
	c := testcluster.Start(t)
	cl, err := client.New(client.Options{Hosts: []string{c.Addr()}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Stop(within(t, long)); err != nil {
		t.Error(err)
	}
	select {
	case <-c.StopAsked():
	case <-time.After(long):
		t.Error("the server was not asked")
	}
}

// BenchmarkSessions is what a request costs at a real server in memory.
func BenchmarkSessions(b *testing.B) {
	c := testcluster.Start(b, testcluster.Logger(quiet))
	cl := node(b, c)
	open(b, cl)
	for _, n := range []int{1, 16, 64} {
		for i := range n {
			create(b, cl, fmt.Sprintf("k%d-%d", n, i))
		}
		for _, write := range []bool{false, true} {
			b.Run(fmt.Sprintf("callers=%d/commit=%v", n, write), func(b *testing.B) {
				b.ReportAllocs()
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() {
						key := fmt.Sprintf("k%d-%d", n, i)
						value := make([]byte, 1024)
						s, err := cl.Load(context.Background(), load(key))
						for err == nil && left.Add(-1) >= 0 {
							if write {
								_, err = cl.Commit(context.Background(), &wire.Commit{
									Write: wire.Write{Dataset: dataset, Key: []byte(key), Token: s.Token}, Idle: wire.KeepIdle,
									Set: []wire.Attribute{{Name: []byte("a"), Value: value}},
								})
							} else {
								_, err = cl.Load(context.Background(), load(key))
							}
						}
						if err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
			})
		}
	}
}
