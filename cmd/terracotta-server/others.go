package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// joinOthers completes c with the other servers of the stripe and opens the group
// port for them; a single server has none.
func joinOthers(c *stripe.Config, cfg config.Server, st *store.Store, log *slog.Logger) error {
	if len(cfg.Stripe.Servers) < 2 {
		return nil
	}
	c.Self, c.Members = cfg.Self.Name, server.Members(cfg.Stripe)
	for i := range c.Members {
		if c.Members[i].Name == c.Self { // by the advertised host, where there is one
			c.Members[i].ClientAddr = net.JoinHostPort(cfg.Self.Host, strconv.Itoa(cfg.Self.Port))
			c.Members[i].GroupAddr = net.JoinHostPort(cfg.Self.Host, strconv.Itoa(cfg.Self.GroupPort))
		}
	}
	c.Secret, c.Priority = cfg.Password, cfg.Stripe.FailoverPriority
	c.Timers = stripe.Timers{Heartbeat: cfg.Failover.Heartbeat, Election: cfg.Failover.Election, Lease: cfg.Failover.Lease, Alone: cfg.Failover.Alone}
	c.Agreement, c.MayJoin = server.Agreement(cfg.Stripe), server.MayJoin(st)
	if c.Priority == stripe.Availability && len(c.Members) > 2 {
		log.Warn("FAILOVER PRIORITY: " + server.MajorityInstead)
	}
	if cfg.Stripe.Voters > 0 {
		log.Warn("FAILOVER PRIORITY: " + server.VotersIgnored)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(cfg.GroupBind, strconv.Itoa(cfg.Self.GroupPort)))
	if err != nil {
		return &failure{exitFailure, fmt.Errorf("group port: %w", err), fmt.Sprintf("is another server running? set another tsa-group-port in the stripe's configuration (now %d)", cfg.Self.GroupPort)}
	}
	log.Info("the port for the other servers of the stripe is open", "address", shown(ln.Addr()), "servers", len(c.Members), "failover-priority", c.Priority)
	c.Listener = ln
	return nil
}

// watchUnfit tells when this server can't go on, and no waiting mends that, and
// calls giveUp then: its log has what only a later version understands, or the
// stripe refuses it for what it runs with, and it has no part in it yet. A server
// that has data stays, and says so in its status.
func watchUnfit(ctx context.Context, sp *stripe.Stripe, giveUp func()) <-chan error {
	unfit := make(chan error, 1)
	changes := sp.Changes()
	go func() { // ends with ctx
		for {
			st := sp.Status()
			if st.Later {
				unfit <- &failure{exitFailure, fmt.Errorf("this version is too old for the data: %s", st.DiskError),
					"start the newer version again; nothing was changed"}
				giveUp()
				return
			}
			if st.Unfit {
				unfit <- &failure{exitBadRequest, fmt.Errorf("the stripe does not let this server in: %s", st.Refusal),
					"start it with the settings of the others; cluster-tool status shows what the cluster has"}
				giveUp()
				return
			}
			select {
			case <-changes:
			case <-ctx.Done():
				return
			}
		}
	}()
	return unfit
}

// shownSettings are the settings for TC.DUMP; the configuration hides secrets.
func shownSettings(cfg config.Server) []wire.Setting {
	list := make([]wire.Setting, len(cfg.Settings))
	for i, s := range cfg.Settings {
		list[i] = wire.Setting{Key: s.Key, Value: s.Value, Origin: s.Origin}
	}
	return list
}
