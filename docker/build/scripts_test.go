package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/testcluster"
)

// builtKit makes a kit in a folder of the test's own and returns its root, with
// a development licence where the tutorial puts the licence key. Key and licence
// are the test's own, too: neither this clone's nor its user's are touched.
func builtKit(t *testing.T) string {
	t.Helper()
	switch {
	case runtime.GOOS != "linux":
		t.Skip("a kit's programs are for Linux")
	case testing.Short():
		t.Skip("compiles all programs")
	}
	var out bytes.Buffer
	o := options{version: sourceVersion, dist: t.TempDir(), dev: t.TempDir(), out: &out, errOut: &out}
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	t.Chdir("../..")
	root, err := makeKit(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if list, _ := filepath.Glob(state + "/*/dev/private/dev-*.pem"); len(list) != 1 {
		t.Fatalf("the key of all clones was not made in the test's folder: %q", list)
	}
	document, err := os.ReadFile(o.dev + "/licenses/license.xml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "terracotta-license.key"), document, 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

// awaitPage returns what address answers once it answers 200.
func awaitPage(t *testing.T, browser *http.Client, address string) string {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		response, err := browser.Get(address)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err == nil && response.StatusCode == http.StatusOK {
			return string(text)
		}
	}
	t.Fatalf("%s does not answer within a minute", address)
	return ""
}

// The tutorial's commands, as they stand in it, from an unpacked kit: copy the
// licence, start the sample server, start the sample, and see one cart at both.
func TestTheTutorialFromAKit(t *testing.T) {
	root := builtKit(t)
	cart := filepath.Join(root, "sessions", "code-samples", "cart")
	ports := map[string]string{}
	env := append(os.Environ(), "JAVA_OPTS=")
	for _, name := range []string{"TERRACOTTA_PORT", "MANAGEMENT_PORT", "CART1_PORT", "CART2_PORT"} {
		ports[name] = testcluster.FreePort(t)
		env = append(env, name+"="+ports[name])
	}
	script := func(name string, out io.Writer) *exec.Cmd {
		cmd := exec.Command("bin/" + name)
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = cart, env, out, out
		return cmd
	}
	var said bytes.Buffer
	if err := script("start-sample-server.sh", &said).Run(); err != nil {
		t.Fatalf("start-sample-server.sh: %v\n%s", err, said.String())
	}
	stopped := false
	stop := func() {
		said.Reset()
		if err := script("stop-sample-server.sh", &said).Run(); err != nil && !stopped {
			t.Errorf("stop-sample-server.sh: %v\n%s", err, said.String())
		}
		stopped = true
	}
	t.Cleanup(stop)

	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	sample := script("start-sample.sh", log)
	if err := sample.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sample.Wait() }()
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	awaitPage(t, browser, "http://localhost:"+ports["CART1_PORT"]+"/Cart?submit=add&item=NIN+CD")
	if page := awaitPage(t, browser, "http://localhost:"+ports["CART2_PORT"]+"/Cart?format=json"); !strings.Contains(page, `"items":["NIN CD"]`) {
		t.Errorf("the other server shows %s", page)
	}
	_ = sample.Process.Signal(syscall.SIGINT)
	if err := <-ended; err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Errorf("start-sample.sh: %v\n%s", err, text)
	}
	stop()
	if !strings.Contains(said.String(), "Stop successful") {
		t.Errorf("stop-sample-server.sh said %s", said.String())
	}

	t.Run("a tc-config of 4.x", func(t *testing.T) { guideFromKit(t, root) })

	// Without a licence nothing starts, and the hint says where it belongs.
	if err := os.Remove(filepath.Join(root, "terracotta-license.key")); err != nil {
		t.Fatal(err)
	}
	said.Reset()
	if err := script("start-sample-server.sh", &said).Run(); err == nil || !strings.Contains(said.String(), "as license.xml or terracotta-license.key") {
		t.Errorf("without a licence: %v\n%s", err, said.String())
	}
}

// guideFromKit runs the user guide's command with the file that docs/operations.md
// shows, and configures what runs then.
func guideFromKit(t *testing.T, root string) {
	page, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```xml\n")
	text, _, _ := strings.Cut(rest, "```\n")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tc-config.xml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	port := testcluster.FreePort(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(filepath.Join(root, "server/bin/start-tc-server.sh"), "-f", "tc-config.xml", "-n", "Server1")
	server.Dir, server.Stdout, server.Stderr = dir, log, log
	server.Env = append(os.Environ(), "HOME="+dir, "JAVA_OPTS=", "TC_BIND=127.0.0.1", "TC_TSA_PORT="+port, "TC_MANAGEMENT_PORT=0")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(root, "cluster-tool/bin/cluster-tool.sh"), "-t", "60000",
		"configure", "-n", "MyCluster", "-l", filepath.Join(root, "terracotta-license.key"), "-s", "localhost:"+port).CombinedOutput()
	_ = server.Process.Signal(syscall.SIGTERM)
	if ended := server.Wait(); err != nil || ended != nil || !strings.Contains(string(out), "Command completed successfully.") {
		said, _ := os.ReadFile(log.Name())
		t.Errorf("configure: %v\n%s\nserver: %v\n%s", err, out, ended, said)
	}
	if _, err := os.Stat(filepath.Join(dir, "terracotta/server-data/PLATFORM")); err != nil {
		t.Error(err)
	}
}

func TestScriptsAreTwoLines(t *testing.T) {
	kit := tree{}
	if err := addScripts(kit, options{}); err != nil {
		t.Fatal(err)
	}
	for name, e := range kit {
		lines := strings.SplitAfter(string(e.data), "\n")
		if len(lines) != 3 || lines[0] != "#!/bin/sh\n" || lines[2] != "" || e.mode != 0o755 {
			t.Errorf("%s: %v %q", name, e.mode, e.data)
		}
		if program := strings.Fields(scripts[name])[0]; binaries[program] != filepath.Dir(name) {
			t.Errorf("%s runs %s, which is in %s", name, program, binaries[program])
		}
	}
}
