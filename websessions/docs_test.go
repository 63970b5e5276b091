package websessions_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/websessions"
)

const guide = "../docs/websessions.md"

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// snippets returns the Go of the guide: whole programs, what is for readers who
// know another library, by that library, and all the rest, which is one package.
func snippets(t *testing.T) (programs []string, others map[string]string, rest string) {
	t.Helper()
	page, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	others = map[string]string{}
	for _, block := range goBlock.FindAllStringSubmatch(string(page), -1) {
		text := block[1]
		if strings.HasPrefix(text, "package ") {
			programs = append(programs, text)
			continue
		}
		if library, ok := strings.CutPrefix(text, "// With "); ok {
			name, _, _ := strings.Cut(library, ":")
			others[name] += text
			continue
		}
		rest += text
	}
	return programs, others, rest
}

// packages are those that snippets without imports may use.
var packages = map[string]string{
	"context": "context", "cookiejar": "net/http/cookiejar", "errors": "errors", "fmt": "fmt", "http": "net/http",
	"httptest": "net/http/httptest", "slog": "log/slog", "testing": "testing",
	"websessions": "github.com/terracotta-go/terracotta/websessions",
	"scs":         "github.com/alexedwards/scs/v2", "sessions": "github.com/gorilla/sessions",
}

// file makes a file of declarations, with the imports that they need.
func file(code string, without ...string) string {
	var b strings.Builder
	b.WriteString("package guide\n\nimport (\n")
	for name, path := range packages {
		if !slices.Contains(without, name) && regexp.MustCompile(`\b`+name+`\.[A-Z]`).MatchString(code) {
			fmt.Fprintf(&b, "\t%q\n", path)
		}
	}
	return b.String() + ")\n\n" + code
}

// runGo runs the go command on a file, within the module of a folder.
func runGo(t *testing.T, folder, verb, code string) (string, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "guide_test.go")
	if strings.HasPrefix(code, "package main") {
		name = filepath.Join(filepath.Dir(name), "guide.go")
	}
	if err := os.WriteFile(name, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", verb, name)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly") // no network in tests
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestGuideCompilesAndRuns(t *testing.T) {
	t.Parallel()
	programs, others, rest := snippets(t)
	if len(programs) == 0 || len(others) != 2 || !strings.Contains(rest, "func Test") {
		t.Fatalf("%d programs, %d other libraries: has the page changed its form?", len(programs), len(others))
	}
	for _, p := range programs {
		if out, err := runGo(t, ".", "vet", p); err != nil {
			t.Errorf("a program does not compile: %v\n%s\n%s", err, out, p)
		}
	}
	if out, err := runGo(t, ".", "test", file(rest, "scs", "sessions")); err != nil {
		t.Errorf("the snippets: %v\n%s", err, out)
	}
	for library, code := range others {
		out, err := runGo(t, "../bench", "vet", file(code, "websessions"))
		if err != nil && strings.Contains(out, "GOPROXY=off") {
			t.Logf("%s is not on this machine, so its snippet was not compiled", library)
		} else if err != nil {
			t.Errorf("%s: %v\n%s", library, err, out)
		}
	}
}

// Each setting is explained; its row in the table of settings.md is not enough.
func TestGuideExplainsEverySetting(t *testing.T) {
	page, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range websessions.Settings() {
		if name := strings.TrimPrefix(s.Property, websessions.Prefix); !strings.Contains(string(page), "`"+name) {
			t.Errorf("%s does not explain %s", guide, name)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)]*)\)`)

// anchor spells a heading as its link does.
func anchor(heading string) string {
	keep := func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		}
		return -1
	}
	return strings.Map(keep, strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#"))))
}

func TestGuideLinksLeadSomewhere(t *testing.T) {
	page, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	prose := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(string(page), "")
	for _, l := range link.FindAllStringSubmatch(prose, -1) {
		name, fragment, _ := strings.Cut(l[1], "#")
		target := guide
		if name != "" {
			target = filepath.Join(filepath.Dir(guide), name)
		}
		text, err := os.ReadFile(target)
		if err != nil {
			t.Error(err)
			continue
		}
		found := fragment == ""
		for line := range strings.Lines(string(text)) {
			found = found || strings.HasPrefix(line, "#") && anchor(line) == fragment
		}
		if !found {
			t.Errorf("%s: nothing is at %q", guide, l[1])
		}
	}
}
