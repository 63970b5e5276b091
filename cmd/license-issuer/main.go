// Command license-issuer is the vendor's side of licences: it makes keys,
// issues licences and shows them. It is in no image and in no kit.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/license"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, time.Now)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit status: 0, or 1 for any
// error. now is the clock.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, now func() time.Time) int {
	root := &cobra.Command{
		Use:   "license-issuer",
		Short: "Make keys and issue licences (the vendor's side)",
		Long: `license-issuer makes keys and issues licences. docs/license.md describes the
document, the signature and who trusts whom. Private keys never belong into the
repository, a build context or an image.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.AddCommand(keygenCommand(), issueCommand(now), showCommand(now), devCommand(now))
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "Error: %v\n", err)
	if refusal, ok := errors.AsType[*license.Error](err); ok && refusal.Hint != "" {
		fmt.Fprintf(stderr, "Hint: %s\n", refusal.Hint)
	}
	return 1
}
