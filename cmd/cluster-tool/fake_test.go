package main

import (
	"bytes"
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// fakeServer answers as a server of a stripe that this version cannot run yet,
// such as one of a pair. Change its fields before it is asked.
type fakeServer struct {
	status    wire.Status
	refuse    string // error reply to every TC. command, or ""
	configure wire.ConfigureAnswer
	asked     []wire.ConfigureRequest
	joins     map[string]string                     // server name -> its state after configure, where not PASSIVE
	stops     []string                              // arguments of each TC.STOP
	answers   map[string]func(args [][]byte) []byte // command -> its reply
	told      []string                              // commands that answers replied to
	stop      func()                                // ends the fake, as TC.STOP ends a server
	addr      string
	mu        sync.Mutex
}

// newFake starts a fake server called name, which runs as the only one of its stripe.
func newFake(t *testing.T, name string) *fakeServer {
	t.Helper()
	ln, err := net.Listen("tcp", nowhere(t)) // nobody else gets it when the fake has stopped
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{addr: ln.Addr().String(), configure: wire.ConfigureAnswer{Configured: true, License: "installed"}}
	var open sync.WaitGroup
	f.stop = func() { ln.Close() }
	t.Cleanup(func() { ln.Close(); open.Wait() })
	open.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() { f.serve(c) })
		}
	})
	self := serverAt(name, f.addr)
	f.status = wire.Status{Server: self, State: wire.StateActive, ServerID: name + "-id", UptimeMillis: 1000, Running: running(self)}
	return f
}

func serverAt(name, addr string) wire.ServerConfig {
	host, text, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(text)
	return wire.ServerConfig{Name: name, Host: host, Port: port, GroupPort: port + 20}
}

// running is the configuration of a stripe of these servers.
func running(servers ...wire.ServerConfig) wire.StripeConfig {
	return wire.StripeConfig{
		Servers: servers, OffheapResources: []wire.OffheapResource{{Name: "offheap-1", Size: 1 << 29}},
		DataDirectories:  []wire.DataDirectory{{Name: "PLATFORM", Path: "/data/" + servers[0].Name, Platform: true}},
		FailoverPriority: "availability",
	}
}

func (f *fakeServer) serve(c net.Conn) {
	defer c.Close()
	r := resp.NewReader(c, resp.Limits{})
	for {
		args, err := r.ReadCommand()
		if err != nil {
			return
		}
		if _, err := c.Write(f.reply(args)); err != nil {
			return
		}
	}
}

func (f *fakeServer) reply(args [][]byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	var doc any
	switch cmd := string(args[0]); {
	case cmd == "HELLO":
		return resp.AppendSimple(nil, "OK")
	case f.refuse != "":
		return resp.AppendError(nil, f.refuse)
	case cmd == wire.CmdStatus:
		doc = f.status
	case cmd == wire.CmdConfigure:
		var r wire.ConfigureRequest
		if err := json.Unmarshal(args[1], &r); err != nil {
			return resp.AppendError(nil, "BADREQUEST "+err.Error())
		}
		f.asked = append(f.asked, r)
		doc = f.configure
		f.status.Cluster, f.status.Members = &r.Cluster, membersOf(r.Cluster.Stripes[0], f.joins)
	case cmd == wire.CmdStop:
		f.stops = append(f.stops, string(bytes.Join(args[1:], []byte(" "))))
		f.stop()
		return resp.AppendSimple(nil, "OK")
	case f.answers[cmd] != nil:
		f.told = append(f.told, string(bytes.Join(args, []byte(" "))))
		return f.answers[cmd](args)
	default:
		return resp.AppendError(nil, "ERR unknown command")
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return resp.AppendBulk(nil, b)
}

// pair makes two fake servers of one stripe.
func pair(t *testing.T) (a, b *fakeServer) {
	a, b = newFake(t, "tc1"), newFake(t, "tc2")
	both := running(a.status.Server, b.status.Server)
	a.status.Running, b.status.Running = both, both
	b.status.State = wire.StatePassive
	return a, b
}

// membersOf is what the first server of a stripe tells of all of them.
func membersOf(c wire.StripeConfig, states map[string]string) (list []wire.MemberStatus) {
	for i, s := range c.Servers {
		m := wire.MemberStatus{Name: s.Name, Address: serverHost(s), State: wire.StatePassive}
		if m.Self = i == 0; m.Self {
			m.State = wire.StateActive
		}
		if state := states[s.Name]; state != "" {
			m.State = state
		}
		list = append(list, m)
	}
	return list
}

// join makes the servers members of a cluster with this licence's checksum.
func join(name, sha256 string, servers ...*fakeServer) {
	for _, f := range servers {
		f.status.Cluster = &wire.Cluster{Name: name, Stripes: []wire.StripeConfig{f.status.Running}}
		f.status.Members = membersOf(f.status.Running, f.joins)
		f.status.License = &wire.LicenseStatus{State: "valid", SerialNumber: "S", Expires: "Unlimited", SHA256: sha256}
	}
}

// licensed gives tests a licence and the environment that trusts it.
func licensed(t *testing.T) (file string, environ []string, sha256 string) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	l, err := verifyDocument("test", c.License(), c.TrustedKeys())
	if err != nil {
		t.Fatal(err)
	}
	return c.LicenseFile(), []string{"TC_TRUSTED_KEYS=" + c.TrustedKeys()}, l.SHA256
}

// ran is what one command line gave.
type ran struct {
	exit        int
	out, errors string
}

func runTool(t *testing.T, environ []string, args ...string) ran {
	t.Helper()
	var out, errs testcluster.Output
	exit := run(t.Context(), args, environ, strings.NewReader(""), &out, &errs)
	return ran{exit, out.String(), errs.String()}
}

// want checks exit status and words on the two streams.
func (r ran) want(t *testing.T, c code, words ...string) {
	t.Helper()
	if r.exit != c.Number {
		t.Errorf("exit %d, want %d (%s)", r.exit, c.Number, c.Name)
	}
	if slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(r.out+r.errors, w) }) || t.Failed() {
		t.Errorf("want %q in\n%s%s", words, r.out, r.errors)
	}
}

// until polls a condition for a minute.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to it within a minute")
		}
		<-time.After(2 * time.Millisecond)
	}
}

// nowhere is a host:port where nobody listens, before the end of t.
func nowhere(t testing.TB) string { return net.JoinHostPort("127.0.0.1", testcluster.FreePort(t)) }
