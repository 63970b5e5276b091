package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/license"
)

// productVersion is the major.minor that licences are issued for by default.
const productVersion = "10.4"

type issueOptions struct {
	terms     license.License
	key, out  string
	gb        uint64
	days      int
	unlimited bool
	flags     []string
	force     bool
}

func issueCommand(now func() time.Time) *cobra.Command {
	var o issueOptions
	cmd := &cobra.Command{
		Use:   "issue --key FILE --customer NAME --gb N (--days N | --unlimited) --out FILE",
		Short: "Issue a licence",
		Example: `  license-issuer issue --key ~/keys/private/acme-2026.pem --customer 'Smith & Sons' \
      --gb 50 --days 365 --flags Websessions,TCStore,Security --out license.xml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := o.issue(now())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "issued %s: serial %s, %s, %d GB, until %s, key %s\n",
				o.out, l.SerialNumber, l.CustomerName, l.OffheapLimit>>30, l.Expires(), l.KeyID)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.key, "key", "", "private key; the file's base name is the key id")
	f.StringVar(&o.out, "out", "", "file to write")
	f.BoolVar(&o.force, "force", false, "replace the file if it exists")
	f.StringVar(&o.terms.CustomerName, "customer", "", "CustomerName")
	f.StringVar(&o.terms.CustomerID, "customer-id", "", "CustomerID")
	f.StringVar(&o.terms.SerialNumber, "serial", "", "SerialNumber (default: made from the date and chance)")
	f.StringVar(&o.terms.ContractDetails, "contract", "", "ContractDetails")
	f.StringVar(&o.terms.LicenseTypeDetails, "type-details", "", "LicenseTypeDetails")
	f.StringVar(&o.terms.LicenseType, "type", "Subscription", "LicenseType")
	f.StringVar(&o.terms.Usage, "usage", "Production", "Usage")
	f.StringVar(&o.terms.OS, "os", "any", "OS")
	f.StringVar(&o.terms.Renewal, "renewal", "", "RenewalDate")
	f.StringVar(&o.terms.ProductVersion, "product-version", productVersion, "ProductVersion, major.minor")
	f.Uint64Var(&o.gb, "gb", 0, "off-heap limit over all stripes in GB")
	f.IntVar(&o.days, "days", 0, "days of validity, today included (UTC)")
	f.BoolVar(&o.unlimited, "unlimited", false, "never expires")
	f.StringSliceVar(&o.flags, "flags", []string{license.FlagCaching, license.FlagTMC, license.FlagTCStore, license.FlagWebsessions},
		"the yes flags of "+strings.Join(license.FlagNames(), ", "))
	required(cmd, "key", "out", "customer", "gb")
	cmd.MarkFlagsMutuallyExclusive("days", "unlimited")
	cmd.MarkFlagsOneRequired("days", "unlimited")
	return cmd
}

func (o issueOptions) issue(now time.Time) (*license.License, error) {
	key, id, err := readPrivate(o.key)
	if err != nil {
		return nil, err
	}
	l := o.terms
	l.ProductCode, l.ProductName = license.Product, "Terracotta Go"
	l.OffheapLimit = o.gb << 30
	if l.OffheapLimit>>30 != o.gb {
		return nil, fmt.Errorf("--gb %d is too large", o.gb)
	}
	if !o.unlimited {
		if o.days < 1 {
			return nil, errors.New("--days must be at least 1")
		}
		l.Expiration = expiration(now, o.days)
	}
	if l.SerialNumber == "" {
		l.SerialNumber = serialNumber(now)
	}
	l.Flags = map[string]bool{}
	for _, name := range o.flags {
		l.Flags[name] = true
	}
	for _, name := range license.FlagNames() {
		if _, wanted := l.Flags[name]; !wanted {
			l.Flags[name] = false
		}
	}
	if len(l.Flags) != len(license.FlagNames()) {
		return nil, fmt.Errorf("--flags %q: the flags are %s", strings.Join(o.flags, ","), strings.Join(license.FlagNames(), ", "))
	}
	doc, err := license.Draft(l, id)
	if err != nil {
		return nil, err
	}
	if doc, err = license.Sign(doc, id, key); err != nil {
		return nil, err
	}
	if err := writeFile(o.out, doc, 0o644, o.force); err != nil { // world-readable: it is no secret, and containers run as another user
		return nil, err
	}
	return license.Inspect(doc)
}

// expiration returns the first moment after days days, of which today is the first.
func expiration(now time.Time, days int) time.Time {
	year, month, day := now.UTC().Date()
	return time.Date(year, month, day+days, 0, 0, 0, 0, time.UTC)
}

func serialNumber(now time.Time) string {
	return now.UTC().Format("20060102-") + rand.Text()[:8]
}
