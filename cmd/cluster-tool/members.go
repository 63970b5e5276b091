package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// absentPatience is how long configure waits for servers that did not answer the
// tool: they may only be unreachable from here, and join all the same.
const absentPatience = 5 * time.Second

// awaitMembers waits until the servers of the stripes have joined. Those that
// answered the tool must, within -t, or it is a PARTIAL_FAILURE; of the others it
// warns.
func (t *tool) awaitMembers(ctx context.Context, cluster string, stripes []*stripe, password string) error {
	p := newProgress(t.stderr)
	defer p.clear()
	began := time.Now()
	for _, s := range stripes {
		if len(s.config.Servers) < 2 {
			continue
		}
		var waiting []string // for these servers; or why that is not known
		for {
			late, absent, err := t.notJoined(ctx, s, password)
			if err == nil && len(late) == 0 && (len(absent) == 0 || time.Since(began) >= absentPatience) {
				p.clear()
				for _, a := range absent {
					fmt.Fprintf(t.stderr, "Warning: %s has not joined yet; it will when it is started and reaches the others\n", printable(a))
				}
				break
			}
			switch {
			case err == nil:
				waiting = append(slices.Clone(late), absent...)
			case waiting == nil || ctx.Err() == nil: // a question that the end of the time cut off tells less than the one before
				waiting = []string{reason(err)}
			}
			if ctx.Err() == nil {
				p.show("waiting for " + strings.Join(waiting, ", ") + " to join")
			}
			if pause(ctx, retryPause/2) {
				continue
			}
			if !errors.Is(context.Cause(ctx), errTimeout) {
				return ctx.Err()
			}
			return fail(codePartial, "the cluster %q is configured, but not all of its servers have joined within %v: %s", cluster, t.timeout(), strings.Join(waiting, ", ")).
				hint("their logs say why; they go on trying, and configure may be repeated to wait again")
		}
	}
	return nil
}

// notJoined lists the servers of s that have not joined, with their states: late
// ones answered the tool at first, absent ones did not.
func (t *tool) notJoined(ctx context.Context, s *stripe, password string) (late, absent []string, err error) {
	var members []wire.MemberStatus
	for _, a := range s.reached() {
		var st wire.Status
		if st, err = t.probe(ctx, a.host, password); err != nil {
			continue
		}
		if active(st) && st.Cluster != nil {
			members = st.Members
			break
		}
		err = fail(codeBadGateway, "%s: %s", a.host, st.State)
	}
	if err != nil && members == nil {
		return nil, nil, err
	}
	for _, server := range s.config.Servers {
		state := "not heard of"
		if i := slices.IndexFunc(members, func(m wire.MemberStatus) bool { return m.Name == server.Name }); i >= 0 {
			if wire.InService(members[i].State) {
				continue
			}
			state = members[i].State
		}
		line := server.Name + ": " + state
		if slices.ContainsFunc(s.reached(), func(a answer) bool { return a.status.Server.Name == server.Name }) {
			late = append(late, line)
		} else {
			absent = append(absent, line)
		}
	}
	return late, absent, nil
}
