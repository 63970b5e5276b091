package stripe

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
)

// kept is a sink that remembers what became of it.
type kept struct {
	bytes.Buffer
	closed, cancelled bool
}

func (k *kept) ID() string    { return "kept" }
func (k *kept) Close() error  { k.closed = true; return nil }
func (k *kept) Cancel() error { k.cancelled = true; return nil }

// storeSnapshot is what a server with an empty store sends.
func storeSnapshot(t *testing.T) []byte {
	st := store.New()
	t.Cleanup(st.Close)
	v := st.Snapshot()
	defer v.Release()
	b := bytes.NewBuffer(snapshotHead(nil, 1))
	if _, err := v.WriteTo(b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A snapshot that is sent counts only if all of it is what was written.
func TestADamagedSnapshotIsRefusedBeforeItCounts(t *testing.T) {
	good := storeSnapshot(t)
	f := &fsm{m: storeMachine{store.New()}, newest: formatNewest}
	offered := func(b []byte, size int) (*kept, error) {
		k := new(kept)
		r := &received{SnapshotSink: k, f: f}
		for part := range slices.Chunk(b, size) {
			if _, err := r.Write(part); err != nil {
				return k, errors.Join(err, r.Cancel())
			}
		}
		return k, r.Close()
	}
	for _, size := range []int{1, 7, len(good)} {
		k, err := offered(good, size)
		if err != nil || !k.closed || k.cancelled || !bytes.Equal(k.Bytes(), good) {
			t.Fatalf("in pieces of %d: %v, %+v", size, err, k)
		}
	}
	bad := [][]byte{nil, good[:len(good)-1], append(slices.Clone(good), 0), []byte("\x04of a later version"), bytes.Repeat([]byte{1}, 1<<20)}
	for i := range good {
		b := slices.Clone(good)
		b[i] ^= 1 << (i % 8)
		bad = append(bad, b)
	}
	for i, b := range bad {
		for _, size := range []int{3, 32 << 10} {
			if k, err := offered(b, size); err == nil || k.closed || !k.cancelled {
				t.Errorf("case %d in pieces of %d: %v, closed %v, cancelled %v", i, size, err, k.closed, k.cancelled)
			}
		}
	}
}

// A member that sends garbage in a later term, as a snapshot or as a configuration, costs
// no server anything that it has, and ends none.
func TestAttackSnapshotThatIsNone(t *testing.T) {
	t.Parallel()
	for _, d := range []Durability{EveryWrite, MemoryOnly} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, Config{Durability: d, Secret: "sesame"})
			c.form()
			for _, op := range numbered("op", 20) {
				c.do(op)
			}
			a := c.settle()
			want := c.ledgers[a].list()
			c.equal(want...)
			target, member := (a+1)%3, c.servers[(a+2)%3].self()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
				Stream: asMember{l, c, target, member}, MaxPool: 1, Timeout: 10 * time.Second,
			})
			defer trans.Close()
			header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte(member.ID), Addr: []byte(raftAddress(member.Name, member.ID))}
			v, at, err := c.servers[target].fsm.viewNow()
			if err != nil {
				t.Fatal(err)
			}
			whole := bytes.NewBuffer(snapshotHead(nil, 1))
			_, err = v.WriteTo(whole)
			v.Release()
			if err != nil {
				t.Fatal(err)
			}
			config := raft.EncodeConfiguration(at.config)
			twice := raft.EncodeConfiguration(raft.Configuration{Servers: append(at.config.Servers[:1:1], at.config.Servers[0])})
			silent := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Nonvoter, ID: "a", Address: "a"}}})
			garbage, rnd := make([]byte, 300_000), rand.New(rand.NewPCG(1, 1))
			for i := range garbage {
				garbage[i] = byte(rnd.Int())
			}
			const far = 1_000_000
			for name, m := range map[string]struct {
				content, config []byte
				last            uint64
			}{
				"garbage":                       {garbage, config, far},
				"garbage behind a right head":   {append([]byte{snapshotFormat}, garbage...), config, far},
				"cut short":                     {whole.Bytes()[:whole.Len()-3], config, far},
				"nothing":                       {nil, config, far},
				"one that is long over":         {whole.Bytes(), config, 2},
				"one with a senseless list":     {whole.Bytes(), garbage[:100], far},
				"one with nothing for the list": {whole.Bytes(), nil, far},
				"one with an empty list":        {whole.Bytes(), raft.EncodeConfiguration(raft.Configuration{}), far},
				"one in which nobody votes":     {whole.Bytes(), silent, far},
				"one with a server twice":       {whole.Bytes(), twice, far},
			} {
				s := c.servers[target]
				var resp raft.InstallSnapshotResponse
				err := trans.InstallSnapshot("", "", &raft.InstallSnapshotRequest{
					RPCHeader: header, SnapshotVersion: 1, Term: s.raft.CurrentTerm() + 1, LastLogIndex: m.last, LastLogTerm: 1,
					Configuration: m.config, ConfigurationIndex: 1, Size: int64(len(m.content)),
				}, &resp, bytes.NewReader(m.content))
				if err == nil || resp.Success {
					t.Errorf("%s: taken", name)
				}
				if have := c.ledgers[target].list(); !slices.Equal(have, want) {
					t.Fatalf("%s: %d operations are left of %d", name, len(have), len(want))
				}
				if p := s.fsm.damage.Load(); p != nil {
					t.Fatalf("%s: %v", name, *p)
				}
			}
			s := c.servers[target]
			var resp raft.AppendEntriesResponse
			if err := trans.AppendEntries("", "", &raft.AppendEntriesRequest{
				RPCHeader: header, Term: s.raft.CurrentTerm() + 1,
				Entries: []*raft.Log{{Index: s.raft.LastIndex() + 1, Term: 1, Type: raft.LogConfiguration, Data: garbage[:100]}},
			}, &resp); err == nil || !strings.Contains(err.Error(), "a configuration that is none") {
				t.Errorf("a configuration that is none, as an entry: %v, %+v", err, resp)
			}
			unsure := c.do("after") // elections are under way
			have := c.ledgers[c.settle()].list()
			c.equal(have...)
			if len(have) <= len(want) || len(have) > len(want)+1+unsure || !slices.Equal(have[:len(want)], want) {
				t.Fatalf("%d operations are left of %d", len(have), len(want))
			}
			if d == MemoryOnly {
				return
			}
			left, err := filepath.Glob(filepath.Join(c.dirs[target], snapFolder, "*"))
			if err != nil || slices.ContainsFunc(left, func(dir string) bool { return strings.Contains(dir, "-1000000-") }) {
				t.Errorf("snapshots left: %q, %v", left, err)
			}
			c.kill(target)
			c.start(target)
			c.settle()
			c.equal(have...)
		})
	}
}
