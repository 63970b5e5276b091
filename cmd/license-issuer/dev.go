package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/license"
)

const (
	trialDays = 90
	trialGB   = 50
	devPrefix = "dev-"
)

func devCommand(now func() time.Time) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "dev --dir DIR",
		Short: "Make sure that this clone has a development key and a trial licence",
		Long: `Make, where they are missing, DIR/private/dev-XXXXXXXX.pem, DIR/trusted/dev-XXXXXXXX.pem
and DIR/license.xml (90 days, 50 GB). What is there is kept; only a licence in
its last 30 days is issued anew, with the same key.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ensureDev(cmd.OutOrStdout(), dir, now())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".dev", "directory")
	return cmd
}

// ensureDev makes what is missing in dir and says in a line each what it did.
func ensureDev(out io.Writer, dir string, now time.Time) error {
	id, err := devKeyID(dir)
	if err != nil {
		return err
	}
	if id == "" {
		id = devPrefix + strings.ToLower(rand.Text()[:8])
		if _, _, err := makeKey(dir, id); err != nil {
			return err
		}
		fmt.Fprintf(out, "made development key %s in %s\n", id, dir)
	} else if err := repairPublic(out, dir, id); err != nil {
		return err
	}
	return ensureTrial(out, dir, id, now)
}

// devKeyID returns the id of the one development key below dir, "" if there is none.
func devKeyID(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, privateDir, devPrefix+"*.pem"))
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", nil
	case len(names) > 1:
		return "", fmt.Errorf("several development keys: %s: keep one", strings.Join(names, ", "))
	}
	return strings.TrimSuffix(filepath.Base(names[0]), ".pem"), nil
}

// repairPublic writes the public half again if it is missing.
func repairPublic(out io.Writer, dir, id string) error {
	private, public := keyPaths(dir, id)
	if _, err := os.Stat(public); err == nil {
		fmt.Fprintf(out, "kept development key %s\n", id)
		return nil
	}
	key, _, err := readPrivate(private)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s again from the private key\n", public)
	return writePublic(public, key)
}

func ensureTrial(out io.Writer, dir, id string, now time.Time) error {
	path := filepath.Join(dir, "license.xml")
	doc, err := readLicense(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return issueTrial(out, dir, id, now, "issued")
	case err != nil:
		return err
	}
	keys, err := license.ReadKeys(os.DirFS(filepath.Join(dir, trustedDir)))
	if err != nil {
		return err
	}
	l, err := license.Verify(doc, keys)
	if err != nil {
		fmt.Fprintf(out, "left %s alone, it is not one of this clone's key: %v (remove it to have a new one)\n", path, err)
		return nil
	}
	if l.State(now) == license.Valid && l.ProductVersion == productVersion {
		fmt.Fprintf(out, "kept %s: valid until %s\n", path, l.Expires())
		return nil
	}
	return issueTrial(out, dir, id, now, "renewed")
}

func issueTrial(out io.Writer, dir, id string, now time.Time, deed string) error {
	private, _ := keyPaths(dir, id)
	path := filepath.Join(dir, "license.xml")
	l, err := issueOptions{
		terms: license.License{
			CustomerName: "Development", LicenseType: "Trial", LicenseTypeDetails: fmt.Sprintf("%d days", trialDays),
			Usage: "Development", OS: "any", ProductVersion: productVersion,
		},
		key: private, out: path, gb: trialGB, days: trialDays, flags: license.FlagNames(), force: true,
	}.issue(now)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s %s: trial, %d GB, valid until %s\n", deed, path, trialGB, l.Expires())
	return nil
}
