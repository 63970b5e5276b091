package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// Of the crowd. Every one but the silent has introduced itself with a command,
// so that no time-out is due during the test.
const (
	crowdDribbles = 3000 // a command, byte by byte
	crowdUnread   = 2500 // ask for much and read nothing
	crowdIdle     = 4000 // after a PING, nothing
	crowdSilent   = 500  // nothing at all: closed as strangers after five seconds
	crowd         = crowdIdle + crowdSilent + crowdDribbles + crowdUnread

	crowdRSS     = 500 << 20              // bytes that the server may have resident, whatever the crowd does
	crowdSlower  = 5                      // times its quiet p99 that a normal client may see
	crowdAtLeast = 100 * time.Millisecond // and this in any case: a busy machine does as much to a quiet server
)

// Ten thousand hostile connections hold up no normal client and fill no memory.
// The turns are quiet, loaded, quiet, loaded; the best loaded one counts,
// against the worst quiet one, and there are more where that is not good enough:
// what else the machine does at the moment is not the server's fault.
func TestACrowdHoldsUpNobody(t *testing.T) {
	enoughFiles(t, crowd+1000)
	s := startProcess(t)
	node := s.node(t)
	s.setLarge(t)
	var quiet, loaded []time.Duration
	var rss uint64
	most := func() time.Duration { return max(crowdSlower*slices.Max(quiet), crowdAtLeast) }
	for turn := 0; turn < 2 || turn < 8 && slices.Min(loaded) > most(); turn++ {
		quiet = append(quiet, s.p99(t, node))
		began := time.Now()
		c := gather(t, s.addr)
		rss = max(rss, s.resident(t))
		// On a machine so busy that gathering takes long, the server's time-outs are due.
		if n := s.connections(t); n < crowd-crowdSilent && time.Since(began) < 20*time.Second {
			t.Errorf("%d hostile connections are open, not %d", n, crowd)
		}
		loaded = append(loaded, s.p99(t, node))
		rss = max(rss, s.resident(t))
		c.leave()
		for deadline := time.Now().Add(time.Minute); s.connections(t) > 10 && time.Now().Before(deadline); {
			<-time.After(10 * time.Millisecond)
		}
		if n := s.connections(t); n > 10 {
			t.Errorf("%d connections are left of a crowd that is gone", n)
		}
	}
	t.Logf("p99 quiet %v, among %d hostile connections %v; at most %d MB resident", quiet, crowd, loaded, rss>>20)
	if slices.Min(loaded) > most() {
		t.Errorf("p99 is %v in a crowd and %v without: above %v", loaded, quiet, most())
	}
	if rss > crowdRSS {
		t.Errorf("%d MB are resident, above %d", rss>>20, crowdRSS>>20)
	}
}

// enoughFiles raises this process's limit of open files, which the server inherits.
func enoughFiles(t *testing.T, n uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur >= n {
		return
	}
	before := l
	l.Cur, l.Max = max(l.Cur, n), max(l.Max, n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		const why = "%d files may be open here, and %d are needed: %v"
		if os.Getenv("TOOLS_REQUIRED") != "" {
			t.Fatalf(why, before.Max, n, err)
		}
		t.Skipf(why, before.Max, n, err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) })
}

// served is a server that runs as it does for users: the binary, in a process of
// its own, built without the race detector, which would be most of its memory.
type served struct {
	cmd     *exec.Cmd
	addr    string
	metrics string // URL
}

func startProcess(t *testing.T) *served {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "terracotta-server")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, ".") // as docker/build: Go's cache has the packages
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	issuer := testcluster.Start(t, testcluster.Unconfigured()) // for its key and its licence
	port, management := testcluster.FreePort(t), testcluster.FreePort(t)
	s := &served{cmd: exec.Command(binary), addr: "127.0.0.1:" + port, metrics: "http://127.0.0.1:" + management + "/metrics"}
	s.cmd.Env = []string{"TC_TSA_PORT=" + port, "TC_MANAGEMENT_PORT=" + management, "TC_BIND=127.0.0.1", "HOSTNAME=127.0.0.1",
		"TC_DATA_ROOT=" + filepath.Join(dir, "data"), "TC_TRUSTED_KEYS=" + issuer.TrustedKeys(), "TC_DURABILITY=memory only",
		"OFFHEAP_RESOURCE1_SIZE=128", "OFFHEAP_RESOURCE2_SIZE=0", fmt.Sprint("TC_MAX_CONNECTIONS=", crowd+100), "HOME=" + dir}
	var log bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &log, &log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.Bytes()[:min(log.Len(), 8<<10)])
		}
	})
	admin := s.client(t, false)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	status, err := admin.Status(ctx)
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	if _, err := admin.Configure(ctx, &wire.ConfigureRequest{
		Cluster: wire.Cluster{Name: "crowd", Stripes: []wire.StripeConfig{status.Running}}, License: issuer.License(),
	}); err != nil {
		t.Fatalf("configure: %v", err)
	}
	return s
}

func (s *served) client(t *testing.T, node bool) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Hosts: []string{s.addr}, Node: node, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var crowdDataset = []byte("carts")

// node is a normal client: an application with one session.
func (s *served) node(t *testing.T) *client.Client {
	t.Helper()
	c := s.client(t, true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Open(ctx, &wire.Open{Dataset: crowdDataset, LockMode: []byte("none")}); err != nil {
		t.Fatalf("open: %v", err)
	}
	if _, err := c.Create(ctx, &wire.Create{Write: wire.Write{Dataset: crowdDataset, Key: []byte("one")}, Idle: time.Hour}); err != nil {
		t.Fatalf("create: %v", err)
	}
	return c
}

// setLarge sets what those ask for that read nothing: 100 KB.
func (s *served) setLarge(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.client(t, false).Do(ctx, false, []byte("SET"), []byte("large"), bytes.Repeat([]byte("x"), 100_000)); err != nil {
		t.Fatal(err)
	}
}

// p99 measures loads of a session, one after the other, for half a second.
func (s *served) p99(t *testing.T, c *client.Client) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var took []time.Duration
	for end := time.Now().Add(500 * time.Millisecond); len(took) < 100 || time.Now().Before(end); {
		began := time.Now()
		if _, err := c.Load(ctx, &wire.Load{Dataset: crowdDataset, Key: []byte("one"), Mode: wire.LoadRead}); err != nil {
			t.Fatalf("load %d: %v", len(took), err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

func (s *served) resident(t *testing.T) uint64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// connections is what the server itself counts.
func (s *served) connections(t *testing.T) int {
	t.Helper()
	answer, err := http.Get(s.metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nterracotta_connections")
	f := strings.Fields(rest)
	if len(f) < 2 {
		t.Fatalf("no connections in the metrics:\n%s", text)
	}
	at := slices.IndexFunc(f, func(w string) bool { _, err := strconv.Atoi(w); return err == nil })
	n, _ := strconv.Atoi(f[at])
	return n
}

// hostile is the crowd.
type hostile struct {
	conns []*net.TCPConn
	stop  context.CancelFunc
	work  sync.WaitGroup
}

// gather lets the crowd come, and returns when everybody is in and at work.
func gather(t *testing.T, addr string) *hostile {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	h := &hostile{conns: make([]*net.TCPConn, crowd), stop: stop}
	t.Cleanup(h.leave)
	errs := make(chan error, 16)
	var come sync.WaitGroup
	for part := range cap(errs) {
		come.Go(func() {
			for i := part; i < crowd; i += cap(errs) {
				var err error
				if h.conns[i], err = arrive(addr, i); err != nil {
					errs <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
			}
		})
	}
	come.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	h.work.Go(func() { h.dribble(ctx) })
	return h
}

// arrive opens connection i and lets it begin what it is there for.
func arrive(addr string, i int) (*net.TCPConn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := nc.(*net.TCPConn)
	_ = c.SetLinger(0) // so many ports must not stay taken for a minute
	_ = c.SetReadBuffer(4 << 10)
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if i >= crowd-crowdSilent { // the last to come, so that they are there for some time
		return c, nil
	}
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return c, err
	}
	if _, err := io.ReadFull(c, make([]byte, len("+PONG\r\n"))); err != nil {
		return c, err
	}
	if i >= crowdDribbles && i < crowdDribbles+crowdUnread {
		// Small questions with large answers, and half of a large question. A tenth
		// asks for more than the system's buffers take, so that the server must wait.
		questions := 1
		if i%10 == 0 {
			questions = 100
		}
		_, err = io.WriteString(c, strings.Repeat("GET large\r\n", questions)+"*2\r\n$4\r\nECHO\r\n$60000\r\n"+strings.Repeat("x", 30_000))
	}
	return c, err
}

// dribble sends from every dribbler a byte in turn, as long as the crowd is there.
func (h *hostile) dribble(ctx context.Context) {
	const command = "*2\r\n$4\r\nECHO\r\n$1000\r\n"
	for i := 0; ; i++ {
		b := []byte{'x'}
		if i < len(command) {
			b[0] = command[i]
		}
		for _, c := range h.conns[:crowdDribbles] {
			if ctx.Err() != nil {
				return
			}
			_, _ = c.Write(b)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// leave may be called twice.
func (h *hostile) leave() {
	h.stop()
	h.work.Wait()
	for _, c := range h.conns {
		if c != nil {
			_ = c.Close()
		}
	}
}
