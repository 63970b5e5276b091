package license_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/license"
)

const manual = "../docs/license.md"

func block(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatalf("no %s block in %s", language, manual)
	}
	return string(found[1])
}

func TestTheManualsExampleIsALicence(t *testing.T) {
	example := []byte(block(t, "xml"))
	if _, err := license.Inspect(example); err != nil {
		t.Fatal(err)
	}
	doc, err := license.Sign(example, "acme-2026", testKey(0))
	if err != nil {
		t.Fatal(err)
	}
	keys := trust(t, map[string]string{"acme-2026.pem": string(publicPEM(t, testKey(0).Public()))})
	if _, err := license.Verify(doc, keys); err != nil {
		t.Fatal(err)
	}
}

func TestOpenSSLVerifiesByTheManualsThreeLines(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("TOOLS_REQUIRED") == "1" {
			t.Fatal("TOOLS_REQUIRED=1, but openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	if version, _ := exec.Command(openssl, "version").Output(); !strings.HasPrefix(string(version), "OpenSSL 3") && os.Getenv("TOOLS_REQUIRED") != "1" {
		t.Skipf("the recipe needs OpenSSL 3, this is %s", version)
	}
	recipe := strings.TrimSpace(block(t, "sh"))
	if lines := strings.Count(recipe, "\n") + 1; lines != 3 {
		t.Errorf("the recipe has %d lines", lines)
	}
	verify := func(doc []byte) (string, error) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"license.xml": doc, "KEY.pem": publicPEM(t, testKey(0).Public())} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", "-ec", recipe)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	doc := signed(t, terms())
	if out, err := verify(doc); err != nil {
		t.Fatalf("openssl refuses our signature: %v\n%s", err, out)
	}
	forged := strings.Replace(string(doc), ">50<", ">51<", 1)
	if out, err := verify([]byte(forged)); err == nil {
		t.Fatalf("openssl accepts a forged licence:\n%s", out)
	}
}
