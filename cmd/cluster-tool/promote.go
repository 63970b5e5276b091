package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func (t *tool) promoteCommand() *cobra.Command {
	var o target
	cmd := &cobra.Command{
		Use:         "promote",
		Annotations: map[string]string{forms: "promote -s HOST[:PORT]\npromote HOST[:PORT]"},
		Short:       "Make a suspended server go on alone",
		Long: `Make a server go on alone that waits suspended (START_SUSPENDED, PASSIVE_SUSPENDED
or ACTIVE_SUSPENDED in status), because it cannot know whether another server of its
stripe has newer data or still serves.

Only an operator can know: promote a server when the others are certainly down and
will not come back with newer data. What only they had is lost; a server that went
on meanwhile without contact sets its data aside when it comes back.
A server that is not suspended refuses (40).`,
		Example: `  cluster-tool status -n MyCluster -s terracotta-2
  cluster-tool promote -s terracotta-2`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.hosts, err = serverArguments("promote", o.hosts, args); err != nil {
				return err
			}
			if len(o.hosts) > 1 {
				return fail(codeBadRequest, "%d servers are named, and one is promoted at a time", len(o.hosts)).
					hint("two servers of a stripe that both go on alone would both change sessions")
			}
			return t.reach(cmd.Context(), &o, func(ctx context.Context) error { return t.promote(ctx, o.hosts[0], o.password) })
		},
	}
	serverFlag(cmd, &o.hosts)
	return cmd
}

func (t *tool) promote(ctx context.Context, host, password string) error {
	if _, err := t.ask(ctx, host, password, []byte(wire.CmdPromote)); err != nil {
		e := *asToolError(err)
		e.Message = "server " + host + ": " + e.Message
		return &e
	}
	fmt.Fprintf(t.stdout, "%s: Promote successful\n", host)
	_, err := fmt.Fprintln(t.stdout, "Command completed successfully.")
	return err
}

// ask sends one command to host, once, and returns the flat answer.
func (t *tool) ask(ctx context.Context, host, password string, args ...[]byte) ([][]byte, error) {
	ctx, c, err := t.contactServer(ctx, host, password)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	answer, err := c.Do(ctx, false, args...)
	if err = c.why(err); err != nil {
		return nil, notReached(err)
	}
	return answer, nil
}
