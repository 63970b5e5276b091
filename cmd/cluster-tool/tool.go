package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/terracotta-go/terracotta/config"
)

const (
	defaultTimeout = 300_000           // milliseconds, as the original's
	maxTimeout     = 7 * 24 * 3600_000 // milliseconds
)

// tool is what all commands share: the streams and the global options.
type tool struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer

	verbose       bool
	timeoutMillis int64
	securityRoot  string
}

// timeout bounds the waiting of one command.
func (t *tool) timeout() time.Duration { return time.Duration(t.timeoutMillis) * time.Millisecond }

// logger tells what the client does, with -v only: without it the errors say all.
func (t *tool) logger() *slog.Logger {
	if !t.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// settings reads the environment and checks the global options.
func (t *tool) settings() (config.Tool, error) {
	c, err := config.LoadTool(t.environ)
	if err != nil {
		return c, &toolError{Code: codeBadRequest, Message: err.Error(), Cause: err}
	}
	for _, note := range c.Notes {
		fmt.Fprintf(t.stderr, "Note: %s\n", note)
	}
	switch {
	case t.timeoutMillis <= 0 || t.timeoutMillis > maxTimeout:
		return c, fail(codeBadRequest, "timeout %d is not between 1 and %d", t.timeoutMillis, maxTimeout).
			hint("-t takes milliseconds, for example -t 30000 for half a minute")
	case t.securityRoot != "":
		return c, fail(codeNotImplemented, "TLS between the cluster tool and servers is not in this version; -srd %q cannot be honoured", t.securityRoot).
			hint("leave -srd away, and guard the servers with TC_PASSWORD_FILE and a private network")
	}
	return c, nil
}

// gated reads the settings of a command that, in a container, needs the licence
// agreement to be accepted. Without that nothing else is complained of.
func (t *tool) gated() (config.Tool, error) {
	c, err := t.settings()
	if c.InContainer && !c.EULA {
		return c, fail(codeEULA, "to accept the licence agreement, set the environment variable ACCEPT_EULA to exactly Y").
			hint("for example: docker run -e ACCEPT_EULA=Y ...; it stands in the kit's file EULA, in the image at /usr/share/doc/terracotta/EULA")
	}
	if c.InContainer && err == nil {
		fmt.Fprintln(t.stderr, "The licence agreement was accepted (ACCEPT_EULA=Y).")
	}
	return c, err
}

// rootCommand builds the command line: one constructor per command, each in a file of its own.
func (t *tool) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cluster-tool [options] COMMAND [command-options]",
		Short: "Administer a Terracotta cluster",
		Long: "Administer a Terracotta cluster: configure it with a licence, show its status, back it up, stop its servers.\n\n" +
			"Options of the tool stand before the command, options of a command after it.",
		Example: `  cluster-tool configure -n MyCluster -l license.xml -s terracotta
  cluster-tool -t 60000 status -n MyCluster -s terracotta -o json
  cluster-tool COMMAND --help`,
		Version:       config.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		// Options before the command belong to the tool, options after it to the command.
		TraverseChildren:  true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fail(codeBadRequest, "unknown command %q", args[0]).hint("cluster-tool without a command lists them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(help)
	root.SetVersionTemplate(versionLine())
	// Registered by hand, because cobra would take -v for it.
	root.Flags().Bool("version", false, "show the version")
	f := root.Flags()
	f.SortFlags = false
	f.BoolVarP(&t.verbose, "verbose", "v", false, "tell on stderr what is done")
	f.Int64VarP(&t.timeoutMillis, "timeout", "t", defaultTimeout, "longest time to wait, in `MILLISECONDS`")
	f.StringVar(&t.securityRoot, "security-root-directory", "", "`DIR` with the tool's TLS files; -srd DIR is the same (not in this version)")
	root.AddCommand(t.configureCommand(), t.statusCommand(), t.dumpCommand(), t.backupCommand(),
		t.stopCommand(), t.shutdownCommand(), t.promoteCommand(), t.licenseCommand(), versionCommand())
	root.AddCommand(laterCommands()...)
	return root
}

// longSRD spells the original's single-dash long option -srd as pflag knows it.
// Only the words before the command are looked at.
func longSRD(args []string) []string {
	out := append([]string(nil), args...)
	for i := 0; i < len(out); i++ {
		value, isSRD := strings.CutPrefix(out[i], "-srd")
		switch {
		case isSRD && value == "":
			out[i] = "--security-root-directory"
			i++ // its value
		case isSRD && value[0] == '=':
			out[i] = "--security-root-directory" + value
		case out[i] == "-t" || out[i] == "--timeout" || out[i] == "--security-root-directory":
			i++
		case !strings.HasPrefix(out[i], "-"):
			return out
		}
	}
	return out
}

// flagError explains an option that pflag refused.
func flagError(cmd *cobra.Command, err error) error {
	e := fail(codeBadRequest, "%v", err).hint("%s --help shows the options", cmd.CommandPath())
	if !cmd.HasParent() {
		for _, local := range []string{"'n' in", "'s' in", "'l' in", "'o' in", "--name", "--server", "--license", "--output"} {
			if strings.Contains(err.Error(), local) {
				return e.hint("options of a command stand after it: cluster-tool status -n NAME -s HOST")
			}
		}
	} else {
		for _, global := range []string{"'t' in", "'v' in", "-srd", "--timeout", "--verbose", "--security-root-directory"} {
			if strings.Contains(err.Error(), global) {
				return e.hint("options of the tool stand before the command: cluster-tool -t MILLISECONDS %s ...", cmd.Name())
			}
		}
	}
	return e
}

// commandLine gives a fault in the options before the command, which cobra hands
// out as it is, the form of one after it.
func commandLine(root *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var value *pflag.InvalidValueError
	var syntax *pflag.InvalidSyntaxError
	var told *toolError
	if !errors.As(err, &told) && (errors.As(err, &unknown) || errors.As(err, &missing) || errors.As(err, &value) || errors.As(err, &syntax)) {
		return flagError(root, err)
	}
	return err
}

// required refuses an empty option value.
func required(name, value, example string) error {
	if value == "" {
		return fail(codeBadRequest, "option %s is missing", name).hint("for example: %s", example)
	}
	return nil
}

// bounded limits ctx to -t, and tells the two ends of waiting apart: whoever
// interrupted the tool is not told that time ran out.
func (t *tool) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, t.timeout(), errTimeout)
}

var errTimeout = fmt.Errorf("the time of -t is over: %w", context.DeadlineExceeded)
