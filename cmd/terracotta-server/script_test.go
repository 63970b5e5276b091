package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"terracotta-server": main})
}

// The scripts run the server as users do:
//
//	healthy             waits until terracotta-server health succeeds
//	say WORDS           sends the words as a line to the server, and prints what it answers
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each process of a race build ends a second late
			env.Setenv("TC_TSA_PORT", freePort(env.T().(testing.TB)))
			env.Setenv("TC_DATA_ROOT", filepath.Join(env.WorkDir, "dataroots"))
			env.Setenv("TC_BIND", "127.0.0.1")
			env.Setenv("HOSTNAME", "script")
			trusted := filepath.Join(env.WorkDir, "trusted")
			env.Setenv("TC_TRUSTED_KEYS", trusted)
			return os.Mkdir(trusted, 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"healthy": func(ts *testscript.TestScript, _ bool, _ []string) {
				for deadline := time.Now().Add(10 * time.Second); ; {
					if ts.Exec("terracotta-server", "health") == nil {
						return
					}
					if time.Now().After(deadline) {
						ts.Fatalf("not healthy within ten seconds")
					}
				}
			},
			"say": func(ts *testscript.TestScript, _ bool, args []string) {
				c, err := net.Dial("tcp", "127.0.0.1:"+ts.Getenv("TC_TSA_PORT"))
				ts.Check(err)
				defer c.Close()
				_, err = io.WriteString(c, strings.Join(args, " ")+"\r\nQUIT\r\n")
				ts.Check(err)
				_, err = io.Copy(ts.Stdout(), c)
				ts.Check(err)
			},
		},
	})
}

// freePort returns a port that nobody listens on at the moment.
func freePort(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// A data root that the server's user cannot write stops the start with the
// directory, the user and the fix.
func TestUnwritableDataRoot(t *testing.T) {
	dir, err := os.MkdirTemp("", "terracotta-unwritable-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	volume := filepath.Join(dir, "volume")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(volume, 0o555)); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "terracotta-server")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary) // testscript.Main runs the command of this name
	cmd.Dir = dir
	cmd.Env = []string{"TC_DATA_ROOT=" + volume, "TC_TSA_PORT=" + freePort(t), "TC_BIND=127.0.0.1", "TC_TRUSTED_KEYS=" + volume,
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

// BenchmarkStartToHealth starts the server as a process until health succeeds,
// the way an image does. The promise is under 300 ms.
func BenchmarkStartToHealth(b *testing.B) {
	dir := b.TempDir()
	binary := filepath.Join(dir, "terracotta-server")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	env := []string{"TC_DATA_ROOT=" + filepath.Join(dir, "data"), "TC_TSA_PORT=" + freePort(b), "TC_BIND=127.0.0.1", "TC_TRUSTED_KEYS=" + dir, "HOSTNAME=bench"}
	for b.Loop() {
		server := exec.Command(binary)
		server.Env = env
		if err := server.Start(); err != nil {
			b.Fatal(err)
		}
		for {
			health := exec.Command(binary, "health")
			health.Env = env
			if health.Run() == nil {
				break
			}
		}
		b.StopTimer()
		_ = server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
