package main

import "github.com/spf13/cobra"

// laterCommands are the original's commands that this version does not have.
// They stand in the help, so that nobody looks for them in vain, and refuse.
func laterCommands() []*cobra.Command {
	var list []*cobra.Command
	for _, c := range []struct{ name, does, instead string }{
		{"reconfigure", "Change a configured cluster, or its licence", "a server keeps the configuration and licence it was configured with"},
		{"ipwhitelist-reload", "Read the servers' list of allowed addresses again", "there is no such list in this version"},
	} {
		list = append(list, &cobra.Command{
			Use:   c.name,
			Short: c.does + " (comes later)",
			Long:  c.does + ".\n\nNot in this version: the command refuses with NOT_IMPLEMENTED (51).",
			// Whatever options the original knows, the answer is the same, but for help.
			DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, args []string) error {
				for _, a := range args {
					if a == "-h" || a == "--help" {
						return cmd.Help()
					}
				}
				return fail(codeNotImplemented, "%s is not in this version", c.name).hint("%s", c.instead)
			},
		})
	}
	return list
}
