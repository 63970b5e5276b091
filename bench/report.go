package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// report gathers tables and prints each line as it comes.
type report struct {
	out    io.Writer
	tables []*table
}

type table struct {
	r       *report
	title   string
	about   string
	columns []string
	rows    [][]string
}

func (r *report) table(title, about string, columns ...string) *table {
	t := &table{r: r, title: title, about: about, columns: columns}
	r.tables = append(r.tables, t)
	fmt.Fprintf(r.out, "\n%s\n%s\n", title, strings.Join(columns, " | "))
	return t
}

func (t *table) add(cells ...string) {
	t.rows = append(t.rows, cells)
	fmt.Fprintln(t.r.out, strings.Join(cells, " | "))
}

// markdown returns the page docs/benchmarks.md.
func (r *report) markdown(about string) []byte {
	var b bytes.Buffer
	b.WriteString("# Benchmarks\n\n<!-- Written by make bench (short) and make bench-long; don't edit. -->\n\n")
	b.WriteString("Each line runs us and the peer in turn (A B A B ...), with the load generator and all servers on one machine. Figures are\n" +
		"medians of the rounds, a ratio is the median of the rounds' ratios: ours divided by the peer's. Ratios count, absolute\n" +
		"figures don't: other machines have others, and this one was doing other work too.\n\n")
	b.WriteString(about)
	for _, t := range r.tables {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", t.title, t.about)
		line(&b, t.columns)
		line(&b, strings.Split(strings.Repeat("---,", len(t.columns)-1)+"---", ","))
		for _, row := range t.rows {
			line(&b, row)
		}
	}
	return b.Bytes()
}

func line(b *bytes.Buffer, cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }

// machine describes where and with what the figures were taken.
func machine(command string) string {
	redis := firstLine(exec.Command("redis-server", "--version"))
	kernel := firstLine(exec.Command("uname", "-sr"))
	commit := firstLine(exec.Command("git", "rev-parse", "--short", "HEAD"))
	cpu, memory := "unknown", "unknown"
	for _, l := range lines("/proc/cpuinfo") {
		if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	for _, l := range lines("/proc/meminfo") {
		if f := strings.Fields(l); len(f) == 3 && f[0] == "MemTotal:" {
			memory = f[1] + " kB"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "- Taken %s at commit %s by `%s`\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"), commit, command)
	fmt.Fprintf(&b, "- Machine: %d × %s, %s of memory, %s\n", runtime.NumCPU(), cpu, memory, kernel)
	fmt.Fprintf(&b, "- %s; %s\n", runtime.Version(), redis)
	fmt.Fprintf(&b, "- Peers' versions: %s\n", strings.Join(peers(), ", "))
	return b.String()
}

func firstLine(cmd *exec.Cmd) string {
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first)
}

func lines(file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return strings.Split(string(b), "\n")
}

// rate shows operations per second.
func rate(list []sample) string { return thousands(medianOf(list, perSecond)) }

func thousands(v float64) string {
	switch {
	case v >= 100e3:
		return fmt.Sprintf("%.0fk", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.1fk", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}

// tails shows the median and the 99th percentile of a call's time.
func tails(list []sample) string {
	p50 := medianOf(list, func(s sample) float64 { return float64(s.p50) })
	p99 := medianOf(list, func(s sample) float64 { return float64(s.p99) })
	return micros(p50) + " / " + micros(p99)
}

// perCall shows the processor time of one call.
func perCall(list []sample) string {
	return fmt.Sprintf("%.1f µs", medianOf(list, func(s sample) float64 { return float64(s.cpu) })/1e3)
}

func micros(ns float64) string {
	if ns >= 10e6 {
		return fmt.Sprintf("%.1f ms", ns/1e6)
	}
	return fmt.Sprintf("%.0f µs", ns/1e3)
}

func barText(bar float64) string {
	if bar == 0 {
		return ""
	}
	return fmt.Sprintf("≥ %.1f", bar)
}
