// Command check searches the model of session ownership (make model): the standard
// searches, which must find nothing, then each rule's mutation, which must find what
// the table says. It ends with 1 where one of them does not, and tells the shortest
// way into the fault.
//
//	go run ./internal/ownership/model/check                 everything
//	go run ./internal/ownership/model/check -without drain  what that rule is there for
//	go run ./internal/ownership/model/check -search expiry  standard searches of that name
//	go run ./internal/ownership/model/check -rules          what can be switched off
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/ownership/model"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	without := flags.String("without", "", "only mutations that switch off this `rule`; prints how it breaks")
	search := flags.String("search", "", "only standard searches whose name contains this `text`")
	rules := flags.Bool("rules", false, "list the rules and end")
	memory := flags.Uint64("memory", 4096, "end a search that takes more than so many `MiB`")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *rules {
		for _, r := range model.Rules() {
			fmt.Fprintf(stdout, "%-22s %s\n", r, r.Says())
		}
		return 0
	}
	c := checker{ctx: ctx, stdout: stdout, stderr: stderr, memory: *memory << 20, began: time.Now()}
	fmt.Fprintf(stdout, "%-42s %10s %6s %7s %8s  %s\n", "search", "states", "steps", "time", "memory", "found")
	if *without != "" {
		rule, known := model.RuleNamed(*without)
		if !known {
			fmt.Fprintf(stderr, "Error: no rule is called %q\nHint: -rules lists them\n", *without)
			return 2
		}
		for _, m := range model.Mutations() {
			if slices.Contains(m.Without, rule) {
				c.check(m, true)
			}
		}
		return c.end()
	}
	for _, s := range model.Searches() {
		if strings.Contains(s.Name, *search) {
			c.check(model.Mutation{Search: s}, false)
		}
	}
	if *search == "" {
		for _, m := range model.Mutations() {
			c.check(m, false)
		}
	}
	return c.end()
}

type checker struct {
	ctx            context.Context
	stdout, stderr io.Writer
	memory         uint64
	began          time.Time

	searches, wrong, states int
	worst                   uint64 // memory
}

// check runs one search and prints a line about it, with the way into the fault where
// none was expected or trace asks for it.
func (c *checker) check(want model.Mutation, trace bool) {
	if c.ctx.Err() != nil {
		return
	}
	r := model.Run(c.ctx, want.Search, model.Limits{Memory: c.memory, Progress: func(r model.Result) {
		fmt.Fprintf(c.stderr, "\r%-42s %10d states, %d steps deep, %d MiB ", want.Name, r.States, r.Depth, r.Memory>>20)
	}})
	fmt.Fprint(c.stderr, "\r\x1b[K")
	found := "every promise holds"
	fault := ""
	switch {
	case r.Cut != "":
		fault = "incomplete: " + r.Cut
	case r.Overflow > 0:
		fault = fmt.Sprintf("incomplete: %d states did not fit", r.Overflow)
	case r.Broken != want.Broken:
		fault = fmt.Sprintf("%s is broken, not %s", orNothing(r.Broken), orNothing(want.Broken))
	case r.Broken != "" && r.Depth != want.Steps:
		fault = fmt.Sprintf("%s is broken after %d steps, not %d", r.Broken, r.Depth, want.Steps)
	case r.Broken != "":
		found = string(r.Broken)
	case want.Because != "":
		found += ": " + want.Because
	}
	if fault != "" {
		c.wrong++
		found = "WRONG: " + fault
	}
	c.searches++
	c.states += r.States
	c.worst = max(c.worst, r.Memory)
	fmt.Fprintf(c.stdout, "%-42s %10d %6d %6.1fs %5d MiB  %s\n", want.Name, r.States, r.Depth, r.Time.Seconds(), r.Memory>>20, found)
	if fault != "" || trace {
		fmt.Fprint(c.stdout, r.Trace)
	}
}

func orNothing(p model.Property) string {
	if p == "" {
		return "nothing"
	}
	return string(p)
}

func (c *checker) end() int {
	fmt.Fprintf(c.stdout, "%d searches, %d states, %s, at most %d MiB; %d wrong\n",
		c.searches, c.states, time.Since(c.began).Round(time.Second), c.worst>>20, c.wrong)
	if c.wrong > 0 || c.ctx.Err() != nil || c.searches == 0 {
		return 1
	}
	return 0
}
