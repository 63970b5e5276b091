// Command demo runs the shop where there is no Docker: the same server, cluster
// tool and two carts that compose.yaml starts as containers, as plain processes
// of this machine, reachable from this machine only.
//
//	demo up        all of it in the foreground, until Ctrl-C (make up-local)
//	demo server    the server in the background, configured (start-sample-server.sh)
//	demo carts     two carts in the foreground, until Ctrl-C (start-sample.sh)
//	demo stop      stops the server of demo server (stop-sample-server.sh)
//
// It runs the programs that lie beside it (bin/ of a checkout) or in the kit
// around it. up.go tells the story.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second signal ends the process at once: somebody is impatient.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// failure is an error with a hint.
type failure struct {
	err  error
	hint string // what to do
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// run executes one command line and returns its exit status: 0, or 1 for any error.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	root := rootCommand(environ, stdout)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "Error: %v\n", err)
	var f *failure
	if errors.As(err, &f) && f.hint != "" {
		fmt.Fprintf(stderr, "Hint: %s\n", f.hint)
	}
	return 1
}

func rootCommand(environ []string, stdout io.Writer) *cobra.Command {
	d := &demo{environ: environ}
	root := &cobra.Command{
		Use:   "demo",
		Short: "Run the shop without Docker",
		Long: `demo runs the shop as plain processes, reachable from this machine only.

The variables TERRACOTTA_PORT (9410), MANAGEMENT_PORT (9540), CART1_PORT (9081)
and CART2_PORT (9082) choose other ports. All other variables reach the programs:
TC_DURABILITY=every-second demo up.`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			d.out = newOutput(stdout, environ)
			return d.settle()
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&d.data, "data", "", "`DIR` that keeps the sessions (default: data beside the kit's bin)")
	flags.StringVar(&d.license, "license", "", "licence `FILE` (default: license.xml or terracotta-license.key in the kit's root)")
	flags.StringVar(&d.trusted, "trusted-keys", "", "`DIR` of the public keys that licences are verified with (default: the programs')")
	for _, c := range []struct {
		name, about string
		run         func(context.Context) error
	}{
		{"up", "Run server and carts until Ctrl-C", d.up},
		{"server", "Start the server in the background and configure it", d.server},
		{"carts", "Run two carts until Ctrl-C", d.carts},
		{"stop", "Stop the server in the background", d.stop},
	} {
		root.AddCommand(&cobra.Command{Use: c.name, Short: c.about, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) }})
	}
	return root
}
