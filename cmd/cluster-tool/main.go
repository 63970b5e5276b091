// Command cluster-tool administers a cluster: it configures it with a licence,
// shows its status and stops its servers.
//
// It keeps the original's habits, because scripts live by them: global options
// stand before the command, results go to stdout, everything else to stderr as
// "Error (CODE_NAME): message", and the exit status is a row of one table
// (exit.go). docs/cluster-tool.md has the commands, the table and the rules of
// LICENSE_URL.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(mainStatus()) }

// mainStatus is main with its exit status returned, which the script tests call.
func mainStatus() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
}

// run executes one command line and returns its exit status.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	t := &tool{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	root := t.rootCommand()
	root.SetArgs(longSRD(args))
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, commandLine(root, root.ExecuteContext(ctx)))
}
