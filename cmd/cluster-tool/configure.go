package main

import (
	"context"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

const maxClusterName = 128 // bytes

type configureOptions struct {
	name     string
	license  string
	hosts    []string
	files    []string
	settings config.Tool
}

func (t *tool) configureCommand() *cobra.Command {
	var o configureOptions
	cmd := &cobra.Command{
		Use: "configure",
		Annotations: map[string]string{forms: "configure -n NAME [-l LICENSE] TC-CONFIG...\n" +
			"configure -n NAME [-l LICENSE] -s HOST[:PORT]..."},
		Short: "Form a cluster and install its licence",
		Long: `Form a cluster called NAME of servers that run and belong to no cluster yet, and
install a licence. Before that, servers answer every data command UNCONFIGURED.

The stripe is described by a tc-config file, or by a running server: with -s it is
asked for the configuration it was started with, and for the other servers of its
stripe. The tool waits until a server of each stripe answers, at most -t. The server
that is named first becomes the active one; the tool returns when the others have
joined it. One that cannot be reached is warned of: it joins when it starts. One that
answers and does not join within -t makes the exit status 1.

The licence is the file of -l, else the one fetched from LICENSE_URL, which is
kept as /licenses/license.xml, else that file. It is verified before anything
else is done. With LICENSE_URL set, -l /licenses/license.xml fetches, too; any
other -l is used instead of LICENSE_URL.

It is safe to repeat: a cluster of the same name with the same licence is left as
it is, with exit status 0. With another name or licence it is 28.`,
		Example: `  cluster-tool configure -n MyCluster -l license.xml -s terracotta
  cluster-tool configure -n MyCluster -l license.xml tc-config.xml
  cluster-tool -t 60000 configure -n MyCluster -s terracotta:9410
  LICENSE_URL=https://server/license.xml cluster-tool configure -n MyCluster -s terracotta`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.files = args
			if err := o.check(); err != nil {
				return err
			}
			if o.settings, err = t.gated(); err != nil {
				return err
			}
			ctx, cancel := t.bounded(cmd.Context())
			defer cancel()
			return t.configure(ctx, o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.name, "name", "n", "", "`NAME` of the cluster")
	f.StringVarP(&o.license, "license", "l", "", "licence `file`, - for standard input")
	serverFlag(cmd, &o.hosts)
	return cmd
}

// check refuses a wrong command line before anything is asked of anybody.
func (o *configureOptions) check() (err error) {
	const example = "cluster-tool configure -n MyCluster -l license.xml -s terracotta"
	if err := required("-n NAME", o.name, example); err != nil {
		return err
	}
	if len(o.name) > maxClusterName || !utf8.ValidString(o.name) || hasControl(o.name) {
		return fail(codeBadRequest, "cluster name %q: at most %d bytes of printable text are allowed", printable(o.name), maxClusterName)
	}
	switch {
	case len(o.hosts) > 0 && len(o.files) > 0:
		return fail(codeBadRequest, "tc-config files and -s do not mix; %q has no -s", o.files[0]).
			hint("name the servers by -s, or a tc-config file per stripe")
	case len(o.hosts) == 0 && len(o.files) == 0:
		return fail(codeBadRequest, "neither a server nor a tc-config file is named").hint("for example: %s", example)
	}
	given := len(o.hosts)
	if o.hosts, err = parseHosts(o.hosts); err != nil {
		return err
	}
	if len(o.hosts) < given {
		return duplicateStripe("a server is named twice with -s")
	}
	return nil
}

func hasControl(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return true
		}
	}
	return false
}

func (t *tool) configure(ctx context.Context, o configureOptions) error {
	lic, err := t.acquireLicense(ctx, o.settings, o.license)
	if err != nil {
		return err
	}
	stripes, err := t.meetStripes(ctx, o)
	if err != nil {
		return err
	}
	done, err := alreadyConfigured(o.name, lic.SHA256, stripes)
	if err != nil {
		return err
	}
	if done {
		if err := t.awaitMembers(ctx, o.name, stripes, o.settings.Password); err != nil {
			return err
		}
		return t.configured(wire.ConfigureAnswer{License: "identical"}, o.name)
	}
	cluster := wire.Cluster{Name: o.name}
	for _, s := range stripes {
		cluster.Stripes = append(cluster.Stripes, s.config)
	}
	if err := checkAcross(cluster.Stripes); err != nil {
		return err
	}
	if err := lic.Allow(growthOf(cluster.Stripes), time.Now()); err != nil {
		return licenseError("of serial number "+lic.SerialNumber, err)
	}
	if len(stripes) > 1 {
		return fail(codeNotImplemented, "a cluster of %d stripes is not in this version", len(stripes)).
			hint("configure one stripe, by one tc-config file or the servers of one stripe")
	}
	answer, err := t.sendConfigure(ctx, stripes[0], o.settings.Password, &wire.ConfigureRequest{Cluster: cluster, License: lic.doc})
	if err != nil {
		return err
	}
	if err := t.awaitMembers(ctx, o.name, stripes, o.settings.Password); err != nil {
		return err
	}
	return t.configured(answer, o.name)
}

// growthOf is what the licence is asked to allow.
func growthOf(stripes []wire.StripeConfig) license.Growth {
	g := license.Growth{Stripes: len(stripes), Version: config.Version}
	for _, s := range stripes {
		g.Offheap = append(g.Offheap, offheapOf(s))
		g.Largest = max(g.Largest, largestOffheap(s))
		g.Security = g.Security || s.Security
	}
	return g
}

// sendConfigure asks a server of the stripe to form it. A connection that
// breaks may be asked again: the same name and licence change nothing twice.
func (t *tool) sendConfigure(ctx context.Context, s *stripe, password string, r *wire.ConfigureRequest) (wire.ConfigureAnswer, error) {
	host := s.reached()[0].host
	ctx, c, err := t.contactServer(ctx, host, password)
	if err != nil {
		return wire.ConfigureAnswer{}, err
	}
	defer c.Close()
	a, err := c.Configure(ctx, r)
	if err = c.why(err); err != nil {
		e := *asToolError(err)
		if e.Code == codeFailure { // not a refusal: the way to the server failed
			e.Code, e.Message = codeBadGateway, reason(err)
			e.Hint = "it is not known whether the cluster was configured; configure may be repeated without harm"
		}
		e.Message = "server " + host + ": " + e.Message
		return a, &e
	}
	return a, nil
}

// configured prints the lines of success, those of the original.
func (t *tool) configured(a wire.ConfigureAnswer, name string) error {
	if a.License == "identical" {
		fmt.Fprintln(t.stdout, "License not updated (Reason: Identical to previously installed license)")
	} else {
		fmt.Fprintln(t.stdout, "License installation successful")
	}
	if a.Configured {
		fmt.Fprintln(t.stdout, "Configuration successful")
	} else {
		fmt.Fprintf(t.stdout, "Configuration not changed (Reason: The cluster %q is configured already, with this licence)\n", name)
	}
	_, err := fmt.Fprintln(t.stdout, "Command completed successfully.")
	return err
}
