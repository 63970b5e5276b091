package main

import (
	"context"

	"github.com/spf13/cobra"
)

// target is what a command is about: the cluster name, or where that is empty
// the servers of hosts themselves.
type target struct {
	name     string
	hosts    []string
	password string
}

// cluster refuses a target that does not name a cluster and at least one of its
// servers, as command shows how to.
func (o *target) cluster(command string) (err error) {
	if err := required("-n NAME", o.name, "cluster-tool "+command+" -n MyCluster -s terracotta-1"); err != nil {
		return err
	}
	o.hosts, err = serverArguments(command+" -n NAME", o.hosts, nil)
	return err
}

// reach gets from the settings what talking to the servers of o wants, and does
// so within -t.
func (t *tool) reach(ctx context.Context, o *target, do func(context.Context) error) error {
	c, err := t.gated()
	if err != nil {
		return err
	}
	o.password = c.Password
	ctx, cancel := t.bounded(ctx)
	defer cancel()
	return do(ctx)
}

// serverFlag registers -s as a list whose commas mean nothing, so that a comma
// is an error with a hint and not a second server.
func serverFlag(cmd *cobra.Command, hosts *[]string) {
	cmd.Flags().StringArrayVarP(hosts, "server", "s", nil, "server, `HOST[:PORT]`; may be repeated (default port 9410)")
}
