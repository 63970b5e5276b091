// Command bench runs this project and its peers in turn on one machine and
// prints ratios. It starts the servers that it needs on ports of the loopback
// and ends them. It is a module of its own, so that the peers stay out of the
// project's dependencies.
//
//	cd bench && go run . -h
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what the single benches need.
type bench struct {
	tc         *terracotta
	report     *report
	rounds     int
	length     time.Duration // of one turn
	sessions   int           // in the memory benches
	failovers  int           // rounds of each kind
	callers    []int         // only these; empty: all
	alone      bool          // without peers
	command    string        // only this one, SET or GET; "": both
	versions   []version     // of our server, in turn
	durability string        // of versions
	temp       string
	dirs       int
}

// dir returns a new folder for a server's data.
func (b *bench) dir(name string) string {
	b.dirs++
	d := filepath.Join(b.temp, fmt.Sprintf("%s-%d", name, b.dirs))
	if err := os.Mkdir(d, 0o755); err != nil {
		panic(err) // a folder of our own, just made
	}
	return d
}

// some returns those of all that -callers allows.
func (b *bench) some(all ...int) (list []int) {
	for _, n := range all {
		if len(b.callers) == 0 || slices.Contains(b.callers, n) {
			list = append(list, n)
		}
	}
	return list
}

func (b *bench) commands() []string {
	if b.command != "" {
		return []string{b.command}
	}
	return []string{"SET", "GET"}
}

// benches in the order of the page. Those on request run where they are named, or with -long.
var benches = []struct {
	name      string
	run       func(context.Context, *bench) error
	onRequest bool
}{
	{"keyvalue", keyValue, false},
	{"disk", onDisk, false},
	{"web", web, false},
	{"memory", memory, false},
	{"pauses", pauses, false},
	{"failover", failOver, true},
	{"replicated", replicated, true},
	{"versions", versions, true},
}

func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	long := flags.Bool("long", false, "more rounds, longer turns, a million sessions")
	only := flags.String("only", "", "comma separated benches; default: all of "+names())
	page := flags.String("page", "", "file to write the page to, such as ../docs/benchmarks.md")
	b := &bench{report: &report{out: stdout}}
	flags.IntVar(&b.rounds, "rounds", 0, "rounds of turns (default 3, long 7)")
	flags.DurationVar(&b.length, "length", 0, "length of a turn (default 500ms, long 2s)")
	flags.IntVar(&b.sessions, "sessions", 0, "sessions in the memory bench (default 100000, long 1000000)")
	flags.IntVar(&b.failovers, "failovers", 20, "rounds of each kind of fail-over")
	flags.StringVar(&b.command, "command", "", "SET or GET only")
	flags.BoolVar(&b.alone, "alone", false, "run ours only, for a profile (keyvalue, disk)")
	profiles := flags.String("profile", "", "directory for CPU profiles of our server and of this process")
	flags.Func("callers", "only with these numbers of callers, comma separated", func(v string) error {
		for _, word := range strings.Split(v, ",") {
			n, err := strconv.Atoi(word)
			if err != nil || n < 1 || n > maxCallers {
				return fmt.Errorf("%q is no number from 1 to %d", word, maxCallers)
			}
			b.callers = append(b.callers, n)
		}
		return nil
	})
	flags.StringVar(&b.durability, "durability", "memory-only", "of the versions")
	flags.Func("version", "NAME=BINARY[,VARIABLE=VALUE...] of a server of ours, may be repeated (versions)", func(v string) error {
		one, err := parseVersion(v)
		b.versions = append(b.versions, one)
		return err
	})
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	b.defaults(*long)
	if _, err := exec.LookPath("redis-server"); err != nil {
		return errors.New("redis-server is missing; on Debian: apt-get install redis-server")
	}
	if b.temp, err = os.MkdirTemp("", "terracotta-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.temp)) }()
	if b.tc, err = newTerracotta(ctx, b.temp, *profiles); err != nil {
		return err
	}
	if *profiles != "" {
		end, err := profileSelf(*profiles)
		if err != nil {
			return err
		}
		defer end()
	}
	for _, one := range benches {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), one.name) || *only == "" && one.onRequest && !*long {
			continue
		}
		if err := one.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	if *page == "" {
		return nil
	}
	return os.WriteFile(*page, b.report.markdown(machine("bench "+strings.Join(args, " "))), 0o644)
}

func (b *bench) defaults(long bool) {
	rounds, length, sessions := 3, 500*time.Millisecond, 100_000
	if long {
		rounds, length, sessions = 7, 2*time.Second, 1_000_000
	}
	if b.rounds <= 0 {
		b.rounds = rounds
	}
	if b.length <= 0 {
		b.length = length
	}
	if b.sessions <= 0 {
		b.sessions = sessions
	}
}

func names() string {
	var list []string
	for _, one := range benches {
		list = append(list, one.name)
	}
	return strings.Join(list, ",")
}

// peers lists the libraries compared with, as they were built in.
func peers() (list []string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, d := range info.Deps {
		switch {
		case strings.Contains(d.Path, "rueidis"), strings.Contains(d.Path, "scs"), strings.Contains(d.Path, "gorilla/sessions"),
			strings.Contains(d.Path, "redistore"), strings.Contains(d.Path, "go-redis"), strings.Contains(d.Path, "redigo"):
			list = append(list, d.Path+" "+d.Version)
		}
	}
	return list
}
