//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/config"
)

// A device as LICENSE_CA was read until the memory was full.
func TestAttackAuthorityIsADevice(t *testing.T) {
	_, err := newFetcher(config.Tool{LicenseURL: "https://127.0.0.1:1/l.xml", LicenseCA: "/dev/zero"}, nil)
	if err == nil || !strings.Contains(err.Error(), "holds no certificate") {
		t.Errorf("%v", err)
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
