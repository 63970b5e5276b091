package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A bucket's middle is within a thirty-second of every duration in it.
func TestHistogramKeepsDurations(t *testing.T) {
	for range 100_000 {
		d := time.Duration(rand.Int64() >> rand.IntN(63))
		var h histogram
		h.add(d)
		got := h.quantile(0.5)
		if diff := (got - d).Abs(); diff > d/32+1 {
			t.Fatalf("%d comes back as %d", d, got)
		}
	}
}

// What a server says may be read while it runs, and after it has ended.
func TestWhatAServerSaysIsKept(t *testing.T) {
	p, err := start("", nil, "sh", "-c", "echo one; echo two >&2; read end")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); p.log.String() != "one\ntwo\n" && time.Now().Before(deadline); <-time.After(time.Millisecond) {
	}
	if err := p.kill(); err != nil {
		t.Fatal(err)
	}
	if said := p.log.String(); said != "one\ntwo\n" {
		t.Errorf("it said %q", said)
	}
}

func TestQuantilesOfManyDurations(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond} {
		if got := h.quantile(q); (got - want).Abs() > want/16 {
			t.Errorf("quantile %v is %v, not %v", q, got, want)
		}
	}
}

func TestPausesAreReadFromTheTrace(t *testing.T) {
	p := parsePauses("something else\ngc 7 @1.2s 1%: 0.25+2.1+0.75 ms clock, 1 P\ngc 8 @1.3s 1%: 0.5+9+1.5 ms clock, 1 P\n")
	if longest := p.quantile(1); p.count != 2 || longest < 19e5 || longest > 21e5 {
		t.Errorf("got %d pauses, the longest %v", p.count, longest)
	}
}

// Every bench runs, with real servers, and says something about us and the
// peers; the figures of so short a run mean nothing.
func TestEveryBenchRuns(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("TOOLS_REQUIRED") != "" {
			t.Fatal("redis-server is missing")
		}
		t.Skip("redis-server is missing")
	}
	page := filepath.Join(t.TempDir(), "benchmarks.md")
	var out bytes.Buffer
	args := []string{"-rounds", "1", "-length", "10ms", "-sessions", "1000", "-page", page}
	if err := run(context.Background(), args, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| SET | 256 |", "| GET | 1 |", "on disk", "gorilla on Redis", "Redis hashes, listpack", "| empty |", "rueidis v"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page has no %q", want)
		}
	}
}
