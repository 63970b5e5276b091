package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// forms is the annotation of a command with the forms of its command line, one
// a line, without the program's name.
const forms = "forms"

// help writes the help of a command: what it does, its forms, its commands or
// options, examples, and at the root the exit codes.
func help(cmd *cobra.Command, _ []string) {
	var b strings.Builder
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	b.WriteString(text + "\n\nUsage:\n")
	lines := cmd.Annotations[forms]
	if lines == "" && cmd.HasParent() {
		lines = strings.TrimPrefix(cmd.CommandPath(), "cluster-tool ")
	} else if lines == "" {
		lines = "COMMAND [command-options]"
	}
	for line := range strings.SplitSeq(lines, "\n") {
		b.WriteString("  cluster-tool [options] " + line + "\n")
	}
	commands := ""
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			commands += fmt.Sprintf("  %-20s %s\n", c.Name(), c.Short)
		}
	}
	section(&b, "Commands", commands)
	section(&b, "Options", cmd.LocalFlags().FlagUsages())
	section(&b, "Examples", cmd.Example+"\n")
	if !cmd.HasParent() {
		list := ""
		for _, c := range codes {
			list += fmt.Sprintf("  %2d  %-27s  %s\n", c.Number, c.Name, c.Means)
		}
		section(&b, "Exit codes", list)
	}
	// To a closed pipe, as of head(1), nothing needs to be said.
	_, _ = fmt.Fprint(cmd.OutOrStdout(), b.String())
}

func section(b *strings.Builder, title, text string) {
	if strings.TrimSpace(text) != "" {
		b.WriteString("\n" + title + ":\n" + text)
	}
}
