// Command cart-example is the demo shop of Terracotta Web Sessions: a cart that
// follows its visitor from server to server. It is also the smallest honest user
// of package websessions; read shop.go first.
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

	"github.com/terracotta-go/terracotta/config"
)

// Exit statuses beside 0.
const (
	exitFailure = 2  // anything unexpected
	exitEULA    = 10 // in a container without ACCEPT_EULA=Y
	exitConfig  = 40 // bad flags or settings
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// failure is an error that knows its exit status.
type failure struct {
	status int
	code   string // as the cluster tool's codes
	err    error
	hint   string // what to do, or ""
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// run executes one command line and returns its exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	root := rootCommand(environ)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	f := &failure{status: exitConfig, code: "BAD_REQUEST", err: err, hint: "cart-example --help"}
	errors.As(err, &f)
	fmt.Fprintf(stderr, "Error (%s): %v\n", f.code, f.err)
	if f.hint != "" {
		fmt.Fprintf(stderr, "Hint: %s\n", f.hint)
	}
	return f.status
}

func rootCommand(environ []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "cart-example",
		Short: "A shop whose carts live in a Terracotta cluster",
		Example: `  cart-example -D terracotta.websessions.store.tcstore.uri=terracotta://localhost:9410/sessions-example
  JAVA_OPTS="-Dterracotta.websessions.store.tcstore.uri=terracotta://terracotta:9410/sessions-example" cart-example`,
		Long: `cart-example serves a shop whose carts live in a Terracotta cluster.

Exit status: 0 after an orderly stop; 2 when it could not serve; 10 in a
container without ACCEPT_EULA=Y; 40 for bad flags or settings.`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadCart(cmd.Flags(), environ)
			if err := accepted(cfg.Common, cmd.OutOrStdout()); err != nil {
				return err
			}
			if err != nil {
				return &failure{exitConfig, "BAD_REQUEST", err, ""}
			}
			return serve(cmd.Context(), cfg, cfg.Logger(cmd.OutOrStdout()))
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	config.CartFlags(root.PersistentFlags())
	root.AddCommand(healthCommand(environ), versionCommand())
	return root
}

// accepted is the gate of the images: nothing is served before the licence
// agreement is accepted.
func accepted(c config.Common, stdout io.Writer) error {
	switch {
	case !c.InContainer:
	case !c.EULA:
		return &failure{exitEULA, "EULA_NOT_ACCEPTED", errors.New("the licence agreement is not accepted"),
			"to accept it: docker run -e ACCEPT_EULA=Y ...; it stands in the kit's file EULA, in the image at /usr/share/doc/terracotta/EULA"}
	default:
		fmt.Fprintln(stdout, "The licence agreement was accepted (ACCEPT_EULA=Y).")
	}
	return nil
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			line := "cart-example " + config.Version
			if config.Commit != "" {
				line += " (" + config.Commit + ")"
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
			return err
		},
	}
}
