// Command build makes the kit and the images of this distribution, and runs
// the demo of compose.yaml with them:
//
//	go run ./docker/build kit       dist/terracotta-db-VERSION/, static binaries and all
//	go run ./docker/build images    the three images, through the Docker Engine API
//	go run ./docker/build up        images, then compose.yaml, until healthy
//	go run ./docker/build down      removes what up made
//
// It runs in the repository's root. The kit is the images' build context, so
// that what is in an image is exactly what a user finds in the kit.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// sourceVersion is config.Version as the source has it. It stands here once
// more, and a test compares them, so that this command compiles even when the
// rooms that config imports don't.
const sourceVersion = "10.4.0-SNAPSHOT"

const exitInterrupted = 130 // as shells have it for Ctrl-C

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is what every command may need.
type options struct {
	version string
	arch    string // GOARCH of the binaries, "" = the engine's, or this machine's without one
	dist    string // folder of what is made
	dev     string // folder of the clone's development key and licence
	release bool   // refuse development keys
	out     io.Writer
	errOut  io.Writer
}

var commands = []struct {
	name, about string
	run         func(context.Context, options) error
}{
	{"kit", "make dist/terracotta-db-VERSION/", func(ctx context.Context, o options) error {
		_, err := makeKit(ctx, o)
		return err
	}},
	{"images", "build the kit and the three images", makeImages},
	{"up", "build the images, start compose.yaml, wait until healthy", up},
	{"down", "remove containers, volumes and network of up", down},
}

// run executes one command line and returns its exit status: 0, 1 for an
// error, 2 for a wrong command line, exitInterrupted after Ctrl-C.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := options{dist: "dist", dev: devDir, release: os.Getenv("RELEASE") == "1", out: stdout, errOut: stderr}
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.version, "version", sourceVersion, "version of the kit and tag of the images")
	flags.StringVar(&o.arch, "arch", "", "GOARCH of the binaries (default: the Docker engine's)")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: go run ./docker/build [flags] COMMAND")
		for _, c := range commands {
			fmt.Fprintf(stderr, "  %-8s%s\n", c.name, c.about)
		}
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	for _, c := range commands {
		if flags.NArg() != 1 || c.name != flags.Arg(0) {
			continue
		}
		err := c.run(ctx, o)
		if err != nil && ctx.Err() != nil {
			fmt.Fprintf(stderr, "\ninterrupted: make %s goes on from here%s\n", c.name,
				map[bool]string{true: "; make down removes what was started"}[c.name == "up"])
			return exitInterrupted
		}
		if err != nil {
			fmt.Fprintf(stderr, "Error: %v\n", err)
			return 1
		}
		return 0
	}
	flags.Usage()
	return 2
}
