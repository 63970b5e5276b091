package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/internal/wire"
)

type stopOptions struct {
	name     string
	hosts    []string
	password string
}

func (t *tool) stopCommand() *cobra.Command {
	var o stopOptions
	cmd := &cobra.Command{
		Use:         "stop",
		Annotations: map[string]string{forms: "stop [-n NAME] -s HOST[:PORT]...\nstop [-n NAME] HOST[:PORT]..."},
		Short:       "Stop servers in order",
		Long: `Stop servers in order: each finishes what it has begun, and its sessions stay on
its disk. The command returns when the servers are gone, or after -t.

Without -n, the servers that are named stop. With -n, all servers of the cluster
NAME stop; those that are named are the way to find them.`,
		Example: `  cluster-tool stop -s terracotta
  cluster-tool stop terracotta-1 terracotta-2:9510
  cluster-tool stop -n MyCluster -s terracotta`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.hosts, err = serverArguments("stop", o.hosts, args); err != nil {
				return err
			}
			c, err := t.gated()
			if err != nil {
				return err
			}
			o.password = c.Password
			return t.stop(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVarP(&o.name, "name", "n", "", "`NAME` of the cluster: stop all its servers")
	serverFlag(cmd, &o.hosts)
	return cmd
}

// serverFlag registers -s as a list whose commas mean nothing, so that a comma
// is an error with a hint and not a second server.
func serverFlag(cmd *cobra.Command, hosts *[]string) {
	cmd.Flags().StringArrayVarP(hosts, "server", "s", nil, "server, `HOST[:PORT]`; may be repeated (default port 9410)")
}

func (t *tool) stop(ctx context.Context, o stopOptions) error {
	ctx, cancel := t.bounded(ctx)
	defer cancel()
	hosts := o.hosts
	if o.name != "" {
		cluster, answers, err := t.findCluster(ctx, o.name, o.hosts, o.password)
		if err != nil {
			return err
		}
		hosts = clusterHosts(cluster, answers)
	}
	type result struct {
		host string
		err  error
	}
	results := make(chan result, len(hosts))
	for _, h := range hosts {
		go func() { results <- result{h, t.stopServer(ctx, h, o.password)} }()
	}
	var failed []answer
	for range hosts {
		r := <-results
		if r.err == nil {
			fmt.Fprintf(t.stdout, "%s: Stop successful\n", r.host)
			continue
		}
		fmt.Fprintf(t.stderr, "%s: Stop failed: %s\n", r.host, printable(reason(r.err)))
		failed = append(failed, answer{host: r.host, err: r.err})
	}
	if len(failed) > 0 && errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Canceled
	}
	return partial("stop", len(hosts), failed)
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

// stopServer asks one server to stop and waits until it is gone.
func (t *tool) stopServer(ctx context.Context, host, password string) error {
	before, err := t.probe(ctx, host, password)
	if err != nil {
		return notReached(err)
	}
	askCtx, c, err := t.contactServer(ctx, host, password)
	if err != nil {
		return err
	}
	defer c.Close()
	// A server on its way down may close the connection before its answer is read:
	// whether it is gone decides, not the answer. A refusal is a refusal.
	if err := c.why(c.Stop(askCtx)); lasting(err) {
		return err
	}
	c.Close()
	return t.waitGone(ctx, host, password, before)
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
