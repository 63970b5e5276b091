package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/license"
)

func showCommand(now func() time.Time) *cobra.Command {
	var trusted string
	cmd := &cobra.Command{
		Use:     "show FILE",
		Short:   "Show what a licence says, and verify it with --trusted",
		Example: "  license-issuer show license.xml --trusted ~/keys/trusted",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := readLicense(args[0])
			if err != nil {
				return err
			}
			l, err := license.Inspect(doc)
			if err != nil {
				return err
			}
			print(cmd.OutOrStdout(), l, now())
			if trusted == "" {
				fmt.Fprintln(cmd.OutOrStdout(), "signature:     not verified (--trusted DIR verifies it)")
				return nil
			}
			keys, err := license.ReadKeys(os.DirFS(trusted))
			if err != nil {
				return err
			}
			if _, err := license.Verify(doc, keys); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "signature:     fits")
			return nil
		},
	}
	cmd.Flags().StringVar(&trusted, "trusted", "", "directory of public keys to verify with")
	return cmd
}

// readLicense reads no more of the file than Verify needs to call it too large.
func readLicense(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, license.MaxSize+1))
}

func print(w io.Writer, l *license.License, now time.Time) {
	fmt.Fprintf(w, "serial:        %s\ncustomer:      %s\nproduct:       %s %s\nusage:         %s, %s\noff-heap:      %d GB\nexpires:       %s (%s)\n",
		l.SerialNumber, l.CustomerName, l.ProductCode, l.ProductVersion, l.LicenseType, l.Usage, l.OffheapLimit>>30, l.Expires(), l.State(now))
	for _, name := range license.FlagNames() {
		fmt.Fprintf(w, "%-15s%s\n", name+":", map[bool]string{true: "yes", false: "no"}[l.Flags[name]])
	}
	fmt.Fprintf(w, "key:           %s\nsha256:        %s\n", l.KeyID, l.SHA256)
}
