package config

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/websessions"
)

var update = flag.Bool("update", false, "write docs/settings.md anew from the tables of the code")

const settingsPage = "../docs/settings.md"

// docs/settings.md is made from the code, and this test holds that it is fresh.
func TestSettingsPage(t *testing.T) {
	page := makeSettingsPage()
	if *update {
		if err := os.WriteFile(settingsPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(settingsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page {
		t.Error("docs/settings.md differs from the code; write it anew: go test ./config -run TestSettingsPage -update")
	}
}

// What the documents and compose.yaml call a variable is one.
func TestDocumentsNameKnownVariables(t *testing.T) {
	known := map[string]bool{}
	for _, rows := range tables {
		for _, r := range rows {
			known[r.env] = true
		}
	}
	variable := regexp.MustCompile(`\b(?:TC|OFFHEAP|DATA_RESOURCE|LICENSE|CART|LOG)_[A-Z0-9_]+\b`)
	mentioned := 0
	for _, pattern := range []string{"../README.md", "../docs/*.md", "../docker/images/*/README.md", "../docker/images/*/Dockerfile", "../compose.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range variable.FindAllString(string(text), -1) {
				if mentioned++; !known[name] {
					t.Errorf("%s names %s, which no program reads", file, name)
				}
			}
		}
	}
	if mentioned < 50 {
		t.Errorf("only %d variables were found in the documents", mentioned)
	}
}

// Each tc-config.xml that a document shows is one that loads.
func TestDocumentsShowValidTCConfigs(t *testing.T) {
	block := regexp.MustCompile("(?s)```xml\n(.*?)```")
	for _, pattern := range []string{"../README.md", "../docs/*.md", "../docker/images/*/README.md"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range block.FindAllStringSubmatch(string(text), -1) {
				if !strings.Contains(m[1], "tc-config") {
					continue
				}
				if _, err := ParseTCConfig(file, []byte(m[1]), varsOf([]string{"HOME=/home/ann"})); err != nil {
					t.Errorf("%s shows: %v", file, err)
				}
			}
		}
	}
}

func makeSettingsPage() string {
	var b strings.Builder
	b.WriteString(settingsIntro)
	b.WriteString("\n## Server\n\nProgram `terracotta-server`, image `terracotta-server`. `terracotta-server config` prints the effective\n" +
		"configuration and where each value came from.\n\n")
	writeRows(&b, serverRows)
	b.WriteString("\nRows marked ¹ shape the built-in configuration: one server, or with TC_SERVER1 and TC_SERVER2 an active and a\n" +
		"passive, with two off-heap resources, two data directories, the data directory `PLATFORM` for the log and the snapshots,\n" +
		"a reconnect window of 120 s and failover priority availability. `-f FILE -n NAME` replaces all of that by a\n" +
		"tc-config.xml; the rows marked ¹ are then not used, and the start says so.\n")
	b.WriteString("\n## Cluster tool\n\nProgram `cluster-tool`, image `terracotta-cluster-tool`.\n\n")
	writeRows(&b, toolRows)
	b.WriteString("\n## Cart\n\nProgram `cart-example`, image `websessions-cart-example`. Beside these it knows all settings of Web Sessions, next section.\n\n")
	writeRows(&b, cartRows)
	b.WriteString("\n## Web Sessions\n\nFor the cart and for applications of your own (`websessions.ConfigFromEnv`, `websessions.ConfigFromProperties`). As a\n" +
		"flag of the cart: `-D PROPERTY=VALUE`.\n\n| Property | Environment | Default | Example | Meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range websessions.Settings() {
		b.WriteString("| " + strings.Join([]string{code(s.Property), code(s.Env), code(s.Default), code(s.Example), cell(s.Doc)}, " | ") + " |\n")
	}
	b.WriteString(settingsEnd)
	example, err := os.ReadFile("testdata/minimal.xml")
	if err != nil {
		panic(err)
	}
	b.WriteString("\nThe smallest file that works:\n\n```xml\n" + string(example) + "```\n")
	return b.String()
}

func writeRows(b *strings.Builder, rows []row) {
	b.WriteString("| Setting | Environment | Property | Default | Example | Meaning |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		name := code("--" + r.key)
		switch {
		case r.noFlag:
			name = r.key
		case r.short != "":
			name = code("-"+r.short) + " " + name
		}
		if r.builtin {
			name += " ¹"
		}
		b.WriteString("| " + strings.Join([]string{name, code(r.env), code(r.property), code(r.def), code(r.example), cell(r.help)}, " | ") + " |\n")
	}
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

const settingsIntro = `# Settings

<!-- Made from the code: go test ./config -run TestSettingsPage -update -->

Every setting can be given in several ways. The first of these that has it counts:

1. a flag, e.g. ` + "`--bind 127.0.0.1`" + `
2. an environment variable, e.g. ` + "`TC_BIND=127.0.0.1`" + ` (an empty one counts as unset)
3. a property in ` + "`JAVA_OPTS`" + `, e.g. ` + "`-Dterracotta.bind=127.0.0.1`" + `; words are quoted as for a shell, words that are not
   ` + "`-Dname=value`" + ` are ignored with one line in the log
4. a settings file named by ` + "`--settings`" + `, e.g. the line ` + "`bind: 127.0.0.1`" + ` in YAML; at most 64 KiB
5. the tc-config.xml, where it says the same
6. the default

Settings without dashes in the first column have no flag: secrets don't belong into process lists. Names that are not
known are errors, and all faults are told at once. ` + "`ACCEPT_EULA=Y`" + ` (exactly so) accepts the licence agreement in the images.
1 kB is 1024 bytes.
`

const settingsEnd = `
## tc-config.xml

The form of Terracotta 10.x, at most 256 KiB, UTF-8, without DOCTYPE and entities. An example with everything in it is
[single.xml](../config/testdata/single.xml), one with two servers [pair.xml](../config/testdata/pair.xml). Faults are told
with file, line and column.

- Ports: ` + "`tsa-port`" + ` 9410, ` + "`tsa-group-port`" + ` tsa-port + 20. Without ` + "`name`" + ` a server is called host:port.
- Substitutions: ` + "`%h`" + ` host name, ` + "`%i`" + ` address, ` + "`%H`" + ` home, ` + "`%n`" + ` user, ` + "`%t`" + ` temporary folder, ` + "`%(name)`" + ` a property of
  ` + "`JAVA_OPTS`" + ` (or user.home, user.name, user.dir, java.io.tmpdir), ` + "`%%`" + ` a percent sign.
- With more than one server ` + "`failover-priority`" + ` must be there.
- A file without data directories makes a server that keeps everything in memory only, and its start says so. Where no
  data directory is marked ` + "`use-for-platform`" + `, the first one is taken. Paths are absolute.
- ` + "`security`" + ` is read and refused: this version has a shared secret (` + "`TC_PASSWORD_FILE`" + `) instead.
- The form of Terracotta 4.x (` + "`tc:tc-config`" + `, whose inner elements have no namespace) is read too, example
  [tc43.xml](../config/testdata/tc43.xml): ` + "`server`" + ` with ` + "`data`, `logs`, `index`, `data-backup`, `tsa-port`, `tsa-group-port`,\n  `management-port`, then `client-reconnect-window` and `clients/logs`" + `. The data directories (DATA_RESOURCE1,
  DATA_RESOURCE2, PLATFORM) are folders in ` + "`data`" + `, else in the data root; off-heap resources and, without ` + "`data-backup`" + `,
  the backup location are those of the built-in configuration, settings marked ¹ included. Failover priority is
  availability. Ports are 9410 and 9430 unless written: a 4.x file that relied on 9510 and 9530 writes them now.
`
