package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// version is a server of ours as it is compared with others: its binary, and
// what its environment has besides.
type version struct {
	name, binary string
	env          []string
}

// parseVersion reads NAME=BINARY, or NAME=BINARY,VARIABLE=VALUE,...; without a
// binary it is the server of these sources.
func parseVersion(s string) (v version, err error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return v, fmt.Errorf("%q is not NAME=BINARY", s)
	}
	words := strings.Split(rest, ",")
	return version{name, words[0], words[1:]}, nil
}

// versions compares servers of ours with each other: the same client, SET and
// GET of 1 KiB, without disk, or with a sync per write where -durability says so.
func versions(ctx context.Context, b *bench) error {
	if len(b.versions) == 0 {
		return nil
	}
	var list []counted
	for _, v := range b.versions {
		t := *b.tc
		if v.binary != "" {
			t.binary = v.binary
		}
		s, err := t.start(ctx, b.dir("terracotta"), b.durability, v.env...)
		if err != nil {
			return err
		}
		defer func() { _ = s.stop() }()
		k, err := newOwnKeys(ctx, s)
		if err != nil {
			return err
		}
		defer func() { _ = k.c.Close() }()
		entries := func(ctx context.Context) (uint64, error) {
			d, err := k.c.Dump(ctx)
			return d.Engine.Applied, err
		}
		list = append(list, counted{load{v.name + " SET", s.process, k.set}, entries}, counted{load{v.name + " GET", s.process, k.get}, entries})
	}
	t := b.report.table("Versions of our server, "+b.durability, "",
		"command", "callers", "server", "operations/s", "ratio", "p50 / p99", "CPU server", "CPU client", "switches server", "switches client", "per entry")
	for i, command := range []string{"SET", "GET"} {
		if b.command != "" && b.command != command {
			continue
		}
		var loads []counted
		for n := i; n < len(list); n += 2 {
			loads = append(loads, list[n])
		}
		for _, callers := range b.some(1, 4, 16, 64, 256) {
			if err := b.versionsInTurn(ctx, t, command, callers, loads); err != nil {
				return err
			}
		}
	}
	return nil
}

// counted is a load whose server tells how many entries its log has had.
type counted struct {
	load
	entries func(context.Context) (uint64, error)
}

// used is what the server of a load, and then this process, have used so far.
type used struct {
	cpu      [2]time.Duration
	switches [2]uint64 // voluntary ones of all threads
}

func (l load) used() (u used, err error) {
	var own syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &own) // cannot fail for this process
	u.cpu[1] = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	u.switches[1] = uint64(own.Nvcsw)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", l.server.cmd.Process.Pid))
	for _, task := range tasks {
		doc, err := os.ReadFile(task + "/status")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		for line := range bytes.Lines(doc) {
			if rest, ok := bytes.CutPrefix(line, []byte("voluntary_ctxt_switches:")); ok {
				n, _ := strconv.ParseUint(string(bytes.TrimSpace(rest)), 10, 64)
				u.switches[0] += n
			}
		}
		if doc, err = os.ReadFile(task + "/schedstat"); err == nil {
			n, _ := strconv.ParseUint(strings.Fields(string(doc))[0], 10, 64)
			u.cpu[0] += time.Duration(n)
		}
	}
	return u, err
}

// measured is a sample with what each end used for one call.
type measured struct {
	sample
	per     [2]time.Duration
	changes [2]float64
	entries float64 // of the log, for one call
}

// versionsInTurn runs the loads in turn, every other round in the opposite order.
func (b *bench) versionsInTurn(ctx context.Context, t *table, command string, callers int, loads []counted) error {
	got := make([][]measured, len(loads))
	for round := range b.rounds + 1 {
		for i := range loads {
			if round%2 == 1 {
				i = len(loads) - 1 - i
			}
			l, length := loads[i], b.length
			if round == 0 {
				length /= 4
			}
			first, err := l.entries(ctx)
			if err != nil {
				return err
			}
			before, err := l.used()
			if err != nil {
				return err
			}
			began := time.Now()
			s, err := turn(ctx, l.load, callers, length)
			if err != nil {
				return err
			}
			took := time.Since(began)
			after, err := l.used()
			if err != nil {
				return err
			}
			if round == 0 {
				continue
			}
			last, err := l.entries(ctx)
			if err != nil {
				return err
			}
			calls := s.perSecond * took.Seconds()
			m := measured{sample: s, entries: float64(last-first) / calls}
			for e := range 2 {
				m.per[e] = time.Duration(float64(after.cpu[e]-before.cpu[e]) / calls)
				m.changes[e] = float64(after.switches[e]-before.switches[e]) / calls
			}
			got[i] = append(got[i], m)
		}
	}
	mid := func(i int, f func(measured) float64) float64 {
		var v []float64
		for _, m := range got[i] {
			v = append(v, f(m))
		}
		return median(v)
	}
	for i, l := range loads {
		var ratios []float64
		for r := range got[i] {
			ratios = append(ratios, got[i][r].perSecond/got[0][r].perSecond)
		}
		us := func(e int) string {
			return fmt.Sprintf("%.2f µs", mid(i, func(m measured) float64 { return float64(m.per[e]) })/1e3)
		}
		sw := func(e int) string {
			return fmt.Sprintf("%.3f", mid(i, func(m measured) float64 { return m.changes[e] }))
		}
		p50 := time.Duration(mid(i, func(m measured) float64 { return float64(m.p50) }))
		p99 := time.Duration(mid(i, func(m measured) float64 { return float64(m.p99) }))
		t.add(command, fmt.Sprint(callers), strings.Fields(l.name)[0], fmt.Sprintf("%.0f", mid(i, func(m measured) float64 { return m.perSecond })),
			fmt.Sprintf("%.2f", median(ratios)), fmt.Sprintf("%v / %v", p50.Round(time.Microsecond), p99.Round(time.Microsecond)), us(0), us(1), sw(0), sw(1),
			fmt.Sprintf("%.1f", 1/mid(i, func(m measured) float64 { return m.entries })))
	}
	return nil
}
