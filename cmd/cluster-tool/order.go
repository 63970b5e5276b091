package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// This file stops several servers in an order in which nothing is lost: those
// first whose end nobody notices.

func (t *tool) shutdownCommand() *cobra.Command {
	var o target
	cmd := &cobra.Command{
		Use:         "shutdown",
		Annotations: map[string]string{forms: "shutdown -n NAME -s HOST[:PORT]..."},
		Short:       "Stop a whole cluster in order",
		Long: `Stop all servers of the cluster NAME, found through any of those that are named:
of each stripe the passive servers first and the active one last, so that the last
to stop is the one that has everything. Nothing that was acknowledged is lost.
The command returns when all are gone, or after -t. One that does not answer is
reported, and the others stop all the same.`,
		Example: `  cluster-tool shutdown -n MyCluster -s terracotta-1`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.cluster("shutdown"); err != nil {
				return err
			}
			err := t.reach(cmd.Context(), &o, func(ctx context.Context) error { return t.stopAll(ctx, o, "Shutdown") })
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(t.stdout, "Command completed successfully.")
			return err
		},
	}
	cmd.Flags().StringVarP(&o.name, "name", "n", "", "`NAME` of the cluster")
	serverFlag(cmd, &o.hosts)
	return cmd
}

// stopAll stops the whole cluster o.name.
func (t *tool) stopAll(ctx context.Context, o target, deed string) error {
	cluster, answers, err := t.findCluster(ctx, o.name, o.hosts, o.password)
	if err != nil {
		return err
	}
	return t.stopInOrder(ctx, clusterHosts(cluster, answers), o.password, deed, true)
}

// stopInOrder stops hosts, the passive ones at once and the active ones when
// those are gone, and says of each how it went. With whole nobody is left to
// hand over to, and no server tries.
func (t *tool) stopInOrder(ctx context.Context, hosts []string, password, deed string, whole bool) error {
	var failed []answer
	var first, last []answer
	for _, a := range t.probeAll(ctx, hosts, password) {
		switch {
		case a.err != nil:
			a.err = notReached(a.err)
			t.tellStop(a, deed)
			failed = append(failed, a)
		case active(a.status):
			last = append(last, a)
		default:
			first = append(first, a)
		}
	}
	for _, group := range [][]answer{first, last} {
		results := make(chan answer, len(group))
		for _, a := range group {
			go func() { results <- answer{host: a.host, err: t.stopServer(ctx, a, password, whole)} }()
		}
		for range group {
			a := <-results
			t.tellStop(a, deed)
			if a.err != nil {
				failed = append(failed, a)
			}
		}
	}
	if len(failed) > 0 && errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Canceled
	}
	return partial(strings.ToLower(deed), len(hosts), failed)
}

func (t *tool) tellStop(a answer, deed string) {
	if a.err == nil {
		fmt.Fprintf(t.stdout, "%s: %s successful\n", a.host, deed)
	} else {
		fmt.Fprintf(t.stderr, "%s: %s failed: %s\n", a.host, deed, printable(reason(a.err)))
	}
}

// active reports whether the server serves its stripe.
func active(s wire.Status) bool {
	return slices.Contains([]string{wire.StateActive, wire.StateActiveReconnecting, wire.StateActiveSuspended}, s.State)
}
