package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/terracotta-go/terracotta/license"
)

func TestLicenceOrKeysThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "license.xml")
	keys := filepath.Join(dir, "trusted")
	if err := os.Mkdir(keys, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{file: "<hello/>", filepath.Join(keys, "vendor.pem"): "no key"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trusted := []string{"TC_TRUSTED_KEYS=" + keys}
	r := runTool(t, trusted, "license", "verify", file)
	r.want(t, codeBadRequest, "Error (BAD_REQUEST): trusted keys in "+`"`+keys+`": `, "vendor.pem", "Hint: the directory must hold")

	var out, errs bytes.Buffer
	exit := run(t.Context(), []string{"license", "verify", "-"}, trusted, strings.NewReader(strings.Repeat("x", license.MaxSize+1)), &out, &errs)
	ran{exit, out.String(), errs.String()}.want(t, codeBadRequest, "Error (BAD_REQUEST): licence on standard input: larger than 64 KiB")

	errs = bytes.Buffer{}
	exit = run(t.Context(), []string{"license", "inspect", "-"}, nil, iotest.ErrReader(os.ErrPermission), &out, &errs)
	ran{exit, out.String(), errs.String()}.want(t, codeBadRequest, "licence on standard input: permission denied")
}
