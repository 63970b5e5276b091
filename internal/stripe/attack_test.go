//go:build unix

package stripe

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A pipe in the place of the identity kept the start waiting for ever, deaf to
// SIGTERM; a device filled the memory.
func TestAttackIdentityIsNoFile(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"device": func(path string) error { return os.Symlink("/dev/zero", path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"huge":   func(path string) error { return os.WriteFile(path, make([]byte, maxIdentity+1), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, identityFile)
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			root, err := openDataRoot(dir)
			if err == nil {
				root.close()
			}
			if err == nil || !strings.Contains(err.Error(), "backup") {
				t.Errorf("%v", err)
			}
		})
	}
}
