package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/stripe"
)

func restoreCommand(environ []string, stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE [DIRECTORY]",
		Short: "Make the data root of a server that does not run from a backup",
		Long: `restore verifies a backup of cluster-tool backup and makes the state that a server
starts from: the cluster with its licence, and all sessions of the moment of the
backup. It writes into the stripe folder of this configuration's platform data
directory, or into DIRECTORY, which must be empty: nothing is ever overwritten.

In a cluster of several servers restore one of them and start it; the others start
with empty data directories and join it. A server that still has data of the cluster
from before belongs to another stripe now, and is told so.`,
		Example: `  terracotta-server restore /data/backups/MyCluster-20261121T025500.000Z.tcbackup`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := load(cmd, environ)
			if err != nil {
				return err
			}
			dir := stateFolder(cfg)
			if len(args) == 2 {
				dir = args[1]
			}
			if dir == "" {
				return &failure{exitBadRequest, errors.New("this configuration has no platform data directory to restore into"), "name the directory: terracotta-server restore FILE DIRECTORY"}
			}
			return restore(cfg, args[0], dir, len(args) == 1, stdout)
		},
	}
}

// restore reads the file twice: nothing is made from one that is damaged.
func restore(cfg config.Server, file, dir string, own bool, stdout io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return backupFile(file, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return &failure{exitBadRequest, fmt.Errorf("backup %q is not a regular file", file), "name a file that cluster-tool backup has written"}
	}
	info, err := stripe.VerifyBackup(f)
	if err != nil {
		return &failure{exitBadRequest, fmt.Errorf("backup %q cannot be used: %w", file, err), "name a file that cluster-tool backup has written, or an older one"}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return backupFile(file, err)
	}
	if own {
		if err := makeDirectories(cfg.Stripe.DataDirectories); err != nil {
			return err
		}
	}
	if err := stripe.RestoreBackup(dir, f); err != nil {
		return &failure{exitFailure, err, ""}
	}
	_, err = fmt.Fprintf(stdout, "%s: restored the backup that server %s wrote at %s, up to log entry %d; start the server\n",
		filepath.Clean(dir), info.Server, info.Created.Format(time.RFC3339), info.Index)
	return err
}

func backupFile(file string, err error) error {
	code := exitFailure
	if errors.Is(err, fs.ErrNotExist) {
		code = exitBadRequest
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return &failure{code, fmt.Errorf("backup %q cannot be read: %w", file, err), "name a file that cluster-tool backup has written"}
}
