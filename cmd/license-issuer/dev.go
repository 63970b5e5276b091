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

	// Alone in its folder, which is mounted into the cluster tool's container.
	licenseDir = "licenses"
)

func devCommand(now func() time.Time) *cobra.Command {
	var dir, shared string
	cmd := &cobra.Command{
		Use:   "dev --dir DIR",
		Short: "Make sure that this clone has a development key and a trial licence",
		Long: `Make, where they are missing, DIR/private/dev-XXXXXXXX.pem, DIR/trusted/dev-XXXXXXXX.pem
and DIR/licenses/license.xml (90 days, 50 GB). What is there is kept; only a
licence in its last 30 days is issued anew, with the same key.

Key and licence are the same in all clones of this user: they are made in the
folder --shared and copied from there.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("shared") {
				shared = sharedDir()
			}
			return ensureDev(cmd.OutOrStdout(), dir, shared, now())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".dev", "directory of this clone")
	cmd.Flags().StringVar(&shared, "shared", "", "directory for all clones of this user, empty = none "+
		"(default: terracotta-go/dev in $XDG_STATE_HOME or where this system keeps such things)")
	return cmd
}

// ensureDev makes what is missing in dir and says in a line each what it did.
// Without a shared folder dir has a key of its own.
func ensureDev(out io.Writer, dir, shared string, now time.Time) error {
	if err := moveLicense(out, dir); err != nil {
		return err
	}
	if shared != "" {
		switch err := ensureShared(out, shared, dir, now); {
		case err == nil:
			return copyShared(out, shared, dir, now)
		case !errors.Is(err, errNoShared):
			return err
		default:
			fmt.Fprintf(out, "this clone has a key of its own: %v\n", err)
		}
	}
	id, err := ensureKey(out, dir)
	if err != nil {
		return err
	}
	return ensureTrial(out, dir, id, now, func(deed string) error { return issueTrial(out, dir, id, now, deed) })
}

// moveLicense moves the licence from where former versions laid it: beside the
// private key, and so into every container that the folder was mounted into.
func moveLicense(out io.Writer, dir string) error {
	former, path := filepath.Join(dir, "license.xml"), licensePath(dir)
	for _, name := range []string{former, path} {
		if info, err := os.Lstat(name); err != nil || !info.IsDir() {
			continue
		}
		// An engine makes a folder of a file that is to be mounted and isn't there.
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("a folder is where the licence should be: %w", err)
		}
		fmt.Fprintf(out, "removed %s, an empty folder in the licence's place\n", name)
	}
	if _, err := os.Lstat(former); err != nil {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		fmt.Fprintf(out, "left %s alone: the licence is %s now\n", former, path)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Rename(former, path); err != nil {
		return err
	}
	fmt.Fprintf(out, "moved %s to %s\n", former, path)
	return nil
}

func licensePath(dir string) string { return filepath.Join(dir, licenseDir, "license.xml") }

// ensureKey returns the id of the development key below dir, made if there is none.
func ensureKey(out io.Writer, dir string) (string, error) {
	id, err := devKeyID(dir)
	if err != nil {
		return "", err
	}
	if id != "" {
		return id, repairPublic(out, dir, id)
	}
	id = devPrefix + strings.ToLower(rand.Text()[:8])
	if _, _, err := makeKey(dir, id); err != nil {
		return "", err
	}
	fmt.Fprintf(out, "made development key %s in %s\n", id, dir)
	return id, nil
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

// ensureTrial keeps the licence below dir while it is valid and signed with
// key id, and leaves one of a stranger alone; else it calls renew, with the
// word for what that does.
func ensureTrial(out io.Writer, dir, id string, now time.Time, renew func(deed string) error) error {
	path := licensePath(dir)
	doc, err := readLicense(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return renew("issued")
	case err != nil:
		return err
	}
	keys, err := license.ReadKeys(os.DirFS(filepath.Join(dir, trustedDir)))
	if err != nil {
		return err
	}
	l, err := license.Verify(doc, keys)
	if err != nil {
		fmt.Fprintf(out, "left %s alone, it is not one of the development key: %v (remove it to have a new one)\n", path, err)
		return nil
	}
	if l.KeyID == id && l.State(now) == license.Valid && l.ProductVersion == productVersion {
		fmt.Fprintf(out, "kept %s: valid until %s\n", path, l.Expires())
		return nil
	}
	return renew("renewed")
}

func issueTrial(out io.Writer, dir, id string, now time.Time, deed string) error {
	private, _ := keyPaths(dir, id)
	path := licensePath(dir)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
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
