package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/terracotta-go/terracotta/internal/testcluster"
)

func TestMain(m *testing.M) {
	testscript.Main(mostlyWait{m}, map[string]func(){"terracotta-server": main, "burn": burn})
}

// mostlyWait runs four parallel tests at a time, however few processors there are.
type mostlyWait struct{ *testing.M }

func (m mostlyWait) Run() int {
	flag.Parse()
	if n := flag.Lookup("test.parallel").Value; n.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = n.Set(strconv.Itoa(max(4, runtime.GOMAXPROCS(0))))
	}
	return m.M.Run()
}

// The scripts run the server as users do:
//
//	healthy             waits until terracotta-server health succeeds
//	say WORDS           sends the words as a line to the server, and prints what it answers
//	get URL             prints status and body of what the URL answers
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each process of a race build ends a second late
			env.Setenv("TC_TSA_PORT", testcluster.FreePort(env.T().(testing.TB)))
			env.Setenv("FREE_PORT", testcluster.FreePort(env.T().(testing.TB)))
			env.Setenv("TC_MANAGEMENT_PORT", "off") // scripts run beside each other
			env.Setenv("TC_DATA_ROOT", filepath.Join(env.WorkDir, "dataroots"))
			env.Setenv("TC_BIND", "127.0.0.1")
			env.Setenv("HOSTNAME", "script")
			trusted := filepath.Join(env.WorkDir, "trusted")
			env.Setenv("TC_TRUSTED_KEYS", trusted)
			return os.Mkdir(trusted, 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"healthy": func(ts *testscript.TestScript, _ bool, _ []string) {
				for deadline := time.Now().Add(time.Minute); ; {
					if ts.Exec("terracotta-server", "health") == nil {
						return
					}
					if time.Now().After(deadline) {
						ts.Fatalf("not healthy within a minute")
					}
				}
			},
			"get": func(ts *testscript.TestScript, _ bool, args []string) {
				resp, err := http.Get(args[0])
				ts.Check(err)
				defer resp.Body.Close()
				fmt.Fprintf(ts.Stdout(), "%d ", resp.StatusCode)
				_, err = io.Copy(ts.Stdout(), resp.Body)
				ts.Check(err)
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

// BenchmarkStartToHealth starts the server as a process until health succeeds,
// the way an image does. The promise is under 300 ms.
func BenchmarkStartToHealth(b *testing.B) {
	dir := b.TempDir()
	binary := filepath.Join(dir, "terracotta-server")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	env := []string{"TC_DATA_ROOT=" + filepath.Join(dir, "data"), "TC_TSA_PORT=" + testcluster.FreePort(b), "TC_BIND=127.0.0.1", "TC_TRUSTED_KEYS=" + dir, "HOSTNAME=bench"}
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
