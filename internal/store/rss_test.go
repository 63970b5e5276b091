package store

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// rss returns the resident memory of a process in bytes.
func rss(t testing.TB, pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// TestMemoryBesideRedis measures what docs/decisions/store-memory.md tells: the resident memory of
// sessions of 1 KiB in 8 attributes beside Redis hashes with the same content, and the
// garbage collector's pauses beside an empty store's. It takes minutes and needs redis-server,
// so it runs only where STORE_MEMORY names how many sessions:
//
//	STORE_MEMORY=1000000 go test -run TestMemoryBesideRedis -v ./internal/store
func TestMemoryBesideRedis(t *testing.T) {
	sessions, _ := strconv.Atoi(os.Getenv("STORE_MEMORY"))
	if sessions <= 0 {
		t.Skip("STORE_MEMORY is not set")
	}
	debug.FreeOSMemory()
	before := rss(t, os.Getpid())
	start := time.Now()
	s := filledWith(t, sessions)
	t.Logf("filled in %v", time.Since(start))
	runtime.GC()
	ours := rss(t, os.Getpid()) - before
	for range 3 { // in turn
		one := filledWith(t, 1)
		full, alone := pausesUnderLoad(s), pausesUnderLoad(one)
		t.Logf("GC pauses beside commits: median %v, p99 %v; with one session %v, %v", full[0], full[1], alone[0], alone[1])
		one.Close()
	}
	m := s.Memory()
	o := s.Offheap()[0]
	t.Logf("ours:  %5.0f bytes a session resident; %d in blocks, %d mapped, %d accounted", float64(ours)/float64(sessions),
		m.Used/uint64(sessions), m.Mapped/uint64(sessions), o.Used/uint64(sessions))
	start = time.Now()
	n := s.Snapshot()
	t.Logf("a snapshot is taken in %v", time.Since(start))
	n.Release()
	s.Close()
	debug.FreeOSMemory()
	t.Logf("after Close: %d MiB", (rss(t, os.Getpid())-before)>>20)
	redis := redisRSS(t, sessions)
	t.Logf("redis: %5.0f bytes a session resident", float64(redis)/float64(sessions))
	t.Logf("ratio %.2f (the bar is 1.3)", float64(ours)/float64(redis))
}

func filledWith(t testing.TB, sessions int) *Store {
	s := New()
	fillWith(sessions, func(op []byte) { s.Apply(1, op) })
	return s
}

// pausesUnderLoad returns the median and the 99th percentile of the garbage
// collector's pauses while it runs 250 times beside commits.
func pausesUnderLoad(s *Store) [2]time.Duration {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 250 { // GCStats keeps 256
			runtime.GC()
		}
	}()
	sessions := int(s.Datasets()[0].Sessions)
	c := &wire.Commit{Idle: wire.KeepIdle, Set: attrs("attribute-3", strings.Repeat("y", 128)),
		Write: wire.Write{Dataset: shop, Node: nodeA, Token: wire.Token{Term: 1, Counter: 1}}}
	loads++
	for seq := loads << 40; ; seq++ {
		select {
		case <-done:
			var stats debug.GCStats
			debug.ReadGCStats(&stats)
			pauses := slices.Sorted(slices.Values(stats.Pause[:250]))
			return [2]time.Duration{pauses[125], pauses[247]}
		default:
		}
		c.Key, c.Seq, c.Low, c.Token.Index = benchKey(int(seq)%sessions), seq, seq, s.Index()
		s.Apply(2, AppendCommit(nil, c)) // a new buffer each time, as a server's batches are
	}
}

// loads counts the calls of pausesUnderLoad: the numbers of writes must go up.
var loads uint64

// redisRSS starts a Redis of its own and returns by how much its memory grows.
func redisRSS(t testing.TB, sessions int) int64 {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command(path, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var conn net.Conn
	for deadline := time.Now().Add(time.Minute); ; {
		if conn, err = net.Dial("unix", socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	defer conn.Close()
	in, out := bufio.NewReader(conn), bufio.NewWriterSize(conn, 1<<16)
	before := rss(t, cmd.Process.Pid)
	var command bytes.Buffer
	fmt.Fprintf(&command, "*18\r\n$4\r\nHSET\r\n$26\r\n%s\r\n", "KEY")
	head, tail, _ := strings.Cut(func() string {
		for i := range 8 {
			fmt.Fprintf(&command, "$11\r\nattribute-%d\r\n$128\r\n%s\r\n", i, strings.Repeat("x", 128))
		}
		return command.String()
	}(), "KEY")
	replies := make(chan error, 1)
	go func() {
		for range sessions * 2 {
			if line, err := in.ReadString('\n'); err != nil || line[0] != ':' {
				replies <- fmt.Errorf("redis answers %q: %v", line, err)
				return
			}
		}
		replies <- nil
	}()
	for i := range sessions {
		key := benchKey(i)
		fmt.Fprintf(out, "%s%s%s*3\r\n$6\r\nEXPIRE\r\n$26\r\n%s\r\n$5\r\n86400\r\n", head, key, tail, key)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := <-replies; err != nil {
		t.Fatal(err)
	}
	return rss(t, cmd.Process.Pid) - before
}
