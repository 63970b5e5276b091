//go:build unix

package websessions

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A pipe that nobody fills kept an application's start waiting for ever, and a
// device as the password's file took all memory.
func TestAttackAPipeOrDeviceInsteadOfAFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe.xml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/zero"} {
		if _, err := New(Config{TCConfigURL: path}); err == nil || !strings.Contains(err.Error(), "is not a file") {
			t.Errorf("tcConfigUrl %s: %v", path, err)
		}
		if _, err := passwordFile(path); err == nil || !strings.Contains(err.Error(), "is not a file") {
			t.Errorf("passwordFile %s: %v", path, err)
		}
	}
}

func TestPasswordFiles(t *testing.T) {
	dir := t.TempDir()
	for text, says := range map[string]string{
		"": "holds no password", "\r\n": "holds no password", strings.Repeat("x", 4097): "holds no password", "a\nb": "more than one line", "a\x00b": "more than one line",
		"s3cret": "", "s3cret\n": "", "s3cret\r\n": "",
	} {
		path := filepath.Join(dir, "password")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		secret, err := passwordFile(path)
		switch {
		case says == "" && (err != nil || secret != "s3cret"):
			t.Errorf("%q: %q, %v", text, secret, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "xxx")):
			t.Errorf("%.10q: %v", text, err)
		}
	}
}
