package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
)

func checkCommand(environ []string, stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "check [DIRECTORY]",
		Short: "Verify the data root of a server that does not run",
		Long: `check reads the state that a server has left, verifies identity, snapshots and
log, and goes through all that a start would do, in memory and without changing
anything. It needs as much memory as the server. DIRECTORY is the stripe folder of
a platform data directory, such as a copy; the default is this configuration's.`,
		Example: `  terracotta-server check
  terracotta-server check /mnt/backup/platform/stripe`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := load(cmd, environ)
			if err != nil {
				return err
			}
			dir := stateFolder(cfg)
			if len(args) == 1 {
				dir = args[0]
			}
			if dir == "" {
				return &failure{exitBadRequest, fmt.Errorf("this configuration has no platform data directory"), "name the directory: terracotta-server check DIRECTORY"}
			}
			return check(cmd, cfg, dir, stdout)
		},
	}
}

func check(cmd *cobra.Command, cfg config.Server, dir string, stdout io.Writer) error {
	lazy := stripe.Durability(cfg.Durability) == stripe.EverySecond
	found, err := stripe.Check(cmd.Context(), dir, lazy, store.New())
	if err != nil {
		return &failure{exitFailure, err, ""}
	}
	for _, line := range found.Lines {
		fmt.Fprintln(stdout, line)
	}
	for _, line := range found.Mended {
		fmt.Fprintln(stdout, "the next start mends: "+line)
	}
	for _, line := range found.Faults {
		fmt.Fprintln(stdout, "fault: "+line)
	}
	if n := len(found.Faults); n > 0 {
		return &failure{exitUnhealthy, fmt.Errorf("data root %q has %d faults", dir, n),
			"restore the folder from a backup, or move it away to start empty; keep it until you are sure. If a server starts from it even so, the fault is in what it needs no more: make a backup of that server at once, and restore that"}
	}
	fmt.Fprintf(stdout, "%s: good\n", dir)
	return nil
}

// stateFolder is where the stripe's state lies; "" without a platform data directory.
func stateFolder(cfg config.Server) string {
	if dir, ok := cfg.Platform(); ok {
		return filepath.Join(dir.Path, "stripe")
	}
	return ""
}
