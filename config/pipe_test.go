//go:build unix

package config

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A pipe that nobody fills kept the start of every program waiting for ever.
func TestAttackAPipeOrDeviceInsteadOfAFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/zero"} {
		for _, variable := range []string{"TC_PASSWORD_FILE", "TC_CONFIG", "TC_SETTINGS"} {
			if variable == "TC_SETTINGS" && path != pipe {
				continue // its name is refused already
			}
			if _, err := loadServer(t, nil, variable+"="+path); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
				t.Errorf("%s as %s: %v", path, variable, err)
			}
		}
	}
}
