package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/wire"
)

const (
	maxTCConfig = 1 << 20 // bytes
	retryPause  = 500 * time.Millisecond
)

// stripe is one stripe of the cluster to be: what it is to run, and its servers
// as they answered.
type stripe struct {
	from    string // how messages name it: a file or a server
	config  wire.StripeConfig
	answers []answer
}

// reached lists the servers of the stripe that answered, in order.
func (s *stripe) reached() (list []answer) {
	for _, a := range s.answers {
		if a.err == nil {
			list = append(list, a)
		}
	}
	return list
}

// meetStripes finds the stripes of the command line and waits until a server of
// each answers. It checks that all servers of a stripe run the same.
func (t *tool) meetStripes(ctx context.Context, o configureOptions) ([]*stripe, error) {
	if len(o.files) > 0 {
		return t.stripesByFile(ctx, o)
	}
	return t.stripesByServer(ctx, o)
}

func (t *tool) stripesByFile(ctx context.Context, o configureOptions) ([]*stripe, error) {
	var stripes []*stripe
	for _, file := range o.files {
		c, err := readTCConfig(file)
		if err != nil {
			return nil, err
		}
		stripes = append(stripes, &stripe{from: "tc-config " + file, config: c})
	}
	if err := checkDuplicates(stripes); err != nil {
		return nil, err
	}
	var groups [][]string
	for _, s := range stripes {
		var hosts []string
		for _, server := range s.config.Servers {
			hosts = append(hosts, serverHost(server))
		}
		groups = append(groups, hosts)
	}
	met, err := t.waitForServers(ctx, groups, o.settings.Password)
	if err != nil {
		return nil, err
	}
	for i, s := range stripes {
		s.answers = met[i]
		for _, a := range s.reached() {
			if err := compare(s.from, s.config, "server "+a.host, a.status.Running); err != nil {
				return nil, err
			}
		}
		// What the servers run is agreed, not the file: paths in the file may hold
		// substitutions such as %H, which only a server can make.
		s.config = s.reached()[0].status.Running
	}
	return stripes, nil
}

func (t *tool) stripesByServer(ctx context.Context, o configureOptions) ([]*stripe, error) {
	var groups [][]string
	for _, h := range o.hosts {
		groups = append(groups, []string{h})
	}
	met, err := t.waitForServers(ctx, groups, o.settings.Password)
	if err != nil {
		return nil, err
	}
	var stripes []*stripe
	byID := map[string]string{} // server id -> where it was contacted
	for _, a := range slices.Concat(met...) {
		if a.err != nil {
			continue // a server of a pair may be down; waitForServers said so
		}
		if other := byID[a.status.ServerID]; other != "" {
			return nil, duplicateStripe(fmt.Sprintf("%s and %s are the same server", other, a.host))
		}
		if a.status.ServerID != "" {
			byID[a.status.ServerID] = a.host
		}
		if i := slices.IndexFunc(stripes, func(s *stripe) bool { return slices.Equal(s.config.Servers, a.status.Running.Servers) }); i >= 0 {
			s := stripes[i]
			if err := compare(s.from, s.config, "server "+a.host, a.status.Running); err != nil {
				return nil, err
			}
			s.answers = append(s.answers, a)
			continue
		}
		stripes = append(stripes, &stripe{from: "server " + a.host, config: a.status.Running, answers: []answer{a}})
	}
	if err := checkDuplicates(stripes); err != nil {
		return nil, err
	}
	return stripes, t.meetOthers(ctx, stripes, o.settings.Password)
}

// meetOthers asks the servers that were not named, as far as they can be reached
// from here, and checks that they run what the named ones run.
func (t *tool) meetOthers(ctx context.Context, stripes []*stripe, password string) error {
	for _, s := range stripes {
		var hosts []string
		for _, server := range s.config.Servers {
			if !slices.ContainsFunc(s.answers, func(a answer) bool { return a.status.Server.Name == server.Name }) {
				hosts = append(hosts, serverHost(server))
			}
		}
		for _, a := range t.probeAll(ctx, hosts, password) {
			if a.err != nil {
				fmt.Fprintf(t.stderr, "Warning: going on without %s: %s\n", a.host, printable(reason(a.err)))
				continue
			}
			if err := compare(s.from, s.config, "server "+a.host, a.status.Running); err != nil {
				return err
			}
			s.answers = append(s.answers, a)
		}
	}
	return nil
}

// waitForServers asks the servers of all groups until at least one of each group
// answers. groups[i] are the hosts of one stripe as far as is known: with -s each
// host is a group, excused when another answer names it as a server of its stripe.
// A refusal that waiting cannot mend ends it at once.
func (t *tool) waitForServers(ctx context.Context, groups [][]string, password string) ([][]answer, error) {
	p := newProgress(t.stderr)
	defer p.clear()
	var last []string // what was waited for when there was still time
	for {
		met := make([][]answer, len(groups))
		var all []answer
		for i, hosts := range groups {
			met[i] = t.probeAll(ctx, hosts, password)
			all = append(all, met[i]...)
		}
		for _, a := range all {
			if lasting(a.err) {
				return nil, unreachable([]answer{a})
			}
		}
		waiting, without := stillMissing(met, all)
		if len(waiting) == 0 {
			p.clear()
			for _, w := range without {
				fmt.Fprintf(t.stderr, "Warning: going on without %s\n", printable(w))
			}
			return met, nil
		}
		if ctx.Err() == nil || last == nil {
			last = waiting
			p.show("waiting for " + strings.Join(waiting, ", "))
		}
		if pause(ctx, retryPause) {
			continue
		}
		if !errors.Is(context.Cause(ctx), errTimeout) {
			return nil, ctx.Err()
		}
		return nil, fail(codeBadGateway, "no answer within %v from %s", t.timeout(), strings.Join(last, ", ")).
			hint("is the server started, and does its name lead to it from here? In a container, link it or share a network with it; -t MILLISECONDS before the command waits longer")
	}
}

// stillMissing tells which servers must be waited for, and without which it goes.
func stillMissing(met [][]answer, all []answer) (waiting, without []string) {
	excused := func(host string) bool {
		return slices.ContainsFunc(all, func(a answer) bool {
			return a.err == nil && slices.ContainsFunc(a.status.Running.Servers, func(s wire.ServerConfig) bool {
				return strings.EqualFold(serverHost(s), host)
			})
		})
	}
	for _, answers := range met {
		var missing []string
		ready := false
		for _, a := range answers {
			switch {
			case a.err != nil:
				missing = append(missing, a.host+": "+reason(a.err))
				ready = ready || excused(a.host)
			case a.status.State == wire.StateStarting:
				missing = append(missing, a.host+": starting")
			default:
				ready = true
			}
		}
		if ready {
			without = append(without, missing...)
		} else {
			waiting = append(waiting, missing...)
		}
	}
	return waiting, without
}

// readTCConfig reads one tc-config file. The host names in it must be written
// out, because the tool does not run on those hosts.
func readTCConfig(file string) (wire.StripeConfig, error) {
	info, err := os.Stat(file)
	if err != nil {
		return wire.StripeConfig{}, fail(codeNotFound, "tc-config %q: %v", file, causeOf(err)).
			hint("give the path of a tc-config.xml, or name running servers with -s HOST")
	}
	if !info.Mode().IsRegular() || info.Size() > maxTCConfig {
		return wire.StripeConfig{}, fail(codeBadRequest, "tc-config %q is not a regular file of at most %d KiB", file, maxTCConfig>>10)
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		return wire.StripeConfig{}, fail(codeBadRequest, "tc-config %q: %v", file, causeOf(err))
	}
	c, err := config.ParseTCConfig(filepath.Base(file), doc, keepSubstitution)
	if err != nil {
		return wire.StripeConfig{}, &toolError{Code: codeBadRequest, Message: err.Error(), Cause: err}
	}
	for _, s := range c.Servers {
		if strings.Contains(s.Host, "%") {
			return wire.StripeConfig{}, fail(codeBadRequest, "tc-config %q: the host %q of a server depends on where the file is read", file, s.Host).
				hint("write the host name out, or name the running server with -s HOST instead of the file")
		}
	}
	return c, nil
}

// keepSubstitution leaves %h and %(name) as they stand: only servers know their
// values. What can stand for a folder keeps a slash before it, because a path
// must be absolute.
func keepSubstitution(name string) (string, bool) {
	switch name = strings.Trim(name, "%()"); {
	case name == "H" || name == "t":
		return "/%" + name, true
	case len(name) == 1:
		return "%" + name, true
	}
	return "/%(" + name + ")", true
}
