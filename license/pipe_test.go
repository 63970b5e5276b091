//go:build unix

package license_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/terracotta-go/terracotta/license"
)

// A pipe among the trusted keys kept a server's start waiting for ever.
func TestAttackTrustedKeyIsAPipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "x.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := license.ReadKeys(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("%v", err)
	}
}
