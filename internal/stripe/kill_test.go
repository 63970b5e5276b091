package stripe

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/stripe/raftlog"
)

var killsFlag = flag.Int("kills", 10, "rounds of kill -9 under load")

// The child of TestKillLosesNothingAcknowledged: it writes numbers and prints
// each that was acknowledged, until it is killed. Its log files are small, so
// that kills meet their changes and snapshots too.
func TestMain(m *testing.M) {
	if spec := os.Getenv("STRIPE_TEST_PAIR"); spec != "" {
		pairChild(spec)
	}
	dir := os.Getenv("STRIPE_TEST_CHILD")
	if dir == "" {
		// The tests of several servers mostly wait: more of them fit than there are processors.
		flag.Parse()
		if n := flag.Lookup("test.parallel").Value; n.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
			_ = n.Set(strconv.Itoa(max(8, runtime.GOMAXPROCS(0))))
		}
		os.Exit(m.Run())
	}
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	cfg := Config{Dir: dir, Durability: Durability(os.Getenv("STRIPE_TEST_DURABILITY"))}
	s, err := open(cfg, &ledger{}, parts{files: raftlog.Files{Size: 256 << 10}, trailing: 16})
	if err != nil {
		fail(err)
	}
	if err := s.Form(context.Background()); err != nil {
		fail(err)
	}
	out := make(chan string, 1024)
	for w := range 16 {
		go func() {
			for i := 0; ; i++ {
				op := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if _, err := do(s, op+strings.Repeat(" ", 100*w)); err == nil {
					out <- op
				}
			}
		}()
	}
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			if err := s.snapshot(); err != nil {
				fail(err)
			}
		}
	}()
	for op := range out {
		os.Stdout.WriteString(op + "\n")
	}
}

// killed runs a child and kills it after so many acknowledgements, or after a
// time, and returns what it acknowledged.
func killed(t *testing.T, dir string, d Durability, target int, limit time.Duration) (acknowledged []string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "STRIPE_TEST_CHILD="+dir, "STRIPE_TEST_DURABILITY="+string(d))
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(limit, func() { child.Process.Kill() })
	defer timer.Stop()
	for in := bufio.NewScanner(stdout); in.Scan(); {
		if strings.HasPrefix(in.Text(), "error") {
			t.Error(in.Text())
			continue
		}
		acknowledged = append(acknowledged, in.Text())
		if len(acknowledged) == target {
			child.Process.Kill()
		}
	}
	child.Wait()
	if code := child.ProcessState.ExitCode(); code != -1 {
		t.Fatalf("the child ended by itself with status %d", code)
	}
	return acknowledged
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range *killsFlag {
		durability := EveryWrite
		if round%3 == 1 {
			durability = EverySecond // only a crash of the machine may lose the last second
		}
		target, limit := 1+rand.IntN(400), time.Minute
		if round%4 == 3 {
			limit = time.Duration(rand.IntN(150)) * time.Millisecond // in the start, or before it
		}
		for _, op := range killed(t, dir, durability, target, limit) {
			acknowledged[op] = true
		}
		if round > 0 && round%10 == 0 {
			if c := checked(t, dir); len(c.Faults) > 0 {
				t.Fatalf("round %d: %q", round, c.Faults)
			}
		}
	}
	s, l := start(t, Config{Dir: dir}, parts{})
	form(t, s)
	found := map[string]int{}
	for _, op := range l.list() {
		found[strings.TrimRight(op, " ")]++
	}
	for op := range acknowledged {
		if found[op] != 1 {
			t.Errorf("acknowledged write %s is there %d times", op, found[op])
		}
	}
	t.Logf("%d kills, %d acknowledged writes, %d found", *killsFlag, len(acknowledged), len(found))
}
