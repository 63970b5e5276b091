package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/terracotta-go/terracotta/config"
)

// In an image without an operating system the well-known authorities are there
// all the same, also beside LICENSE_CA.
func TestFetchHasRootsWithoutAnOperatingSystem(t *testing.T) {
	if os.Getenv("ROOTS_CHILD") != "" {
		c := config.Tool{LicenseURL: "https://server/license.xml", LicenseCA: os.Getenv("ROOTS_CHILD")}
		f, err := newFetcher(c, nil2)
		if err != nil {
			t.Fatal(err)
		}
		one := x509.NewCertPool()
		pem, err := os.ReadFile(c.LicenseCA)
		if err != nil || !one.AppendCertsFromPEM(pem) || f.roots.Equal(one) {
			t.Fatalf("the fetcher trusts LICENSE_CA alone (%v)", err)
		}
		fmt.Println("roots are there")
		return
	}
	ca := certificateFile(t, certificate(t, farAway(), "ca").Leaf.Raw)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), "ROOTS_CHILD="+ca, "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("roots are there")) {
		t.Errorf("%v\n%s", err, out)
	}
}
