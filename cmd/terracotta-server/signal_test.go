//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// process is a server in a process of its own.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	addr string
	out  *bufio.Reader
	said bytes.Buffer
	errs testcluster.Output
}

// launch starts a server whose data root lies in root and that trusts keys.
func launch(t *testing.T, root, keys string) *process {
	t.Helper()
	// testscript.Main runs the command that its program is called like.
	binary := filepath.Join(root, "terracotta-server")
	if err := os.Symlink(os.Args[0], binary); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	port := testcluster.FreePort(t)
	p := &process{t: t, cmd: exec.Command(binary), addr: net.JoinHostPort("127.0.0.1", port)}
	p.cmd.Env = []string{"TC_DATA_ROOT=" + filepath.Join(root, "data"), "TC_TSA_PORT=" + port, "TC_BIND=127.0.0.1", "TC_TRUSTED_KEYS=" + keys,
		"TC_MANAGEMENT_PORT=off", "HOSTNAME=box", "GORACE=atexit_sleep_ms=0"}
	p.cmd.Stderr = &p.errs
	pipe, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(pipe)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// until reads the log up to a line that holds words.
func (p *process) until(words string) {
	p.t.Helper()
	for {
		line, err := p.out.ReadString('\n')
		p.said.WriteString(line)
		if strings.Contains(line, words) {
			return
		}
		if err != nil {
			p.t.Fatalf("no %q in its log: %v\n%s%s", words, err, p.said.String(), p.errs.String())
		}
	}
}

// terminate sends SIGTERM and expects an end in order.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	defer time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() }).Stop() // it hangs
	rest, _ := io.ReadAll(p.out)
	p.said.Write(rest)
	if err := p.cmd.Wait(); err != nil || p.errs.String() != "" || !strings.Contains(p.said.String(), "terracotta-server has stopped") {
		p.t.Errorf("its end: %v\n%s%s", err, p.said.String(), p.errs.String())
	}
}

// configure asks the server to configure its cluster and returns what reads the answer.
func (p *process) configure(running wire.StripeConfig, licence []byte) (answer func() string) {
	p.t.Helper()
	running.Servers = []wire.ServerConfig{{Name: "box", Host: "box", Port: wire.DefaultPort, GroupPort: wire.DefaultGroupPort}}
	doc, err := json.Marshal(wire.ConfigureRequest{Cluster: wire.Cluster{Name: "MyCluster", Stripes: []wire.StripeConfig{running}}, License: licence})
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	b := resp.AppendArrayHeader(nil, 2)
	b = resp.AppendBulk(resp.AppendBulkString(b, wire.CmdConfigure), doc)
	if _, err := c.Write(b); err != nil {
		p.t.Fatal(err)
	}
	return func() string {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		return string(b[:n])
	}
}

// SIGTERM at any moment of the start and of configure ends the server with exit
// status 0, and what it leaves can be started and configured.
func TestSIGTERMWhileStartingAndConfiguring(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	keys, licence := c.TrustedKeys(), c.License()
	running := wire.StripeConfig{
		OffheapResources: []wire.OffheapResource{{Name: "offheap-1", Size: 512 * mega}, {Name: "offheap-2", Size: 512 * mega}},
		DataDirectories:  []wire.DataDirectory{{Name: "dataroot-1"}, {Name: "dataroot-2"}, {Name: "PLATFORM", Platform: true}},
		FailoverPriority: "availability",
	}
	const rounds = 6
	for round := range rounds {
		root := t.TempDir()
		pause := func() { <-time.After(time.Duration(rand.IntN(20_000)) * time.Microsecond) } // anywhere: no moment may be bad

		starting := launch(t, root, keys)
		starting.until("terracotta-server starts")
		pause()
		starting.terminate()

		configuring := launch(t, root, keys)
		configuring.until("ready for work.")
		answer := configuring.configure(running, licence)
		if round > 0 { // the first one at once
			pause()
		}
		configuring.terminate()
		promised := strings.Contains(answer(), `"configured":true`)

		again := launch(t, root, keys)
		again.until("ready for work.")
		if got := again.configure(running, licence)(); !strings.Contains(got, `"license":"installed"`) && !strings.Contains(got, `"license":"identical"`) {
			t.Errorf("round %d: configure answers %q", round, got)
		} else if promised && !strings.Contains(got, "identical") {
			t.Errorf("round %d: a cluster that was configured is forgotten: %q", round, got)
		}
		again.terminate()

		restarting := launch(t, root, keys)
		restarting.until("terracotta-server starts")
		pause()
		restarting.terminate()
	}
}
