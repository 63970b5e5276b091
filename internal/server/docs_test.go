package server

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func protocolPage(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// section returns the text under a heading of the page.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, after, found := strings.Cut(protocolPage(t), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/protocol.md has no section %q", heading)
	}
	text, _, _ := strings.Cut(after, "\n## ")
	return text
}

var tableRow = regexp.MustCompile("(?m)^\\| `([A-Z.]+)` \\|((?:\\\\\\||[^|])*)\\| (.*) \\|$")

func TestPageListsEveryErrorWord(t *testing.T) {
	rows := tableRow.FindAllStringSubmatch(section(t, "Errors"), -1)
	if len(rows) != len(wire.Words) {
		t.Errorf("the page has %d words, the code %d", len(rows), len(wire.Words))
	}
	for i, w := range wire.Words[:min(len(rows), len(wire.Words))] {
		again := map[bool]string{true: "yes", false: "no"}[w.Retry]
		if r := rows[i]; r[1] != string(w.Word) || strings.TrimSpace(r[2]) != again || r[3] != w.Means {
			t.Errorf("row %d is %q, the code says %q", i, r[1:], []string{string(w.Word), again, w.Means})
		}
	}
}

func TestPageListsEveryCommand(t *testing.T) {
	text := section(t, "Commands")
	listed := make(map[string]string)
	for _, r := range tableRow.FindAllStringSubmatch(text, -1) {
		listed[r[1]] = strings.ReplaceAll(strings.Trim(r[2], "` "), `\|`, "|")
	}
	for i := range table {
		cmd := &table[i]
		if !strings.HasPrefix(cmd.name, "TC.") {
			if !strings.Contains(text, "`"+cmd.name) {
				t.Errorf("the page does not mention %s", cmd.name)
			}
			continue
		}
		if got, ok := listed[cmd.name]; !ok || strings.ReplaceAll(got, " | ", "|") != strings.ReplaceAll(cmd.args, " | ", "|") {
			t.Errorf("%s: the page says %q, the code %q", cmd.name, got, cmd.args)
		}
		delete(listed, cmd.name)
	}
	for name := range listed {
		t.Errorf("the page lists %s, which does not exist", name)
	}
}
