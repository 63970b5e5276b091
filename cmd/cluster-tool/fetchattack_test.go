//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/terracotta-go/terracotta/config"
)

// A device as LICENSE_CA was read until the memory was full, and a pipe that
// nobody fills waited for ever.
func TestAttackADeviceOrPipeInsteadOfAFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	const at = "https://127.0.0.1:1/l.xml"
	for _, path := range []string{"/dev/zero", pipe} {
		for _, c := range []config.Tool{
			{LicenseURL: at, LicenseCA: path},
			{LicenseURL: at, LicenseClientCert: path, LicenseClientKey: path},
			{LicenseURL: at, LicenseTokenFile: path},
		} {
			_, err := newFetcher(c, nil)
			checkFailure(t, err, codeBadRequest, "is not a regular file")
		}
	}
}

// What a server or a licence says must not steer the terminal, as JSON neither.
func TestAttackEscapesInJSON(t *testing.T) {
	const evil = "a\u009b31m\u202eb\x1b[2J\x7f\U000e0001 \u00e4 <&>"
	var out bytes.Buffer
	if err := writeJSON(&out, map[string]string{"name": evil}); err != nil {
		t.Fatal(err)
	}
	if shown := printableLines(out.String()); shown != out.String() {
		t.Errorf("%q", out.String())
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["name"] != evil {
		t.Errorf("%q came back as %q, %v", evil, back["name"], err)
	}
}
