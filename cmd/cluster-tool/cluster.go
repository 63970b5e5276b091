package main

import (
	"context"
	"net"
	"strconv"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// findCluster asks the contact points hosts for the cluster called name. It
// returns the cluster as the first member told it, and the answers.
func (t *tool) findCluster(ctx context.Context, name string, hosts []string, password string) (*wire.Cluster, []answer, error) {
	answers := t.probeAll(ctx, hosts, password)
	var found *wire.Cluster
	var unconfigured, unread *answer
	reached := false
	for _, a := range answers {
		switch {
		case a.err != nil:
			continue
		case a.status.Cluster == nil && wire.Unread(a.status.State):
			unread = &a
		case a.status.Cluster == nil:
			unconfigured = &a
		case a.status.Cluster.Name != name:
			return nil, nil, fail(codeConflict, "server %s belongs to the cluster %q, not to %q", a.host, a.status.Cluster.Name, name).
				hint("use -n %q, or name a server of %q", a.status.Cluster.Name, name)
		case found == nil:
			found = a.status.Cluster
		}
		reached = true
	}
	if ctx.Err() == context.Canceled {
		return nil, nil, ctx.Err()
	}
	switch {
	case !reached:
		return nil, nil, unreachable(answers)
	case found == nil && unread != nil: // to configure it would be the wrong thing to do
		return nil, nil, fail(codeBadRequest, "server %s does not know yet which cluster it belongs to: it is %s", unread.host, unread.status.State).
			hint("start the other servers of its stripe, or name one of them; why it waits: cluster-tool status -s %s", unread.host)
	case found == nil:
		return nil, nil, fail(codeBadRequest, "server %s is not configured: it belongs to no cluster yet", unconfigured.host).
			hint("configure it first: cluster-tool configure -n %q -l LICENSE -s %s", name, unconfigured.host)
	}
	return found, answers, nil
}

// serverHost is where a server says it is reached.
func serverHost(s wire.ServerConfig) string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// clusterHosts lists where to reach each server of the cluster, in order. A
// server that was contacted is used by the address it was contacted at, all
// others by their configured one. The only server of a stripe is known by that:
// its state came with the data root, its name may be another since configure.
func clusterHosts(c *wire.Cluster, contacted []answer) []string {
	var hosts []string
	for i, stripe := range c.Stripes {
		for _, s := range stripe.Servers {
			hosts = append(hosts, hostOf(s, contacted, func(st wire.Status) bool {
				return len(stripe.Servers) == 1 && st.Cluster != nil && st.Cluster.Stripe == i
			}))
		}
	}
	return hosts
}

func hostOf(s wire.ServerConfig, contacted []answer, alone func(wire.Status) bool) string {
	for _, a := range contacted {
		if a.err == nil && alone(a.status) {
			return a.host
		}
		if a.err == nil && a.status.Server.Name == s.Name && a.status.Server.Port == s.Port && a.status.Server.Host == s.Host {
			return a.host
		}
	}
	return serverHost(s)
}
