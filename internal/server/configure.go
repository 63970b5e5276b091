package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

const (
	configureTimeout = 30 * time.Second
	maxClusterName   = 128
	maxLicense       = 64 << 10
)

// runConfigure answers TC.CONFIGURE beside the reading goroutine: forming the
// stripe takes a while.
func (c *conn) runConfigure(args [][]byte) {
	var request wire.ConfigureRequest
	d := json.NewDecoder(bytes.NewReader(args[0]))
	d.DisallowUnknownFields() // what is not understood must not be dropped in silence
	if err := d.Decode(&request); err != nil {
		c.refuse(wire.ErrBadRequest, "the request is not the JSON of a ConfigureRequest: "+printable(err.Error()))
		return
	}
	c.beside(func(context.Context) ([]byte, error) {
		// Not the connection's context: a cluster must not be half configured
		// because somebody pressed a key.
		ctx, cancel := context.WithTimeout(c.srv.ctx, configureTimeout)
		defer cancel()
		answer, err := c.srv.Configure(ctx, &request)
		if err != nil {
			return nil, err
		}
		doc, err := json.Marshal(&answer)
		return resp.AppendBulk(nil, doc), err
	})
}

// Configure does what TC.CONFIGURE asks for. It verifies all of the request
// before it changes anything. Refusals are *wire.Error.
func (s *Server) Configure(ctx context.Context, r *wire.ConfigureRequest) (wire.ConfigureAnswer, error) {
	select { // one at a time: the check and the deed belong together
	case s.configuring <- struct{}{}:
		defer func() { <-s.configuring }()
	case <-ctx.Done():
		return wire.ConfigureAnswer{}, ctx.Err()
	}
	if err := s.checkRequest(r); err != nil {
		return wire.ConfigureAnswer{}, err
	}
	l, err := license.Verify(r.License, s.cfg.Keys)
	if err != nil {
		return wire.ConfigureAnswer{}, &wire.Error{Word: wire.ErrLicense, Text: reason(err)}
	}
	if s.stripe.Status().Formed { // what the log holds must be known before it is asked
		if _, _, known := s.stripe.Active(); known && !s.stripe.Serves() {
			return wire.ConfigureAnswer{}, s.notServing() // it says which server to ask
		}
		if err := s.stripe.Form(ctx); err != nil {
			return wire.ConfigureAnswer{}, err
		}
	}
	if have := s.store.Cluster(); have != nil {
		return s.configuredAlready(have, r)
	}
	if err := l.Allow(growthOf(&r.Cluster, s.cfg.Version), s.cfg.Now()); err != nil {
		return wire.ConfigureAnswer{}, &wire.Error{Word: wire.ErrLicense, Text: reason(err)}
	}
	if err := s.stripe.Form(ctx); err != nil {
		return wire.ConfigureAnswer{}, err
	}
	// What runs is what was asked for; its own spelling of paths and hosts counts.
	cluster := r.Cluster
	cluster.Stripes = slices.Clone(cluster.Stripes)
	cluster.Stripes[cluster.Stripe] = s.cfg.Running
	cluster.License = string(r.License)
	if err := s.propose(ctx, store.AppendConfigure(nil, &cluster)); err != nil {
		return wire.ConfigureAnswer{}, err
	}
	s.log.Info("configured", "cluster", cluster.Name, "licence-serial", l.SerialNumber, "licence-key", l.KeyID, "expires", l.Expires())
	s.firstLicence(&cluster)
	return wire.ConfigureAnswer{Configured: true, License: "installed"}, nil
}

// propose hands op to the stripe and waits for its outcome.
func (s *Server) propose(ctx context.Context, op []byte) error {
	done := make(chan error, 1)
	s.stripe.Propose(op, func(o wire.Outcome, err error) {
		if err == nil && o.Err != nil {
			err = o.Err
		}
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return &wire.Error{Word: wire.ErrUnsure, Text: "the stripe did not answer in time: it is not known whether the change was made; ask again"}
	}
}

// configuredAlready tells a repeat, which is a success, from a contradiction.
func (s *Server) configuredAlready(have *wire.Cluster, r *wire.ConfigureRequest) (wire.ConfigureAnswer, error) {
	refuse := func(format string, args ...any) (wire.ConfigureAnswer, error) {
		return wire.ConfigureAnswer{}, &wire.Error{Word: wire.ErrConfigured, Text: fmt.Sprintf(format, args...)}
	}
	switch {
	case have.Name != r.Cluster.Name:
		return refuse("this server belongs to cluster %q already, not to %q; use reconfigure to change a cluster", have.Name, r.Cluster.Name)
	case have.License != string(r.License):
		return refuse("cluster %q is configured already, with another licence; use reconfigure to install a new one", have.Name)
	case have.Stripe < len(have.Stripes):
		if m := mismatch(have.Stripes[have.Stripe], r.Cluster.Stripes[r.Cluster.Stripe], "the cluster has", "the request says"); m != "" {
			return refuse("cluster %q is configured already: %s; use reconfigure to change it", have.Name, m)
		}
	}
	return wire.ConfigureAnswer{License: "identical", Reason: "Identical to previously installed license"}, nil
}

// checkRequest returns what is wrong with the request itself, or with it and
// what this server runs.
func (s *Server) checkRequest(r *wire.ConfigureRequest) error {
	bad := func(format string, args ...any) error {
		return &wire.Error{Word: wire.ErrBadRequest, Text: fmt.Sprintf(format, args...)}
	}
	c := &r.Cluster
	switch {
	case !validClusterName(c.Name):
		return bad("cluster name %q: 1 to %d printable characters without spaces are allowed, e.g. MyCluster", printable(c.Name[:min(len(c.Name), 64)]), maxClusterName)
	case len(r.License) == 0:
		return bad("the request carries no licence")
	case len(r.License) > maxLicense:
		return bad("the licence has %d bytes; at most %d are allowed", len(r.License), maxLicense)
	case len(c.Stripes) == 0 || c.Stripe < 0 || c.Stripe >= len(c.Stripes):
		return bad("stripe %d of %d does not exist", c.Stripe, len(c.Stripes))
	case len(c.Stripes) > 1:
		return bad("%d stripes: this version runs one stripe; several come in a later version", len(c.Stripes))
	}
	want := c.Stripes[c.Stripe]
	if !slices.ContainsFunc(want.Servers, func(x wire.ServerConfig) bool { return x.Name == s.cfg.Self.Name }) {
		return bad("Mismatched servers: the request names %s; this server is %q", serverNames(want), s.cfg.Self.Name)
	}
	if len(want.Servers) != len(s.cfg.Running.Servers) {
		return bad("Mismatched servers: the request names %s; this server was started with %s", serverNames(want), serverNames(s.cfg.Running))
	}
	if m := mismatch(want, s.cfg.Running, "the request says", "this server runs"); m != "" {
		return bad("%s", m)
	}
	return nil
}

func validClusterName(name string) bool {
	if name == "" || len(name) > maxClusterName {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func serverNames(c wire.StripeConfig) string {
	var names []string
	for _, s := range c.Servers {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// agreed is what the servers of a stripe must run alike.
var agreed = []struct {
	what string
	of   func(wire.StripeConfig) string
}{
	{"off-heap resources", offheapText},
	{"data directories", directoriesText},
	{"failover priority", func(c wire.StripeConfig) string {
		if c.Voters > 0 {
			return fmt.Sprintf("%s with %d voters", c.FailoverPriority, c.Voters)
		}
		return c.FailoverPriority
	}},
	{"security configuration", func(c wire.StripeConfig) string { return map[bool]string{true: "on", false: "off"}[c.Security] }},
}

// mismatch compares what two servers of a stripe must agree on, or returns "".
// Names and addresses of servers are not among it: a container that was created
// anew on its volume is the same server. Nor are paths, which are each machine's own.
func mismatch(a, b wire.StripeConfig, saysA, saysB string) string {
	for _, row := range agreed {
		if va, vb := row.of(a), row.of(b); va != vb {
			return fmt.Sprintf("Mismatched %s: %s %s; %s %s", row.what, saysA, orNothing(va), saysB, orNothing(vb))
		}
	}
	return ""
}

func orNothing(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// offheapText writes the resources in order of their names: order does not count.
func offheapText(c wire.StripeConfig) string {
	var list []string
	for _, r := range c.OffheapResources {
		list = append(list, fmt.Sprintf("%s=%s", r.Name, exactSize(r.Size)))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// exactSize writes bytes in the largest unit that divides them: two sizes that
// differ never read the same.
func exactSize(n uint64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for n != 0 && n%1024 == 0 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return fmt.Sprintf("%d %s", n, units[i])
}

func directoriesText(c wire.StripeConfig) string {
	var list []string
	for _, d := range c.DataDirectories {
		if d.Platform {
			list = append(list, d.Name+" (platform)")
		} else {
			list = append(list, d.Name)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
