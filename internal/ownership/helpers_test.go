package ownership

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// rig is an active with a real stripe and store, in memory.
type rig struct {
	testing.TB
	*Ownership
	stripe *stripe.Stripe
	store  *store.Store
	seq    atomic.Uint64
}

const dataset = "sessions"

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	return newRigOn(t, cfg, stripe.Config{Durability: stripe.MemoryOnly}, 64<<20)
}

// newRigOn is newRig with a disk and an off-heap resource of size bytes.
func newRigOn(t testing.TB, cfg Config, disk stripe.Config, size uint64) *rig {
	t.Helper()
	st := store.New()
	t.Cleanup(st.Close)
	s, err := stripe.Open(context.Background(), disk, st)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Form(ctx); err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, stripe: s, store: st, Ownership: New(cfg, s, st)}
	t.Cleanup(r.Ownership.Close)
	r.agree(store.AppendConfigure(nil, &wire.Cluster{Name: "C", Stripes: []wire.StripeConfig{{
		Servers:          []wire.ServerConfig{{Name: "tc1", Host: "tc1", Port: 9410, GroupPort: 9430}},
		OffheapResources: []wire.OffheapResource{{Name: "offheap-1", Size: size}},
		DataDirectories:  []wire.DataDirectory{{Name: "PLATFORM", Path: "/data", Platform: true}},
		FailoverPriority: "availability",
	}}}))
	r.agree(store.AppendOpen(nil, &wire.Open{Dataset: []byte(dataset), LockMode: []byte("none")}))
	return r
}

// timed runs f in a bubble of its own time: a time.Sleep in it takes no time.
func timed(t *testing.T, cfg Config, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newRig(t, cfg)) })
}

func (r *rig) agree(op []byte) {
	r.Helper()
	if err := r.propose(context.Background(), op); err != nil {
		r.Fatal(err)
	}
}

type testConn struct{ closed, retired atomic.Bool }

func (c *testConn) Close() error { c.closed.Store(true); return nil }
func (c *testConn) Retire()      { c.retired.Store(true) }

func nodeID(n byte) (id wire.NodeID) { id[0], id[15] = n, 1; return id }

// joined joins node n with a generation.
func (r *rig) joined(n byte, generation uint64) (*Member, *testConn) {
	r.Helper()
	m, c, err := r.tryJoin(n, generation)
	if err != nil {
		r.Fatalf("join of generation %d: %v", generation, err)
	}
	return m, c
}

func (r *rig) tryJoin(n byte, generation uint64) (*Member, *testConn, error) {
	c := &testConn{}
	j := &wire.Join{Node: nodeID(n), Generation: generation, Low: 1, Label: []byte(fmt.Sprint("node ", n))}
	m, _, err := r.Join(context.Background(), j, c)
	return m, c, err
}

func (r *rig) write(m *Member, key string, tok wire.Token) wire.Write {
	n := r.seq.Add(1)
	return wire.Write{Dataset: []byte(dataset), Key: []byte(key), Node: m.node.id, Seq: n, Low: n, Token: tok}
}

func wait(call func(done func(wire.Outcome, error))) (out wire.Outcome, err error) {
	c := make(chan struct{})
	call(func(o wire.Outcome, e error) { out, err = o, e; close(c) })
	<-c
	if err == nil && out.Err != nil {
		err = out.Err
	}
	return out, err
}

func (r *rig) create(m *Member, key string, idle, absolute time.Duration) wire.Outcome {
	r.Helper()
	out, err := wait(func(done func(wire.Outcome, error)) {
		r.Create(m, &wire.Create{Write: r.write(m, key, wire.Token{}), Idle: idle, Absolute: absolute, User: []byte("ann")}, done)
	})
	if err != nil {
		r.Fatalf("create: %v", err)
	}
	return out
}

func (r *rig) set(m *Member, key string, tok wire.Token, name, value string) (wire.Outcome, error) {
	return wait(func(done func(wire.Outcome, error)) {
		r.Commit(m, &wire.Commit{Write: r.write(m, key, tok), Idle: wire.KeepIdle,
			Set: []wire.Attribute{{Name: []byte(name), Value: []byte(value)}}}, done)
	})
}

// read loads key and copies what the answer says.
func (r *rig) read(m *Member, key string, mode wire.LoadMode) (s wire.Session, attrs map[string]string, err error) {
	l := &wire.Load{Dataset: []byte(dataset), Key: []byte(key), Mode: mode}
	if m != nil {
		l.Node = m.node.id
	}
	attrs = map[string]string{}
	err = r.Load(context.Background(), m, l, func(a *wire.Session) {
		s = *a
		s.Key, s.User = append([]byte(nil), a.Key...), append([]byte(nil), a.User...)
		for _, at := range a.Attributes {
			attrs[string(at.Name)] = string(at.Value)
		}
	})
	return s, attrs, err
}

func (r *rig) refused(word wire.Word, err error) {
	r.Helper()
	if !wire.Is(err, word) {
		r.Errorf("answer is %v, not %s", err, word)
	}
}
