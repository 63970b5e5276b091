package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/license"
)

func (t *tool) licenseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "license",
		Annotations: map[string]string{forms: "license inspect FILE\nlicense verify FILE"},
		Short:       "Look at a licence file, without any server",
		Example: `  cluster-tool license verify license.xml
  cluster-tool license inspect license.xml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fail(codeBadRequest, "unknown command %q of license", args[0]).hint("there are inspect and verify")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var output string
	add := func(use, short, long, example string, show func(file, output string) error) {
		sub := &cobra.Command{
			Use: use, Short: short, Long: long, Example: example,
			Annotations: map[string]string{forms: "license " + use + " FILE [-o json|tabular]"},
			Args: func(cmd *cobra.Command, args []string) error {
				if len(args) != 1 {
					return fail(codeBadRequest, "%s takes one file, got %d", cmd.CommandPath(), len(args)).
						hint("for example: %s license.xml; - is standard input", cmd.CommandPath())
				}
				return nil
			},
			RunE: func(_ *cobra.Command, args []string) error {
				form, err := outputForm(output)
				if err != nil {
					return err
				}
				return show(args[0], form)
			},
		}
		sub.Flags().StringVarP(&output, "output", "o", "tabular", "`form` of the output: json or tabular")
		cmd.AddCommand(sub)
	}
	add("inspect", "Show what a licence file says, without verifying it",
		"Show what a licence file says. Nothing is verified: anybody can write such a file.\nFILE - is standard input.",
		"  cluster-tool license inspect license.xml\n  curl -s https://server/license.xml | cluster-tool license inspect - -o json", t.inspectLicense)
	add("verify", "Verify a licence file's signature, product and dates",
		`Verify a licence file as configure would, as far as that needs no server: signature,
key, product and version, dates. FILE - is standard input.

The exit status is 0 when the licence may be used and 40 when not, with the reason.
Trusted are the public keys (*.pem) in the directory that the setting trusted-keys
names; docs/settings.md has its spellings.`,
		"  cluster-tool license verify license.xml\n  cluster-tool license verify - < license.xml", t.verifyLicense)
	return cmd
}

func (t *tool) inspectLicense(file, output string) error {
	doc, err := t.readLicense(file)
	if err != nil {
		return err
	}
	l, err := license.Inspect(doc)
	if err != nil {
		return licenseError(file, err)
	}
	fmt.Fprintln(t.stderr, "Note: nothing was verified; cluster-tool license verify does that.")
	return t.showLicense(l, false, output)
}

func (t *tool) verifyLicense(file, output string) error {
	c, err := t.settings()
	if err != nil {
		return err
	}
	doc, err := t.readLicense(file)
	if err != nil {
		return err
	}
	l, err := verifyDocument(file, doc, c.TrustedKeys)
	if err != nil {
		return err
	}
	if err := l.Allow(license.Growth{Version: config.Version}, time.Now()); err != nil {
		return licenseError(file, err)
	}
	return t.showLicense(l, true, output)
}

// readLicense reads a licence file, or standard input for "-".
func (t *tool) readLicense(file string) ([]byte, error) {
	if file == "-" {
		doc, err := readAtMost(t.stdin)
		if err != nil {
			return nil, fail(codeBadRequest, "licence on standard input: %v", err)
		}
		return doc, nil
	}
	return readLicenseFile("licence file", file)
}

var errTooLarge = fmt.Errorf("larger than %d KiB, which no licence is", license.MaxSize>>10)

// readAtMost reads all of r, which may hold license.MaxSize bytes and no more.
func readAtMost(r io.Reader) ([]byte, error) {
	doc, err := io.ReadAll(io.LimitReader(r, license.MaxSize+1))
	if err == nil && len(doc) > license.MaxSize {
		err = errTooLarge
	}
	return doc, err
}

// readLicenseFile reads a regular file of at most license.MaxSize bytes. what names
// it in errors.
func readLicenseFile(what, name string) ([]byte, error) {
	info, err := os.Stat(name) // before opening: opening a pipe would wait
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fail(codeNotFound, "%s %q does not exist", what, name).
			hint("in a container, is its folder mounted? For example: -v \"$PWD/.dev/licenses:/licenses\"")
	case err != nil:
		return nil, fail(codeBadRequest, "%s %q: %v", what, name, causeOf(err))
	case info.IsDir():
		return nil, fail(codeBadRequest, "%s %q is a folder, not a file", what, name).
			hint("when a file that does not exist is mounted into a container, the engine makes a folder of it")
	case !info.Mode().IsRegular():
		return nil, fail(codeBadRequest, "%s %q is not a regular file", what, name).
			hint("- reads a licence from standard input: curl -s URL | cluster-tool ... -l -")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fail(codeBadRequest, "%s %q: %v", what, name, causeOf(err)).
			hint("the tool runs as user %d and must be allowed to read it", os.Getuid())
	}
	defer f.Close()
	doc, err := readAtMost(f)
	if err != nil {
		return nil, fail(codeBadRequest, "%s %q: %v", what, name, causeOf(err))
	}
	return doc, nil
}

// causeOf is the error without the path that the message names already.
func causeOf(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}

// verifyDocument verifies doc with the trusted keys. name says in errors where doc came from.
func verifyDocument(name string, doc []byte, trusted string) (*license.License, error) {
	keys, err := license.ReadKeys(os.DirFS(trusted))
	if err != nil {
		return nil, fail(codeBadRequest, "trusted keys in %q: %v", trusted, err).
			hint("the directory must hold the vendor's public keys as *.pem, readable by user %d", os.Getuid())
	}
	l, err := license.Verify(doc, keys)
	if err != nil {
		return nil, licenseError(name, err)
	}
	return l, nil
}

// licenseError gives a refusal of the licence room its place and code.
func licenseError(name string, err error) error {
	if name == "-" {
		name = "standard input"
	}
	e := fail(codeBadRequest, "licence %s: %v", printable(name), err)
	var le *license.Error
	if errors.As(err, &le) {
		e.Hint = le.Hint
	}
	return e
}

// licenseDocument is a licence as -o json shows it.
type licenseDocument struct {
	Verified     bool            `json:"verified"`
	State        license.State   `json:"state"`
	Expires      string          `json:"expires"`
	Offheap      uint64          `json:"offheap-limit"` // bytes
	SerialNumber string          `json:"serial-number"`
	CustomerID   string          `json:"customer-id"`
	CustomerName string          `json:"customer-name"`
	Contract     string          `json:"contract-details"`
	TypeDetails  string          `json:"license-type-details"`
	ProductCode  string          `json:"product-code"`
	ProductName  string          `json:"product-name"`
	Version      string          `json:"product-version"`
	OS           string          `json:"os"`
	Usage        string          `json:"usage"`
	Renewal      string          `json:"renewal-date"`
	Type         string          `json:"license-type"`
	LicVersion   string          `json:"license-version"`
	Flags        map[string]bool `json:"flags"`
	KeyID        string          `json:"key-id"`
	SHA256       string          `json:"sha256"`
}

func (t *tool) showLicense(l *license.License, verified bool, output string) error {
	d := licenseDocument{
		verified, l.State(time.Now()), l.Expires(), l.OffheapLimit, l.SerialNumber, l.CustomerID, l.CustomerName,
		l.ContractDetails, l.LicenseTypeDetails, l.ProductCode, l.ProductName, l.ProductVersion, l.OS, l.Usage,
		l.Renewal, l.LicenseType, l.LicenseVersion, l.Flags, l.KeyID, l.SHA256,
	}
	if output == "json" {
		return writeJSON(t.stdout, d)
	}
	verdict := "NOT VERIFIED"
	if verified {
		verdict = "verified, signed with key " + d.KeyID
	}
	var flags []string
	for _, name := range license.FlagNames() {
		if l.Flags[name] {
			flags = append(flags, name)
		}
	}
	for _, row := range [][2]string{
		{"Licence", verdict}, {"State", string(d.State)}, {"Expires", d.Expires}, {"Off-heap limit", shortSize(d.Offheap)},
		{"Serial number", d.SerialNumber}, {"Customer", strings.TrimSpace(d.CustomerName + " " + d.CustomerID)},
		{"Contract", d.Contract}, {"Product", d.ProductName + " (" + d.ProductCode + ") " + d.Version},
		{"Usage", d.Usage}, {"Licence type", strings.TrimSpace(d.Type + " " + d.TypeDetails)},
		{"Renewal", d.Renewal}, {"Flags", strings.Join(flags, ", ")}, {"Key", d.KeyID}, {"SHA-256", d.SHA256},
	} {
		if _, err := fmt.Fprintf(t.stdout, "%-15s %s\n", row[0]+":", printable(row[1])); err != nil {
			return err
		}
	}
	return nil
}
