package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/config"
)

func newRoot(environ []string, stdout io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "terracotta-server",
		Short: "Run a server of a Terracotta cluster",
		Long: `terracotta-server runs one server of a Terracotta cluster.

It is configured by flags, environment, JAVA_OPTS properties or a tc-config.xml,
in this order of precedence. Until cluster-tool configure has formed the cluster
and installed its licence, commands that touch data are answered UNCONFIGURED.`,
		Example: `  terracotta-server                              # one server, built-in configuration
  terracotta-server -f /configs/tc-config.xml -n tc1
  terracotta-server config                       # what would run, and why
  terracotta-server health                       # exit status 0 if it answers
  terracotta-server check                        # is what is on disk good?
  terracotta-server restore FILE                 # a data root from a backup`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, environ)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, stdout)
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	config.ServerFlags(root.PersistentFlags())
	root.SetHelpTemplate(root.HelpTemplate() + "\n" + exitHelp())
	root.AddCommand(configCommand(environ, stdout), healthCommand(environ, stdout), checkCommand(environ, stdout), restoreCommand(environ, stdout), versionCommand(stdout))
	return root
}

// load reads the configuration, and turns what is wrong with it into a failure.
func load(cmd *cobra.Command, environ []string) (config.Server, error) {
	cfg, err := config.LoadServer(cmd.Flags(), environ)
	if err != nil {
		return cfg, &failure{exitBadRequest, err, "terracotta-server --help and docs/settings.md list the settings"}
	}
	return cfg, nil
}

func configCommand(environ []string, stdout io.Writer) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the effective configuration and where each value came from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, environ)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(stdout)
				e.SetIndent("", "  ")
				return e.Encode(cfg.Settings)
			}
			w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SETTING\tVALUE\tFROM")
			for _, s := range cfg.Settings {
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, s.Value, s.Origin)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			for _, n := range cfg.Notes {
				fmt.Fprintln(stdout, "note: "+n)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of a table")
	return cmd
}

func versionCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this build",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			commit := ""
			if config.Commit != "" {
				commit = " (" + config.Commit + ")"
			}
			_, err := fmt.Fprintf(stdout, "terracotta-server %s%s %s %s/%s\n", config.Version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
