package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

type statusOptions struct {
	target
	output string
}

func (t *tool) statusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use: "status",
		Annotations: map[string]string{forms: "status [-n NAME] [-o json|tabular] -s HOST[:PORT]...\n" +
			"status [-n NAME] [-o json|tabular] HOST[:PORT]..."},
		Short: "Show servers, or a whole cluster",
		Long: `Show how servers are. Without -n each server that is named is shown for itself,
configured or not. With -n the whole cluster NAME is shown, found through any of
the servers that are named.

The exit status is 0 when all servers answer, 1 when some are UNREACHABLE and 52
when none answers. With -n it is 40 when the servers are not configured and 49
when they belong to another cluster.

The words of the state: STARTING, UNINITIALIZED, SYNCHRONIZING, ACTIVE,
ACTIVE_RECONNECTING, ACTIVE_SUSPENDED, PASSIVE, PASSIVE_SUSPENDED,
START_SUSPENDED, UNREACHABLE, UNKNOWN.`,
		Example: `  cluster-tool status -s terracotta
  cluster-tool status terracotta-1 terracotta-2
  cluster-tool status -n MyCluster -s terracotta
  cluster-tool status -n MyCluster -s terracotta -o json | jq '."stripes-information"'`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.hosts, err = serverArguments("status", o.hosts, args); err != nil {
				return err
			}
			if o.output, err = outputForm(o.output); err != nil {
				return err
			}
			show := t.serverStatus
			if o.name != "" {
				show = t.clusterStatus
			}
			return t.reach(cmd.Context(), &o.target, func(ctx context.Context) error { return show(ctx, o) })
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.name, "name", "n", "", "`NAME` of the cluster to show whole")
	f.StringVarP(&o.output, "output", "o", "tabular", "`form` of the output: json or tabular")
	serverFlag(cmd, &o.hosts)
	return cmd
}

func outputForm(s string) (string, error) {
	switch form := strings.ToLower(s); form {
	case "json", "tabular":
		return form, nil
	}
	return "", fail(codeBadRequest, "output form %q is neither json nor tabular", s)
}

// serverRow is a server in the form without -n.
type serverRow struct {
	Status     string `json:"status"`
	Member     string `json:"member-of-cluster"`
	Additional string `json:"additional-information"` // notes and warnings

	notes []string // without the server's warnings
}

// serverStatus shows each named server for itself.
func (t *tool) serverStatus(ctx context.Context, o statusOptions) error {
	answers := t.probeAll(ctx, o.hosts, o.password)
	if ctx.Err() == context.Canceled {
		return ctx.Err()
	}
	rows := make([]serverRow, len(answers))
	var failed []answer
	for i, a := range answers {
		if a.err != nil {
			failed = append(failed, a)
		}
		rows[i] = describe(a)
	}
	var err error
	if o.output == "json" {
		doc := make(object, len(rows))
		for i, r := range rows {
			doc[i] = member{answers[i].host, r}
		}
		err = writeJSON(t.stdout, doc)
	} else {
		table := [][]string{{"Host-Port", "Status", "Member of Cluster", "Additional Information"}}
		for i, r := range rows {
			table = append(table, []string{answers[i].host, r.Status, r.Member, orDash(r.notes)})
		}
		err = errors.Join(writeTable(t.stdout, table), writeWarnings(t.stdout, answers))
	}
	if err != nil {
		return err
	}
	return missing(len(answers), failed)
}

// missing is the verdict of status: SUCCESS, PARTIAL_FAILURE or BAD_GATEWAY.
func missing(asked int, failed []answer) error {
	switch len(failed) {
	case 0:
		return nil
	case asked:
		return unreachable(failed)
	}
	var list []string
	for _, a := range failed {
		list = append(list, a.host+" ("+reason(a.err)+")")
	}
	return fail(codePartial, "%d of %d servers do not answer: %s", len(failed), asked, strings.Join(list, ", "))
}

// describe puts an answer into words.
func describe(a answer) serverRow {
	if a.err != nil {
		state := wire.StateUnreachable
		if lasting(a.err) { // it is there, but does not tell us
			state = wire.StateUnknown
		}
		why := []string{reason(a.err)}
		return serverRow{state, "-", orDash(why), why}
	}
	row := serverRow{Status: a.status.State, Member: "-"}
	if c := a.status.Cluster; c != nil {
		row.Member = c.Name
	} else if wire.Unread(a.status.State) {
		row.notes = append(row.notes, "cluster not known yet")
	} else {
		row.notes = append(row.notes, "not configured")
	}
	if l := a.status.License; l != nil && l.State != string(license.Valid) {
		row.notes = append(row.notes, "licence "+l.State+", expires "+l.Expires)
	}
	row.Additional = orDash(slices.Concat(row.notes, a.status.Warnings))
	return row
}

func orDash(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, "; ")
}

// writeWarnings writes below a table what servers warn of: in a cell it would
// make every line too long. What several servers say is written once.
func writeWarnings(w io.Writer, answers []answer) error {
	var texts []string
	warners := map[string][]string{} // text -> hosts
	for _, a := range answers {
		for _, text := range a.status.Warnings {
			if warners[text] == nil {
				texts = append(texts, text)
			}
			if !slices.Contains(warners[text], a.host) {
				warners[text] = append(warners[text], a.host)
			}
		}
	}
	for _, text := range texts {
		who := strings.Join(warners[text], ", ") + " warn"
		switch len(warners[text]) {
		case 1:
			who += "s"
		case len(answers):
			who = "all servers warn"
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", who, printable(text)); err != nil {
			return err
		}
	}
	return nil
}

// clusterSummary is the head of the form with -n.
type clusterSummary struct {
	Name            string `json:"cluster-name"`
	Stripes         int    `json:"number-of-stripes"`
	Servers         int    `json:"total-number-of-servers"`
	Offheap         string `json:"total-configured-offheap"`
	DataDirectories string `json:"data-directories-configured"`
	Backup          bool   `json:"backup-configured"`
	Security        bool   `json:"security-configured"`
}

// memberRow is a server in the form with -n.
type memberRow struct {
	Name   string `json:"server-name"`
	Status string `json:"status"`
}

// clusterStatus shows the whole cluster o.name.
func (t *tool) clusterStatus(ctx context.Context, o statusOptions) error {
	cluster, contacted, err := t.findCluster(ctx, o.name, o.hosts, o.password)
	if err != nil {
		return err
	}
	members := t.probeAll(ctx, clusterHosts(cluster, contacted), o.password)
	if ctx.Err() == context.Canceled {
		return ctx.Err()
	}
	stripes, failed := memberStates(cluster, members)
	if o.output == "json" {
		err = writeJSON(t.stdout, clusterDocument(cluster, stripes))
	} else {
		err = errors.Join(writeCluster(t.stdout, cluster, stripes), writeWarnings(t.stdout, members))
	}
	if err != nil {
		return err
	}
	return missing(len(members), failed)
}

// memberStates puts the answers, which are in the cluster's order, in the
// stripes' places, and lists the members that did not answer as themselves.
func memberStates(cluster *wire.Cluster, members []answer) (stripes [][]memberRow, failed []answer) {
	next := 0
	for _, stripe := range cluster.Stripes {
		var rows []memberRow
		for _, s := range stripe.Servers {
			a := members[next]
			next++
			a.host = serverHost(s)
			row := memberRow{s.Name, a.status.State}
			switch {
			case a.err != nil:
				row.Status = describe(a).Status
				failed = append(failed, a)
			case a.status.Cluster == nil && wire.Unread(a.status.State): // it is one, or says later that it is not
			case a.status.Cluster == nil || a.status.Cluster.Name != cluster.Name:
				row.Status = wire.StateUnknown
				a.err = &wire.Error{Word: wire.ErrConflict, Text: "the server there is not a member of the cluster"}
				failed = append(failed, a)
			}
			rows = append(rows, row)
		}
		stripes = append(stripes, rows)
	}
	return stripes, failed
}

func summarize(c *wire.Cluster) clusterSummary {
	s := clusterSummary{Name: c.Name, Stripes: len(c.Stripes)}
	var total uint64
	var directories []string
	for i, stripe := range c.Stripes {
		s.Servers += len(stripe.Servers)
		total += offheapOf(stripe)
		s.Backup = s.Backup || stripe.BackupLocation != ""
		s.Security = s.Security || stripe.Security
		for _, d := range stripe.DataDirectories {
			if i == 0 { // the same in all stripes: configure holds that
				directories = append(directories, d.Name)
			}
		}
	}
	s.Offheap = shortSize(total)
	s.DataDirectories = strings.Join(directories, ", ")
	return s
}

func writeCluster(w io.Writer, c *wire.Cluster, stripes [][]memberRow) error {
	s := summarize(c)
	directories := s.DataDirectories
	if directories == "" {
		directories = "none"
	}
	fmt.Fprintf(w, "Cluster name: %s\nNumber of stripes: %d\nTotal number of servers: %d\nTotal configured offheap: %s\n",
		s.Name, s.Stripes, s.Servers, s.Offheap)
	fmt.Fprintf(w, "Data directories configured: %s\nBackup configured: %t\nSecurity configured: %t\n", directories, s.Backup, s.Security)
	for i, rows := range stripes {
		fmt.Fprintf(w, "\n| STRIPE: %d |\n", i+1)
		table := [][]string{{"Server Name", "Host-Port", "Status"}}
		for j, r := range rows {
			table = append(table, []string{r.Name, serverHost(c.Stripes[i].Servers[j]), r.Status})
		}
		if err := writeTable(w, table); err != nil {
			return err
		}
	}
	return nil
}

func clusterDocument(c *wire.Cluster, stripes [][]memberRow) any {
	list := make([]object, len(stripes))
	for i, rows := range stripes {
		list[i] = object{}
		for j, r := range rows {
			list[i] = append(list[i], member{serverHost(c.Stripes[i].Servers[j]), r})
		}
	}
	return struct {
		Configuration clusterSummary `json:"cluster-configuration"`
		Stripes       []object       `json:"stripes-information"`
	}{summarize(c), list}
}
