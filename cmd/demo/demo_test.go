package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/testcluster"
)

var built string // folder of programs, "" = not made

// programs compiles everything once, and makes a key and a licence. The flags are those of
// docker/build, so that Go's cache has one set of packages for both.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "terracotta-demo-")
	if err != nil {
		return "", err
	}
	built = dir
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", dir + string(filepath.Separator), ".",
			"../terracotta-server", "../cluster-tool", "../cart-example", "../license-issuer"},
		{filepath.Join(dir, "license-issuer"), "dev", "--shared=", "--dir", filepath.Join(dir, "dev")},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("%v: %w\n%s", args, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// freePorts returns the environment with ports that nobody has, by variable.
func freePorts(t *testing.T) (env []string, byName map[string]string) {
	byName = map[string]string{}
	for _, p := range ports {
		port := testcluster.FreePort(t)
		byName[p.variable] = port
		env = append(env, p.variable+"="+port)
	}
	return env, byName
}

// up starts demo up and returns it when it is ready; ended tells how it ends.
func up(t *testing.T, bin, data string, env []string) (cmd *exec.Cmd, said *testcluster.Output, ended chan error) {
	t.Helper()
	said = &testcluster.Output{}
	cmd = exec.Command(filepath.Join(bin, "demo"), "up", "--data", data,
		"--license", filepath.Join(bin, "dev", "licenses", "license.xml"), "--trusted-keys", filepath.Join(bin, "dev", "trusted"))
	cmd.Env = append(append(os.Environ(), "JAVA_OPTS=-Dterracotta.websessions.idleTimeout=20m"), env...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	ended = make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	await(t, "ready", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("demo up ended: %v\n%s", err, said)
		default:
		}
		return strings.Contains(said.String(), "\nready:\n")
	})
	return cmd, said, ended
}

func get(t *testing.T, browser *http.Client, address string) string {
	t.Helper()
	response, err := browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v\n%s", address, response.Status, err, text)
	}
	return string(text)
}

// The whole demo on ports of its own: a cart filled at one server is seen at the
// other, Ctrl-C stops in order, and a second run keeps the cart.
func TestUpWithoutDocker(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles all programs")
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	env, port := freePorts(t)
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	for turn := range 2 {
		cmd, said, ended := up(t, bin, data, env)
		if turn == 0 {
			get(t, browser, "http://localhost:"+port["CART1_PORT"]+"/cart/?submit=add&item="+url.QueryEscape("JSP Book"))
		}
		for _, name := range []string{"CART2_PORT", "CART1_PORT"} {
			if page := get(t, browser, "http://localhost:"+port[name]+"/cart/?format=json"); !strings.Contains(page, `"items":["JSP Book"]`) {
				t.Fatalf("turn %d: %s shows %s", turn, name, page)
			}
		}
		interrupt(t, cmd)
		if err := <-ended; err != nil || !strings.Contains(said.String(), "terracotta-server has stopped") {
			t.Errorf("after Ctrl-C: %v", err)
		}
		text := said.String()
		if at := strings.LastIndex(text, "the shop is closed"); at < 0 || strings.Index(text, "terracotta-server stops") < at {
			t.Errorf("the server stopped before the carts:\n%s", text)
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, "\x1b") || strings.Contains(line, "level=") && !regexp.MustCompile(`^[a-z0-9-]+ +\| `).MatchString(line) {
				t.Errorf("not prefixed, or with colours: %q", line)
			}
		}
		if turn == 0 != strings.Contains(text, "License installation successful") {
			t.Errorf("turn %d:\n%s", turn, text)
		}
	}
}

func TestTakenPortsAreNamedBeforeAnythingStarts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	env, _ := freePorts(t)
	data := filepath.Join(t.TempDir(), "data")
	for set, want := range map[string]string{
		"CART2_PORT=" + port: "port " + port + " of cart-2 is taken",
		"CART2_PORT=shop":    `CART2_PORT="shop" is not a port`,
		"CART2_PORT=0":       `CART2_PORT="0" is not a port`,
	} {
		var out, errOut bytes.Buffer
		code := run(context.Background(), []string{"up", "--data", data}, append([]string{set}, env...), &out, &errOut)
		if code != 1 || !strings.Contains(errOut.String(), want) || !strings.Contains(errOut.String(), "Hint: ") || !strings.Contains(errOut.String(), " CART2_PORT=") {
			t.Errorf("%s: %d, %s", set, code, errOut.String())
		}
		if _, err := os.Stat(data); err == nil {
			t.Error("something started")
		}
	}
	var out, errOut bytes.Buffer
	run(context.Background(), []string{"carts"}, env, &out, &errOut)
	if !strings.Contains(errOut.String(), "start it first: bin/start-sample-server.sh") {
		t.Errorf("carts without a server: %s", errOut.String())
	}
}

func TestPortsAreThoseOfTheComposeFile(t *testing.T) {
	text, err := os.ReadFile("../../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		if !strings.Contains(string(text), "127.0.0.1:${"+p.variable+":-"+p.standard+"}:") {
			t.Errorf("compose.yaml has no %s with default %s", p.variable, p.standard)
		}
	}
}

func TestLines(t *testing.T) {
	var b bytes.Buffer
	o := &output{w: &b}
	l := o.lines("cart-1")
	for _, part := range []string{"one\ntw", "o\r\n\n", strings.Repeat("x", maxLine+1), "\nend"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	l.flush()
	const p = "cart-1     | "
	want := p + "one\n" + p + "two\n" + p + "\n" + p + strings.Repeat("x", maxLine) + "\n" + p + "x\n" + p + "end\n"
	if b.String() != want {
		t.Errorf("%q", b.String())
	}
	o.colour = true
	if got := o.lines("cart-1").prefix; !strings.HasPrefix(got, "\x1b[33m") || !strings.HasSuffix(got, "\x1b[0m") {
		t.Errorf("%q", got)
	}
}

func interrupt(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a test can't press Ctrl-C here")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
}
