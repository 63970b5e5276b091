package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func (t *tool) stopCommand() *cobra.Command {
	var o target
	cmd := &cobra.Command{
		Use:         "stop",
		Annotations: map[string]string{forms: "stop [-n NAME] -s HOST[:PORT]...\nstop [-n NAME] HOST[:PORT]..."},
		Short:       "Stop servers in order",
		Long: `Stop servers in order: each finishes what it has begun, and its sessions stay on
its disk. An active server with a passive one beside it hands over first, so that
no request fails. The command returns when the servers are gone, or after -t.

Without -n, the servers that are named stop. With -n, all servers of the cluster
NAME stop, as with shutdown; those that are named are the way to find them.`,
		Example: `  cluster-tool stop -s terracotta
  cluster-tool stop terracotta-1 terracotta-2:9510
  cluster-tool stop -n MyCluster -s terracotta`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.hosts, err = serverArguments("stop", o.hosts, args); err != nil {
				return err
			}
			return t.reach(cmd.Context(), &o, func(ctx context.Context) error { return t.stop(ctx, o) })
		},
	}
	cmd.Flags().StringVarP(&o.name, "name", "n", "", "`NAME` of the cluster: stop all its servers")
	serverFlag(cmd, &o.hosts)
	return cmd
}

func (t *tool) stop(ctx context.Context, o target) error {
	if o.name != "" {
		return t.stopAll(ctx, o, "Stop")
	}
	return t.stopInOrder(ctx, o.hosts, o.password, "Stop", false)
}

// partial is the verdict over many targets: SUCCESS, PARTIAL_FAILURE where some
// failed, and where all failed BAD_GATEWAY if none answered, else FAILURE.
func partial(deed string, targets int, failed []answer) error {
	if len(failed) == 0 {
		return nil
	}
	slices.SortFunc(failed, func(a, b answer) int { return strings.Compare(a.host, b.host) })
	if len(failed) < targets {
		return fail(codePartial, "%s failed on %d of %d servers", deed, len(failed), targets)
	}
	nobody := !slices.ContainsFunc(failed, func(a answer) bool { return asToolError(a.err).Code.Number != codeBadGateway.Number })
	if nobody || slices.ContainsFunc(failed, func(a answer) bool { return lasting(a.err) }) {
		return unreachable(failed)
	}
	return fail(codeFailure, "%s failed on all servers", deed).hint("look at the lines above, and at the servers' logs")
}

// stopServer asks the server that answered with before to stop and waits until
// it is gone. With whole all servers of its stripe stop.
func (t *tool) stopServer(ctx context.Context, before answer, password string, whole bool) error {
	askCtx, c, err := t.contactServer(ctx, before.host, password)
	if err != nil {
		return err
	}
	defer c.Close()
	ask := c.Stop
	if whole && len(before.status.Running.Servers) > 1 {
		ask = c.StopCluster
	}
	// A server on its way down may close the connection before its answer is read:
	// whether it is gone decides, not the answer. A refusal is a refusal.
	if err := c.why(ask(askCtx)); lasting(err) {
		return err
	}
	c.Close()
	return t.waitGone(ctx, before.host, password, before.status)
}

// notReached marks err, unless it is a server's own refusal, as nobody answering.
func notReached(err error) error {
	if lasting(err) {
		return err
	}
	return &toolError{Code: codeBadGateway, Message: reason(err), Cause: err}
}

// waitGone waits until the server no longer answers, or another run of it does:
// a container may be up again faster than we look.
func (t *tool) waitGone(ctx context.Context, host, password string, before wire.Status) error {
	p := newProgress(t.stderr)
	defer p.clear()
	for {
		now, err := t.probe(ctx, host, password)
		if ctx.Err() != nil {
			return t.stillThere(ctx, host)
		}
		// Only a failed connect is an end; a server that is silent may still be writing.
		var gone *dialError
		if errors.As(err, &gone) || err == nil && now.UptimeMillis < before.UptimeMillis {
			return nil
		}
		p.show("waiting for " + host + " to stop")
		if !pause(ctx, 200*time.Millisecond) {
			return t.stillThere(ctx, host)
		}
	}
}

func (t *tool) stillThere(ctx context.Context, host string) error {
	if !errors.Is(context.Cause(ctx), errTimeout) {
		return ctx.Err()
	}
	return fail(codeFailure, "%s was told to stop and is still there after %v", host, t.timeout())
}

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
