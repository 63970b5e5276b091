package stripe

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The child of TestKillLosesNothingAcknowledged: it writes numbers and prints
// each that was acknowledged, until it is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv("STRIPE_TEST_CHILD")
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := open(Config{Dir: dir, Durability: Durability(os.Getenv("STRIPE_TEST_DURABILITY"))}, &ledger{}, parts{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	if err := s.Form(context.Background()); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	out := make(chan string, 1024)
	for w := range 16 {
		go func() {
			for i := 0; ; i++ {
				op := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if _, err := do(s, op+strings.Repeat(" ", 1000*w)); err == nil {
					out <- op
				}
			}
		}()
	}
	for op := range out {
		os.Stdout.WriteString(op + "\n")
	}
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		child := exec.Command(os.Args[0])
		durability := EveryWrite
		if round == 1 {
			durability = EverySecond // only a crash of the machine may lose the last second
		}
		child.Env = append(os.Environ(), "STRIPE_TEST_CHILD="+dir, "STRIPE_TEST_DURABILITY="+string(durability))
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines, target := 0, 300+200*round
		in := bufio.NewScanner(stdout)
		for in.Scan() {
			if strings.HasPrefix(in.Text(), "error") {
				t.Error(in.Text())
			}
			acknowledged[in.Text()] = true
			if lines++; lines == target {
				child.Process.Kill()
			}
		}
		child.Wait()
		if lines < target {
			t.Fatalf("the child ended after %d lines", lines)
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
	t.Logf("%d kills, %d acknowledged writes, %d found", rounds, len(acknowledged), len(found))
}
