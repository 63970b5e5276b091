package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/internal/wire"
)

type dumpOptions struct {
	target
	output string
}

func (t *tool) dumpCommand() *cobra.Command {
	var o dumpOptions
	cmd := &cobra.Command{
		Use: "dump",
		Annotations: map[string]string{forms: "dump [-n NAME] [-o json|text] -s HOST[:PORT]...\n" +
			"dump [-n NAME] [-o json|text] HOST[:PORT]..."},
		Short: "Write the state of servers to their logs",
		Long: `Have servers write their state to their logs, for whoever must find out what is
wrong: role, log and lag, the servers of the stripe, datasets with counts and bytes,
off-heap memory as accounted and as really taken, process memory, joined
application nodes, licence and settings. No session, no user and no secret is in
it. With -o it is printed here, too.

Without -n, the servers that are named. With -n, all servers of the cluster NAME.`,
		Example: `  cluster-tool dump -s terracotta
  cluster-tool dump -n MyCluster -s terracotta -o text
  cluster-tool dump -s terracotta -o json | jq '.[].engine'`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.hosts, err = serverArguments("dump", o.hosts, args); err != nil {
				return err
			}
			switch o.output = strings.ToLower(o.output); o.output {
			case "", "json", "text":
			default:
				return fail(codeBadRequest, "output form %q is neither json nor text", o.output)
			}
			return t.reach(cmd.Context(), &o.target, func(ctx context.Context) error { return t.dump(ctx, o) })
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.name, "name", "n", "", "`NAME` of the cluster: all its servers")
	f.StringVarP(&o.output, "output", "o", "", "print it here as well: json or text")
	serverFlag(cmd, &o.hosts)
	return cmd
}

func (t *tool) dump(ctx context.Context, o dumpOptions) error {
	hosts := o.hosts
	if o.name != "" {
		cluster, answers, err := t.findCluster(ctx, o.name, o.hosts, o.password)
		if err != nil {
			return err
		}
		hosts = clusterHosts(cluster, answers)
	}
	said := t.stdout
	if o.output == "json" {
		said = t.stderr // stdout is one document
	}
	doc := object{}
	var failed []answer
	for _, h := range hosts {
		form := "JSON"
		if o.output == "text" {
			form = "TEXT"
		}
		lines, err := t.ask(ctx, h, o.password, []byte(wire.CmdDump), []byte(form), []byte("LOG"))
		if err == nil && form == "JSON" && (len(lines) != 1 || !json.Valid(lines[0])) {
			err = fail(codeInternal, "the answer is not one document")
		}
		if err != nil {
			fmt.Fprintf(t.stderr, "%s: Dump failed: %s\n", h, printable(reason(err)))
			failed = append(failed, answer{host: h, err: err})
			continue
		}
		fmt.Fprintf(said, "%s: Dump successful\n", h)
		switch o.output {
		case "text":
			for _, l := range lines {
				fmt.Fprintf(t.stdout, "  %s\n", printable(string(l)))
			}
		case "json":
			doc = append(doc, member{h, json.RawMessage(lines[0])})
		}
	}
	if o.output == "json" {
		if err := writeJSON(t.stdout, doc); err != nil {
			return err
		}
	}
	if ctx.Err() == context.Canceled {
		return ctx.Err()
	}
	return partial("dump", len(hosts), failed)
}
