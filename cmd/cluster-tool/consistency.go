package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// comesLater goes with every mention of reconfigure until it is there (later.go).
const comesLater = " (in a later version)"

// alreadyConfigured reports whether the stripes are the cluster called name with
// this licence already. It fails when they, or some of them, are another one.
func alreadyConfigured(name, licenseSHA256 string, stripes []*stripe) (bool, error) {
	members, all := 0, 0
	for _, s := range stripes {
		all++
		member := false
		for _, a := range s.reached() {
			c := a.status.Cluster
			switch {
			case c == nil:
				continue
			case c.Name != name:
				return false, fail(codeConfigured, "server %s belongs to the cluster %q already", a.host, c.Name).
					hint("to change that cluster is for cluster-tool reconfigure -n %q%s; a new cluster needs servers with empty data directories", c.Name, comesLater)
			case a.status.License == nil || a.status.License.SHA256 != licenseSHA256:
				return false, fail(codeConfigured, "the cluster %q is configured already, with another licence%s", name, installedLicense(a.status.License)).
					hint("to install another licence is for cluster-tool reconfigure -n %q -l LICENSE -s %s%s", name, a.host, comesLater)
			case len(c.Stripes) != len(stripes):
				return false, fail(codeConfigured, "the cluster %q is configured already, with %d stripes and not %d", name, len(c.Stripes), len(stripes)).
					hint("cluster-tool status -n %q -s %s shows it; to change it is for cluster-tool reconfigure%s", name, a.host, comesLater)
			}
			member = true
		}
		if member {
			members++
		}
	}
	return members == all, nil
}

func installedLicense(l *wire.LicenseStatus) string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf(" (serial number %s, expires %s)", printable(l.SerialNumber), printable(l.Expires))
}

func duplicateStripe(why string) error {
	return fail(codeBadRequest, "Duplicate stripe when creating cluster: %s", why).
		hint("name each stripe once: one tc-config file per stripe, or servers by different -s")
}

// checkDuplicates refuses two stripes that share a server.
func checkDuplicates(stripes []*stripe) error {
	owner := map[string]string{} // host:port -> stripe that has it
	for _, s := range stripes {
		for _, server := range s.config.Servers {
			h := strings.ToLower(serverHost(server))
			if other, taken := owner[h]; taken {
				return duplicateStripe(fmt.Sprintf("%s is in %s and in %s", serverHost(server), other, s.from))
			}
			owner[h] = s.from
		}
	}
	return nil
}

// checkAcross compares all stripes with the first.
func checkAcross(stripes []wire.StripeConfig) error {
	for i, s := range stripes[1:] {
		if err := mismatch("stripe 1", stripes[0], fmt.Sprintf("stripe %d", i+2), s); err != nil {
			return err
		}
	}
	return nil
}

// compare checks that one stripe, as a and as b tell it, is the same, its servers included.
func compare(a string, x wire.StripeConfig, b string, y wire.StripeConfig) error {
	if err := mismatch(a, x, b, y); err != nil {
		return err
	}
	byName := func(p, q wire.ServerConfig) int { return cmp.Compare(p.Name, q.Name) }
	xs, ys := slices.SortedFunc(slices.Values(x.Servers), byName), slices.SortedFunc(slices.Values(y.Servers), byName)
	if !slices.Equal(xs, ys) {
		return mismatched("servers", a, serverList(xs), b, serverList(ys))
	}
	return nil
}

// mismatch checks what the servers of a cluster must have in common.
func mismatch(a string, x wire.StripeConfig, b string, y wire.StripeConfig) error {
	for _, row := range []struct {
		what string
		of   func(wire.StripeConfig) string
	}{
		{"off-heap resources", resourceList},
		{"data directories", directoryList},
		{"failover priority", failover},
		{"security configuration", func(s wire.StripeConfig) string {
			if s.Security {
				return "configured"
			}
			return "none"
		}},
	} {
		if p, q := row.of(x), row.of(y); p != q {
			return mismatched(row.what, a, p, b, q)
		}
	}
	return nil
}

func mismatched(what, a, x, b, y string) error {
	return fail(codeBadRequest, "Mismatched %s: %s has %s; %s has %s", what, a, x, b, y).
		hint("start all servers with the same configuration, and configure with that one")
}

func resourceList(s wire.StripeConfig) string {
	var list []string
	for _, r := range s.OffheapResources {
		list = append(list, fmt.Sprintf("%q of %s", r.Name, shortSize(r.Size)))
	}
	return joined(list)
}

// directoryList leaves out the paths, which may differ from server to server.
func directoryList(s wire.StripeConfig) string {
	var list []string
	for _, d := range s.DataDirectories {
		name := fmt.Sprintf("%q", d.Name)
		if d.Platform {
			name += " (platform)"
		}
		list = append(list, name)
	}
	return joined(list)
}

func failover(s wire.StripeConfig) string {
	switch {
	case s.FailoverPriority == "":
		return "none"
	case s.Voters > 0:
		return fmt.Sprintf("%s with %d voters", s.FailoverPriority, s.Voters)
	}
	return s.FailoverPriority
}

func serverList(servers []wire.ServerConfig) string {
	var list []string
	for _, s := range servers {
		list = append(list, fmt.Sprintf("%q at %s", s.Name, serverHost(s)))
	}
	return joined(list)
}

func joined(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
