//go:build unix

package history

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// processes are two or three real servers, each a process: they can be killed and paused as
// only a process can.
type processes struct {
	t       *testing.T
	binary  string
	trusted string
	config  string
	dir     string
	addrs   []string
	environ []string    // of the servers, beside what all tests set
	running []*exec.Cmd // nil where killed
	out     []*testcluster.Output
}

// build makes the server's program, once for all tests.
var build = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(programs, "terracotta-server")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, "../../cmd/terracotta-server")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as docker/build: Go's cache has the packages
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return binary, nil
})

var programs string // folder for build

func TestMain(m *testing.M) {
	flag.Parse()
	if n := flag.Lookup("test.parallel").Value; n.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = n.Set(strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))) // the tests mostly wait
	}
	var err error
	if programs, err = os.MkdirTemp("", "terracotta-history-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(programs)
	os.Exit(code)
}

// startProcesses starts a triple of processes, with fast timers unless environ says otherwise.
func startProcesses(t *testing.T, environ ...string) *processes {
	return startProcessesOf(t, 3, "consistency", environ...)
}

func startProcessesOf(t *testing.T, count int, priority string, environ ...string) *processes {
	t.Helper()
	issuer := testcluster.Start(t, testcluster.Unconfigured(), testcluster.Logger(quiet)) // for its key and licence
	p := &processes{t: t, trusted: issuer.TrustedKeys(), dir: t.TempDir(), environ: environ}
	var err error
	if p.binary, err = build(); err != nil {
		t.Fatal(err)
	}
	var servers strings.Builder
	for i := range count {
		port, group := testcluster.FreePort(t), testcluster.FreePort(t)
		p.addrs = append(p.addrs, net.JoinHostPort("127.0.0.1", port))
		fmt.Fprintf(&servers, `<server host="127.0.0.1" name="tc%d"><tsa-port>%s</tsa-port><tsa-group-port>%s</tsa-group-port></server>`+"\n", i+1, port, group)
	}
	p.config = filepath.Join(p.dir, "tc-config.xml")
	doc := `<tc-config xmlns="http://www.terracotta.org/config"
  xmlns:ohr="http://www.terracotta.org/config/offheap-resource" xmlns:data="http://www.terracottatech.com/config/data-roots">
<plugins>
<config><ohr:offheap-resources><ohr:resource name="offheap-1" unit="MB">64</ohr:resource></ohr:offheap-resources></config>
<config><data:data-directories><data:directory name="PLATFORM" use-for-platform="true">%(test.data)</data:directory></data:data-directories></config>
</plugins>
<servers>
` + servers.String() + `</servers>
<failover-priority><` + priority + `/></failover-priority>
</tc-config>
`
	if err := os.WriteFile(p.config, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	p.running, p.out = make([]*exec.Cmd, count), make([]*testcluster.Output, count)
	t.Cleanup(func() {
		for i := range p.running {
			p.kill(i)
			if t.Failed() {
				t.Logf("tc%d said:\n%s", i+1, p.out[i])
			}
		}
	})
	for i := range p.running {
		p.out[i] = &testcluster.Output{}
		p.start(i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.New(client.Options{Hosts: p.addrs[:1], Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err == nil {
		_, err = c.Configure(ctx, &wire.ConfigureRequest{
			Cluster: wire.Cluster{Name: "Histories", Stripes: []wire.StripeConfig{status.Running}}, License: issuer.License(),
		})
	}
	if err != nil {
		t.Fatalf("configure: %v", err)
	}
	p.awaitInService()
	return p
}

func (p *processes) start(i int) {
	p.t.Helper()
	data := filepath.Join(p.dir, fmt.Sprintf("tc%d", i+1))
	if err := os.MkdirAll(data, 0o755); err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(p.binary)
	cmd.Env = append(os.Environ(), "TC_CONFIG="+p.config, fmt.Sprintf("TC_SELF_NAME=tc%d", i+1), "JAVA_OPTS=-Dtest.data="+data, "TC_BIND=127.0.0.1",
		"TC_MANAGEMENT_PORT=off", "TC_MEMORY_CHECK=warn", "TC_TRUSTED_KEYS="+p.trusted, "TC_FAILOVER_TIMERS=fast")
	cmd.Env = append(cmd.Env, p.environ...)
	cmd.Stdout, cmd.Stderr = p.out[i], p.out[i]
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.running[i] = cmd
}

// kill is kill -9; it awaits the end.
func (p *processes) kill(i int) {
	if p.running[i] != nil {
		_ = p.running[i].Process.Kill()
		_ = p.running[i].Wait() // its error says that it was killed
		p.running[i] = nil
	}
}

// pause is SIGSTOP. It returns when the process stands still: until then it may answer.
func (p *processes) pause(i int) {
	p.t.Helper()
	process := p.running[i].Process
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(process.Pid, &status, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || !status.Stopped() {
			p.t.Fatalf("tc%d does not stop: %v, %v", i+1, status, err)
		}
		return
	}
}

func (p *processes) wake(i int) {
	p.t.Helper()
	if err := p.running[i].Process.Signal(syscall.SIGCONT); err != nil {
		p.t.Fatal(err)
	}
}

// harm kills or pauses server i, by chance, for a time.
func (p *processes) harm(h *History, rnd *rand.Rand, i int, who string, long time.Duration) {
	p.t.Helper()
	if rnd.IntN(2) == 0 {
		h.Note("%s, tc%d, is killed for %v", who, i+1, long)
		p.kill(i)
		rest(long)
		p.start(i)
	} else {
		h.Note("%s, tc%d, is paused for %v", who, i+1, long)
		p.pause(i)
		rest(long)
		p.wake(i)
	}
	h.Note("tc%d is there again", i+1)
}

// state asks a server what it is, "" where it does not answer in time.
func (p *processes) state(i int) string { return p.status(i).State }

func (p *processes) status(i int) wire.Status {
	c, err := client.New(client.Options{Hosts: p.addrs[i : i+1], Logger: quiet})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := c.Status(ctx)
	if err != nil {
		return wire.Status{}
	}
	return s
}

// active returns which server says that it is active, or one by chance.
func (p *processes) active(rnd *rand.Rand) int {
	for i := range p.running {
		if p.state(i) == wire.StateActive {
			return i
		}
	}
	return rnd.IntN(len(p.running))
}

// awaitInService waits until one server is active and the others are its passives.
func (p *processes) awaitInService() {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		states := make(map[string]int)
		for i := range p.running {
			states[p.state(i)]++
		}
		if states[wire.StateActive] == 1 && states[wire.StatePassive] == len(p.running)-1 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not all servers are in service: %v", states)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Three processes that are killed by kill -9 and paused by SIGSTOP: nothing
// acknowledged is lost, and an active server that wakes serves nothing old. Of the
// nodes two know one server only: they keep asking it, paused or not.
func TestProcessesUnderFaults(t *testing.T) {
	t.Parallel() // they mostly wait
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := startProcesses(t)
		n := testcluster.NewNetwork(t)
		h := New()
		list := nodes(t, n, 3, p.addrs...)
		list = append(list, nodes(t, n, 1, p.addrs[0])...)
		list = append(list, nodes(t, n, 1, p.addrs[1])...)
		rnd := rand.New(rand.NewPCG(seed, 1))
		underLoad(t, h, Load{Seed: seed, Nodes: list, Pace: 3 * time.Millisecond}, func() {
			rest(time.Duration(rnd.IntN(500)) * time.Millisecond)
			i, who := p.active(rnd), "the active"
			if rnd.IntN(4) == 0 {
				i, who = rnd.IntN(3), "a server"
			}
			p.harm(h, rnd, i, who, time.Duration(50+rnd.IntN(1200))*time.Millisecond)
		}, p.awaitInService)
	})
}
