//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/terracotta-go/terracotta/internal/testcluster"
)

// A data root that the server's user cannot write stops the start with the
// directory, the user and the fix.
func TestUnwritableDataRoot(t *testing.T) {
	dir, err := os.MkdirTemp("", "terracotta-unwritable-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	volume := filepath.Join(dir, "volume")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(volume, 0o555), os.Chmod(volume, 0o555)); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "terracotta-server")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(binary, self, 0o755), os.Chmod(binary, 0o755)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	cmd := exec.Command(binary) // testscript.Main runs the command of this name
	cmd.Dir = dir
	cmd.Env = []string{"TC_DATA_ROOT=" + volume, "TC_TSA_PORT=" + testcluster.FreePort(t), "TC_BIND=127.0.0.1", "TC_TRUSTED_KEYS=" + volume,
		"HOSTNAME=test", "GORACE=atexit_sleep_ms=0"}
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != int(exitFailure) {
		t.Errorf("ended with %v", err)
	}
	for _, want := range []string{"Error (FAILURE): ", volume, "cannot be written by user ", "chown -R "} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("no %q in %q", want, stderr.String())
		}
	}
}
