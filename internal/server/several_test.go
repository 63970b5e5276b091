package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// A passive tells about itself, and sends whoever asks for data to the active one.
func TestPassiveSendsToTheActive(t *testing.T) {
	s := testcluster.StartStripe(t, 3, testcluster.Calm())
	active, passive := s.Active(), s.Passives()[0]
	n := join(t, active.Addr(), 1)
	n.open("carts")
	n.create("k", "ann", "a", "1")

	p := dial(t, passive.Addr())
	id := wire.NodeID{2}
	w := wire.Write{Dataset: []byte("carts"), Key: []byte("k"), Node: id, Seq: 1, Low: 1, Token: wire.Token{Term: 1, Index: 1 << 40}}
	for _, args := range [][][]byte{
		(&wire.Join{Node: id, Generation: 1, Low: 1}).AppendArgs(nil),
		(&wire.Open{Dataset: []byte("carts"), LockMode: []byte("none")}).AppendArgs(nil),
		(&wire.Open{Dataset: []byte("new"), LockMode: []byte("none")}).AppendArgs(nil),
		{[]byte(wire.CmdLoad), []byte("carts"), []byte("k")},
		(&wire.Load{Dataset: []byte("carts"), Key: []byte("k"), Node: id, Mode: wire.LoadRead}).AppendArgs(nil),
		(&wire.Load{Dataset: []byte("nowhere"), Key: []byte("k"), Mode: wire.LoadPeek}).AppendArgs(nil),
		(&wire.Commit{Write: w, Idle: wire.KeepIdle}).AppendArgs(nil),
		(&wire.Invalidate{Write: w, Reason: []byte("logout")}).AppendArgs(nil),
		{[]byte(wire.CmdUser), []byte("carts"), []byte("ann")},
		{[]byte("GET"), []byte("x")}, {[]byte("SET"), []byte("x"), []byte("1")},
	} {
		if text := refusal(t, wire.ErrNotActive, p.doArgs(args)); !strings.Contains(text+" ", " "+active.Addr()+" ") {
			t.Errorf("%s: the refusal does not name the active server %s: %s", args[0], active.Addr(), text)
		}
	}
	p.want("PONG", "PING")
	_, port, _ := net.SplitHostPort(active.Addr())
	if info := string(p.do("INFO", "replication").Bytes); !strings.Contains(info, "role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:"+port+"\r\n") {
		t.Errorf("INFO of the passive: %q", info)
	}
	if info := string(n.do("INFO", "replication").Bytes); !strings.Contains(info, "role:master\r\nconnected_slaves:2") {
		t.Errorf("INFO of the active: %q", info)
	}
	if hello := text(p.do("HELLO")); !strings.Contains(hello, " role slave ") {
		t.Errorf("HELLO of the passive: %s", hello)
	}
	if _, refused := p.configure(request(passive)); refused == nil || refused.Word != wire.ErrNotActive || !strings.Contains(refused.Text, active.Addr()) {
		t.Errorf("configure of a passive: %v", refused)
	}
	p.refused(wire.ErrBadRequest, wire.CmdPromote)

	for _, c := range s.Servers {
		st := c.Status()
		want := wire.StatePassive
		if c == active {
			want = wire.StateActive
		}
		if st.State != want || st.Active != active.Addr() || st.Cluster == nil || st.License == nil || st.License.State != "valid" || len(st.Members) != 3 {
			t.Errorf("%s: %s, active %s, licence %+v, members %+v", c.Name(), st.State, st.Active, st.License, st.Members)
		}
	}
	eventually(t, "the active sees that its passives have all", func() bool {
		for _, m := range active.Status().Members {
			if m.Lag > 0 || !m.Voter || m.Self != (m.Name == active.Name()) || !wire.InService(m.State) {
				return false
			}
		}
		return true
	})
}

// rejoin connects n's node to another server under its id.
func (n *node) rejoin(t *testing.T, addr string, generation uint64) *node {
	t.Helper()
	again := &node{peer: dial(t, addr), id: n.id, seq: n.seq}
	j := wire.Join{Node: n.id, Generation: generation, Low: 1, Label: []byte("test")}
	if r := again.doArgs(j.AppendArgs(nil)); r.Type != '*' {
		t.Fatalf("join: %s", text(r))
	}
	return again
}

// A server that is active, passive and active again carries nothing over: nodes
// come back under their ids, repeats get the first outcome, connections of the
// reign before end, and who does not come back is removed.
func TestReigns(t *testing.T) {
	t.Parallel() // it waits for the reconnect window, which is long enough to come back in on a busy machine
	s := testcluster.StartStripe(t, 3, testcluster.Calm(), testcluster.ReconnectWindow(6*time.Second))
	first := s.Active()
	n, idle := join(t, first.Addr(), 1), join(t, first.Addr(), 2)
	n.open("carts")
	create := wire.Create{Write: n.write("k", wire.Token{}), Idle: time.Minute}
	created := n.outcome(n.doArgs(create.AppendArgs(nil)))

	handOver := func(from *testcluster.Cluster) *testcluster.Cluster {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		eventually(t, "it hands over", func() bool { return from.Engine().HandOver(ctx) == nil })
		eventually(t, "another one is active", func() bool { return s.Active() != from })
		return s.Active()
	}
	second := handOver(first)
	idle.closed()
	n.closed()
	eventually(t, "nodes are waited for", func() bool { return second.Status().State == wire.StateActiveReconnecting })

	n = n.rejoin(t, second.Addr(), 2)
	if again := n.outcome(n.doArgs(create.AppendArgs(nil))); again.Version != created.Version {
		t.Errorf("the repeat was made again: version %d, first %d", again.Version, created.Version)
	}
	set := wire.Commit{Write: n.write("k", created.Token), Idle: wire.KeepIdle, Set: attrs([]string{"a", "1"})}
	if o := n.outcome(n.doArgs(set.AppendArgs(nil))); len(o.Dropped) > 0 {
		t.Errorf("a ticket of the reign before does not cover its own session: %+v", o)
	}
	if got := n.load("k"); len(got.Attributes) != 1 || got.Token.Term == created.Token.Term {
		t.Errorf("load: %+v; tokens of two reigns must differ", got)
	}
	eventually(t, "the idle node is removed, and nobody is waited for", func() bool {
		st := second.Status()
		return st.State == wire.StateActive && st.Nodes == 1
	})

	third := handOver(second)
	for third != first { // there are three of them: go on until the first has its turn again
		n.closed()
		n = n.rejoin(t, third.Addr(), 3)
		eventually(t, "nobody is waited for", func() bool { return third.Status().State == wire.StateActive })
		if next := s.Passives(); len(next) > 0 {
			third = handOver(third)
		}
	}
	eventually(t, "it counts how often it was active", func() bool { return first.Status().Activations == 2 })
	n = n.rejoin(t, first.Addr(), 50) // the generation that first has seen itself counts for nothing
	if got := n.load("k"); len(got.Attributes) != 1 {
		t.Errorf("load: %+v", got)
	}
	late := &node{peer: dial(t, first.Addr()), id: wire.NodeID{2}}
	late.refused(wire.ErrNodeGone, wire.CmdJoin, strconv.Itoa(wire.Version), late.id.String(), "2", "1", "late")
}

// backup takes the server at p through the steps.
func (p *peer) backup(step, name string) (a wire.BackupAnswer) {
	p.t.Helper()
	r := p.do(wire.CmdBackup, step, name)
	if r.Type == '-' {
		p.t.Fatalf("%s: %s", step, text(r))
	}
	if err := json.Unmarshal(r.Bytes, &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		names = append(names, f.Name())
	}
	return names
}

// A backup beside traffic starts a cluster that has all that was acknowledged
// before it; one that fails leaves nothing.
func TestBackupAndRestore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "backups")
	c, n := carts(t, testcluster.Backups(dir), testcluster.Dir(t.TempDir()))
	n.create("before", "ann", "a", "1")
	p := dial(t, c.Addr())
	p.backup(wire.BackupPrepare, "b1")
	p.backup(wire.BackupEnter, "b1")
	if got := p.refused(wire.ErrConflict, wire.CmdBackup, wire.BackupEnter, "b2"); !strings.Contains(got, `"b1" is under way`) {
		t.Errorf("a second one: %s", got)
	}
	p.refused(wire.ErrConflict, wire.CmdBackup, wire.BackupStart, "b2")
	a := p.backup(wire.BackupStart, "b1")
	if a.Bytes == 0 || len(a.SHA256) != 64 || a.File != filepath.Join(dir, "b1"+server.BackupSuffix) || len(files(t, dir)) != 1 {
		t.Errorf("%+v, and there are %q", a, files(t, dir))
	}
	p.refused(wire.ErrBadRequest, wire.CmdBackup, wire.BackupPrepare, "b1")     // a backup is never overwritten
	p.refused(wire.ErrBadRequest, wire.CmdBackup, wire.BackupPrepare, "../out") // nor is another folder's
	p.backup(wire.BackupEnter, "b3")
	p.backup(wire.BackupAbort, "b3")
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("an aborted backup leaves %q", got)
	}

	doc, err := os.ReadFile(a.File)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "stripe")
	if err := stripe.RestoreBackup(root, bytes.NewReader(doc)); err != nil {
		t.Fatal(err)
	}
	st := store.New()
	defer st.Close()
	sp, err := stripe.Open(context.Background(), stripe.Config{Dir: root, Durability: stripe.EveryWrite, ServerName: "new"}, st)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	eventually(t, "the restored server is active", func() bool { return sp.Serves() })
	if cl := st.Cluster(); cl == nil || cl.Name != testcluster.Name || cl.License != string(c.License()) {
		t.Errorf("cluster %+v", cl)
	}
	if refused := st.View([]byte("carts"), []byte("before"), func(*store.Record) {}); refused != nil {
		t.Errorf("the session: %v", refused)
	}
}

// Only the active server backs up, and only into a place that it has.
func TestBackupRefusals(t *testing.T) {
	s := testcluster.StartStripe(t, 2, testcluster.Calm())
	if got := dial(t, s.Passives()[0].Addr()).refused(wire.ErrBadRequest, wire.CmdBackup, "PREPARE", "b"); !strings.Contains(got, "only the active one backs up") {
		t.Errorf("a passive: %s", got)
	}
	if got := dial(t, s.Active().Addr()).refused(wire.ErrBadRequest, wire.CmdBackup, "PREPARE", "b"); !strings.Contains(got, "TC_BACKUP_LOCATION") {
		t.Errorf("no location: %s", got)
	}
	taken := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := testcluster.Start(t, testcluster.Backups(taken))
	if got := dial(t, c.Addr()).refused(wire.ErrGeneric, wire.CmdBackup, "PREPARE", "b"); !strings.Contains(got, "backup location") {
		t.Errorf("a file in its place: %s", got)
	}
	new := testcluster.Start(t, testcluster.Unconfigured())
	dial(t, new.Addr()).refused(wire.ErrBadRequest, wire.CmdBackup, "PREPARE", "b")
	dial(t, new.Addr()).refused(wire.ErrBadRequest, wire.CmdBackup, "LATER", "b")
}

func TestDump(t *testing.T) {
	c, n := carts(t)
	n.create("secret-key", "secret-user", "a", "secret-value")
	p := dial(t, c.Addr())
	var d wire.Dump
	r := p.do(wire.CmdDump, "JSON")
	if err := json.Unmarshal(r.Bytes, &d); err != nil {
		t.Fatal(err)
	}
	if d.Engine.Role != wire.StateActive || d.Engine.Applied == 0 || len(d.Nodes) != 1 || !d.Nodes[0].Connected || d.Process.Goroutines == 0 ||
		len(d.Status.Datasets) != 1 || d.Status.Datasets[0].Sessions != 1 || d.Status.Offheap[0].Used == 0 ||
		d.Memory.Used == 0 || d.Memory.Used > d.Memory.Mapped || d.Memory.Blocks != 1 || d.Memory.Outcomes == 0 {
		t.Errorf("%+v", d)
	}
	lines := text(p.do(wire.CmdDump, "TEXT", "LOG"))
	for _, want := range []string{"state: ", "log: ", "node: ", "memory: ", "process: ", "dataset: "} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in %s", want, lines)
		}
	}
	for _, secret := range []string{"secret-key", "secret-user", "secret-value", "LicenseKey"} {
		if strings.Contains(string(r.Bytes)+lines, secret) {
			t.Errorf("the dump shows %s", secret)
		}
	}
	p.refused(wire.ErrBadRequest, wire.CmdDump, "LOG", "JSON")
}
