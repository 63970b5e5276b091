package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/license"
)

const (
	privateDir = "private"
	trustedDir = "trusted"
)

type keygenOptions struct{ id, out string }

func keygenCommand() *cobra.Command {
	var o keygenOptions
	cmd := &cobra.Command{
		Use:   "keygen --id ID --out DIR",
		Short: "Make a key pair",
		Long: `Make a key pair: DIR/private/ID.pem (PKCS#8, readable by you alone) and
DIR/trusted/ID.pem. The public one goes where licences are checked; the private
one goes nowhere. Nothing is ever replaced.`,
		Example: "  license-issuer keygen --id acme-2026 --out ~/keys",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			private, public, err := makeKey(o.out, o.id)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "private key: %s (keep it secret, keep a copy)\npublic key:  %s\n", private, public)
			return nil
		},
	}
	cmd.Flags().StringVar(&o.id, "id", "", "key id: 1 to 31 of a-z, 0-9 and hyphen")
	cmd.Flags().StringVar(&o.out, "out", "", "directory for private/ID.pem and trusted/ID.pem")
	required(cmd, "id", "out")
	return cmd
}

func required(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		if err := cmd.MarkFlagRequired(flag); err != nil {
			panic(err) // our own bug: no such flag
		}
	}
}

// makeKey makes a key pair below dir and returns the paths of both halves.
func makeKey(dir, id string) (private, public string, err error) {
	if !license.ValidKeyID(id) {
		return "", "", fmt.Errorf("%q is not a key id: 1 to 31 of a-z, 0-9 and hyphen, as in acme-2026", id)
	}
	private, public = keyPaths(dir, id)
	if _, err := os.Lstat(public); err == nil {
		return "", "", fmt.Errorf("%q exists: choose another id", public)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(filepath.Dir(private), 0o700); err != nil {
		return "", "", err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := writeFile(private, text, 0o600, false); err != nil {
		return "", "", fmt.Errorf("write private key: %w", err)
	}
	return private, public, writePublic(public, key)
}

func keyPaths(dir, id string) (private, public string) {
	return filepath.Join(dir, privateDir, id+".pem"), filepath.Join(dir, trustedDir, id+".pem")
}

func writePublic(path string, key ed25519.PrivateKey) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := writeFile(path, text, 0o644, false); err != nil {
		return fmt.Errorf("write public key: %w", err)
	}
	return nil
}

// readPrivate returns the private key in the file at path and its id, which is
// the file's base name.
func readPrivate(path string) (ed25519.PrivateKey, string, error) {
	id := strings.TrimSuffix(filepath.Base(path), ".pem")
	if !license.ValidKeyID(id) {
		return nil, "", fmt.Errorf("private key %q: the file's name must be its key id and .pem", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("private key: %w", err)
	}
	key, err := parsePrivate(text)
	if err != nil {
		return nil, "", fmt.Errorf("private key %q: %w", path, err)
	}
	return key, id, nil
}

func parsePrivate(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("not a PEM file with a PRIVATE KEY block")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a PKCS#8 key") // the parser's error could quote key material
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("an issuer's key is Ed25519, this is %T", parsed)
	}
	return key, nil
}
