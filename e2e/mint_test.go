//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/license"
)

// mint returns a licence that is signed with this clone's development key.
// change, if any, changes its terms first.
func mint(t *testing.T, change func(*license.License)) []byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, ".dev/private/dev-*.pem"))
	if err != nil || len(names) != 1 {
		t.Fatalf("development keys: %v, %v", names, err)
	}
	text, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s is no PEM file", names[0])
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	l := license.License{
		SerialNumber: "e2e-1", CustomerName: "e2e", ProductCode: license.Product, ProductVersion: "10.4",
		Expiration: time.Now().UTC().AddDate(0, 0, 2).Truncate(24 * time.Hour), OffheapLimit: 50 << 30,
	}
	if change != nil {
		change(&l)
	}
	id := strings.TrimSuffix(filepath.Base(names[0]), ".pem")
	doc, err := license.Draft(l, id)
	if err != nil {
		t.Fatal(err)
	}
	if doc, err = license.Sign(doc, id, key.(ed25519.PrivateKey)); err != nil {
		t.Fatal(err)
	}
	return doc
}

// forge raises the limit of a signed licence.
func forge(t *testing.T, doc []byte) []byte {
	t.Helper()
	forged := bytes.Replace(doc, []byte("<PriceQuantity>50<"), []byte("<PriceQuantity>5000<"), 1)
	if bytes.Equal(forged, doc) {
		t.Fatal("nothing was forged")
	}
	return forged
}
