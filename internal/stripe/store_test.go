package stripe

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// stored opens the stripe in dir with the real store.
func stored(t *testing.T, dir string) (*Stripe, *store.Store) {
	t.Helper()
	st := store.New()
	s, err := Open(t.Context(), Config{Dir: dir, Durability: EveryWrite, Logger: testLog(t)}, st)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	form(t, s)
	return s, st
}

func content(t *testing.T, st *store.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	v := st.Snapshot()
	defer v.Release()
	if _, err := v.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Law: a restart is invisible: from the log alone, from a snapshot and the log,
// and from a snapshot alone.
func TestARestartIsInvisibleToTheStore(t *testing.T) {
	dir := t.TempDir()
	s, st := stored(t, dir)
	node := wire.NodeID{1}
	seq := uint64(0)
	w := func(key string) wire.Write {
		seq++
		return wire.Write{Dataset: []byte("d"), Key: []byte(key), Node: node, Seq: seq, Low: max(1, seq-5)}
	}
	must(t, s, string(store.AppendConfigure(nil, &wire.Cluster{Name: "C", Stripes: []wire.StripeConfig{{
		Servers:          []wire.ServerConfig{{Name: "tc1", Host: "tc1", Port: 9410, GroupPort: 9430}},
		OffheapResources: []wire.OffheapResource{{Name: "main", Size: 16 << 20}},
		DataDirectories:  []wire.DataDirectory{{Name: "P", Path: "/data", Platform: true}},
		FailoverPriority: "availability",
	}}})))
	must(t, s, string(store.AppendOpen(nil, &wire.Open{Dataset: []byte("d"), LockMode: []byte("none")})))
	must(t, s, string(store.AppendJoin(nil, &wire.Join{Node: node, Generation: 1, Low: 1})))
	for round := range 3 {
		for i := range 50 {
			key := fmt.Sprintf("%d-%d", round, i)
			must(t, s, string(store.AppendCreate(nil, &wire.Create{Write: w(key), Idle: time.Hour, User: []byte("u")})))
			must(t, s, string(store.AppendCommit(nil, &wire.Commit{Write: w(key), Idle: wire.KeepIdle,
				Set: []wire.Attribute{{Name: []byte("a"), Value: bytes.Repeat([]byte("v"), 100*i)}}})))
			if i%7 == 0 {
				must(t, s, string(store.AppendInvalidate(nil, &wire.Invalidate{Write: w(key), Reason: []byte("logout")})))
			}
		}
		if round > 0 {
			if err := s.snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		if round == 1 {
			must(t, s, string(store.AppendPrune(nil, 10)))
		}
		want, index := content(t, st), st.Index()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, st = stored(t, dir)
		if !bytes.Equal(content(t, st), want) || st.Index() != index {
			t.Fatalf("round %d: the store differs after a restart: index %d, was %d", round, st.Index(), index)
		}
		if err := s.Confirm(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
