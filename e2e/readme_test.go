//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// elsewhere are commands of the README that other tests run.
var elsewhere = map[string]string{
	"make up":     "TestMakeUpTwiceAndDown",
	"make test":   "this is part of it",
	"make images": "TestMain runs it",
}

// A newcomer who follows the README from top to bottom gets everywhere. What
// takes a web server of one's own is TestQuickstartVerbatim's, and three servers
// are TestTheREADMEsThreeServers'.
func TestTheREADMEFromTopToBottom(t *testing.T) {
	needImages(t)
	mustBeFree(t, []string{"8080", "8088", "9410"}, []string{"terracotta", "sessions"})
	sweep(t)
	shell := func(line string) string {
		t.Helper()
		out, code := command(t, root, nil, "sh", "-ec", line)
		if code != 0 {
			t.Fatalf("%s\nexit status %d:\n%s", line, code, out)
		}
		return out
	}
	ran := map[string]bool{}
	var last string
	for _, line := range commands(t, "README.md") {
		switch {
		case elsewhere[line] != "" || line == configureCommand || ofThreeServers(line):
			continue
		case line == logsCommand:
			follow(t, line)
		case strings.HasPrefix(line, "docker rm "):
			last = line // kept for the end: the README goes on to use the server
		case strings.HasPrefix(line, "docker run "):
			out := shell(line)
			ran[kindOf(line)] = true
			if strings.Contains(line, " status ") {
				mustContain(t, out, "MyCluster", "ACTIVE")
			}
		default:
			t.Errorf("the README shows a command that no test runs: %q", line)
		}
	}
	for _, kind := range []string{serverImage, toolImage, cartImage} {
		if !ran[kind] {
			t.Errorf("the README runs no %s", kind)
		}
	}
	c := newCustomer(t)
	eventually(t, 2*time.Minute, status("http://127.0.0.1:8080/ready", 200))
	c.add("127.0.0.1:8080", "Concert tickets")
	shell("docker kill terracotta && docker start terracotta")
	c.sees("127.0.0.1:8080", "/cart/", "Concert tickets")

	countVisits(t)

	shell(last)
	if out, _ := docker(t, root, "ps", "-aq", "--filter", "name=^(terracotta|sessions)$"); strings.TrimSpace(out) != "" {
		t.Errorf("%s has left %s", last, out)
	}
}

func kindOf(line string) string {
	for _, image := range allImages {
		if strings.Contains(line, image) {
			return image
		}
	}
	return ""
}

// countVisits runs the README's program against the README's server, and again.
func countVisits(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```go\n(package main\n.*?)\n```").FindSubmatch(text)
	if block == nil {
		t.Fatal("the README shows no program")
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "visits")
	if err := os.WriteFile(source, block[1], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := command(t, root, nil, "go", "build", "-o", program, source); code != 0 {
		t.Fatalf("the README's program does not build:\n%s", out)
	}
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	for visit := 1; visit <= 4; visit += 2 { // the second run goes on counting
		cmd := exec.CommandContext(t.Context(), program)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for n := visit; n < visit+2; n++ {
			want := fmt.Sprintf("visit %d, session ", n)
			eventually(t, 2*time.Minute, func() error {
				resp, err := browser.Get("http://localhost:8088")
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != 200 {
					return fmt.Errorf("status %d: %s", resp.StatusCode, body)
				}
				if !strings.HasPrefix(string(body), want) {
					t.Fatalf("got %q, want %q", body, want)
				}
				return nil
			})
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
