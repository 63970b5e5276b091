package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/config"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version",
		Example: "  cluster-tool version",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

func versionLine() string {
	line := "cluster-tool " + config.Version
	if config.Commit != "" {
		line += " (" + config.Commit + ")"
	}
	return line + "\n"
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fail(codeBadRequest, "%s takes no arguments, got %q", cmd.CommandPath(), args[0])
	}
	return nil
}
