package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// abortTime bounds the cleaning up after a backup that failed.
const abortTime = 10 * time.Second

func (t *tool) backupCommand() *cobra.Command {
	var o target
	cmd := &cobra.Command{
		Use:         "backup",
		Annotations: map[string]string{forms: "backup -n NAME -s HOST[:PORT]..."},
		Short:       "Back up a cluster while it runs",
		Long: `Have the active server of each stripe of the cluster NAME write a backup of all
that the stripe remembers, configuration and licence included, into its backup
location (TC_BACKUP_LOCATION, or backup-location in tc-config). Sessions are served
meanwhile; the backup is the state of one moment. It appears under its name when it
is whole and was read back, or not at all. Only active servers back up.

terracotta-server restore makes a server start from it.`,
		Example: `  cluster-tool backup -n MyCluster -s terracotta-1`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.cluster("backup"); err != nil {
				return err
			}
			return t.reach(cmd.Context(), &o, func(ctx context.Context) error { return t.backup(ctx, o) })
		},
	}
	cmd.Flags().StringVarP(&o.name, "name", "n", "", "`NAME` of the cluster")
	serverFlag(cmd, &o.hosts)
	return cmd
}

// backup takes each stripe's active through the steps, all of them through one
// before the next, as the original does.
func (t *tool) backup(ctx context.Context, o target) error {
	cluster, contacted, err := t.findCluster(ctx, o.name, o.hosts, o.password)
	if err != nil {
		return err
	}
	actives, passives, err := t.awaitActives(ctx, cluster, contacted, o.password)
	if err != nil {
		return err
	}
	name := backupName(cluster.Name, time.Now())
	fmt.Fprintf(t.stdout, "PHASE 0: SETTING BACKUP NAME TO : %s\n", name)
	var written []wire.BackupAnswer
	for i, phase := range []struct{ step, title string }{
		{wire.BackupPrepare, "PREPARE_FOR_BACKUP"}, {wire.BackupEnter, "ENTER_ONLINE_BACKUP_MODE"}, {wire.BackupStart, "START_BACKUP"},
	} {
		fmt.Fprintf(t.stdout, "\nPHASE (%d/3): %s\n", i+1, phase.title)
		if phase.step == wire.BackupPrepare {
			for _, h := range passives {
				fmt.Fprintf(t.stdout, "%s: NOOP\n", h)
			}
		}
		for _, h := range actives {
			a, err := t.backupStep(ctx, h, o.password, phase.step, name)
			if err != nil {
				fmt.Fprintf(t.stdout, "%s: FAILURE\n", h)
				return t.abortBackup(actives, o.password, name, h, err)
			}
			fmt.Fprintf(t.stdout, "%s: SUCCESS\n", h)
			if phase.step == wire.BackupStart {
				written = append(written, a)
			}
		}
	}
	fmt.Fprintln(t.stdout)
	for i, a := range written {
		fmt.Fprintf(t.stdout, "%s: %s, %d bytes, SHA-256 %s\n", actives[i], printable(a.File), a.Bytes, printable(a.SHA256))
	}
	_, err = fmt.Fprintln(t.stdout, "Command completed successfully.")
	return err
}

// backupName names the backup for its cluster and moment, as a file may be called.
func backupName(cluster string, now time.Time) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, cluster)
	return clean[:min(len(clean), 64)] + "-" + now.UTC().Format("20060102T150405.000Z")
}

// electionTime is how long a stripe may be without an active server before it is a fault.
const electionTime = 5 * time.Second

// awaitActives is activesOf, with patience for an election.
func (t *tool) awaitActives(ctx context.Context, cluster *wire.Cluster, contacted []answer, password string) (actives, others []string, err error) {
	p := newProgress(t.stderr)
	defer p.clear()
	for until := time.Now().Add(electionTime); ; {
		if actives, others, err = t.activesOf(ctx, cluster, contacted, password); err == nil || time.Now().After(until) {
			return actives, others, err
		}
		p.show("waiting for an active server")
		if !pause(ctx, retryPause/2) {
			return nil, nil, err
		}
	}
}

// activesOf finds the active server of each stripe, and the others that answer.
func (t *tool) activesOf(ctx context.Context, cluster *wire.Cluster, contacted []answer, password string) (actives, others []string, err error) {
	members := t.probeAll(ctx, clusterHosts(cluster, contacted), password)
	next := 0
	for i, stripe := range cluster.Stripes {
		var found, states []string
		for range stripe.Servers {
			a := members[next]
			next++
			switch {
			case a.err != nil:
				states = append(states, a.host+": "+reason(a.err))
			case active(a.status) && a.status.State != wire.StateActiveSuspended:
				found = append(found, a.host)
			default:
				states = append(states, a.host+": "+a.status.State)
				others = append(others, a.host)
			}
		}
		if len(found) != 1 {
			return nil, nil, fail(codeBadGateway, "stripe %d has no active server that answers (%s)", i+1, strings.Join(states, "; ")).
				hint("only active servers back up; cluster-tool status -n %q shows all of them", cluster.Name)
		}
		actives = append(actives, found[0])
	}
	return actives, others, nil
}

// backupStep asks for one step, with a dotted line while it runs.
func (t *tool) backupStep(ctx context.Context, host, password, step, name string) (a wire.BackupAnswer, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var parts [][]byte
		if parts, err = t.ask(ctx, host, password, []byte(wire.CmdBackup), []byte(step), []byte(name)); err != nil {
			return
		}
		if len(parts) != 1 || json.Unmarshal(parts[0], &a) != nil {
			err = fail(codeInternal, "the answer to %s is not one document", step)
		}
	}()
	dots := 0
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			if dots > 0 {
				fmt.Fprintln(t.stdout)
			}
			return a, err
		case <-tick.C:
			dots++
			fmt.Fprint(t.stdout, ".")
		}
	}
}

// abortBackup ends the backup everywhere and says why it failed at host. It takes
// its own time: the tool's may be over.
func (t *tool) abortBackup(actives []string, password, name, host string, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), abortTime)
	defer cancel()
	fmt.Fprint(t.stdout, "\nPHASE (CLEANUP): ABORT_BACKUP\n")
	for _, h := range actives {
		if _, err := t.backupStep(ctx, h, password, wire.BackupAbort, name); err != nil {
			fmt.Fprintf(t.stdout, "%s: FAILURE\n", h)
			fmt.Fprintf(t.stderr, "%s: the backup could not be cleaned up: %s\n", h, printable(reason(err)))
			continue
		}
		fmt.Fprintf(t.stdout, "%s: SUCCESS\n", h)
	}
	if errors.Is(cause, context.Canceled) {
		return cause
	}
	e := *asToolError(cause)
	e.Message = "backup failed on " + host + ": " + e.Message
	return &e
}
