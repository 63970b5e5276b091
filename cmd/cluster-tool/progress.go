package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

const (
	repeatAfter = 10 * time.Second // how long an unchanged state stays unsaid in a log
	maxLine     = 70               // characters of a line on a terminal, before the seconds
)

// progress tells what a command waits for. On a terminal one line changes in
// place; in a log a line appears when the state changes, and now and then again.
// It is for one goroutine.
type progress struct {
	w        io.Writer
	terminal bool
	started  time.Time
	last     string
	at       time.Time
	shown    bool // terminal: a line stands there that must be erased
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, terminal: isTerminal(w), started: time.Now()}
}

// isTerminal reports whether w is a character device, which is what a terminal
// is; the null device is one too, and does not mind.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) show(line string) {
	now := time.Now()
	line = printable(line)
	if p.terminal {
		if r := []rune(line); len(r) > maxLine { // a wrapped line cannot be erased
			line = string(r[:maxLine-3]) + "..."
		}
		fmt.Fprintf(p.w, "\r\x1b[K%s (%d s)", line, int(now.Sub(p.started).Seconds()))
		p.shown = true
		return
	}
	if line == p.last && now.Sub(p.at) < repeatAfter {
		return
	}
	p.last, p.at = line, now
	fmt.Fprintln(p.w, line)
}

// clear erases the line on a terminal, before anything else is written.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
