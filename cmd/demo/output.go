package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

const (
	widest  = 10       // characters of the longest process name
	maxLine = 16 << 10 // bytes; a longer line is shown in parts
)

// hues are the terminal's colours of the processes.
var hues = map[string]string{"terracotta": "36", "configure": "35", "stop": "35", "cart-1": "33", "cart-2": "32"}

// output is where all processes speak, one line at a time.
type output struct {
	mu     sync.Mutex
	w      io.Writer
	colour bool
}

// newOutput colours the names where w is a terminal and NO_COLOR is not set.
func newOutput(w io.Writer, environ []string) *output {
	d := demo{environ: environ}
	return &output{w: w, colour: isTerminal(w) && d.variable("NO_COLOR") == "" && d.variable("TERM") != "dumb"}
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

// say writes what this program itself has to say.
func (o *output) say(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Fprintf(o.w, format, args...)
}

// lines returns a writer that puts name before each line.
func (o *output) lines(name string) *lines {
	prefix := name + strings.Repeat(" ", max(0, widest-len(name))) + " | "
	if o.colour {
		prefix = "\x1b[" + hues[name] + "m" + prefix + "\x1b[0m"
	}
	return &lines{o: o, prefix: prefix}
}

// lines gathers what one process writes until a line is complete. It is for one
// goroutine: that of exec.Cmd, and after its end flush.
type lines struct {
	o      *output
	prefix string
	rest   []byte // begun, not ended
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, complete := bytes.Cut(l.rest, []byte("\n"))
		switch {
		case !complete && len(line) <= maxLine:
			return len(p), nil
		case len(line) > maxLine:
			line, rest = l.rest[:maxLine], l.rest[maxLine:]
		}
		l.o.say("%s%s\n", l.prefix, bytes.TrimRight(line, "\r"))
		l.rest = rest
	}
}

func (l *lines) flush() {
	if len(l.rest) > 0 {
		l.o.say("%s%s\n", l.prefix, l.rest)
		l.rest = nil
	}
}
