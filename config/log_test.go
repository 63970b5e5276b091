package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func logged(c Common, say func(*slog.Logger)) string {
	var b bytes.Buffer
	say(c.Logger(&b))
	return b.String()
}

func TestTextLogReadsAsALine(t *testing.T) {
	for _, row := range []struct {
		name string
		say  func(*slog.Logger)
		want string // behind the time
	}{
		{"a message without values ends the line", func(l *slog.Logger) { l.Info("now ready for work.") }, "INFO  now ready for work.\n"},
		{"values", func(l *slog.Logger) { l.Warn("x is full", "size", 3, "of", "two words", "took", 12*time.Millisecond) },
			`WARN  x is full  size=3 of="two words" took=12ms` + "\n"},
		{"error", func(l *slog.Logger) { l.Error("no", "error", errors.New("disk\nfull")) }, `ERROR no  error="disk\nfull"` + "\n"},
		{"with and group", func(l *slog.Logger) { l.With("a", 1).WithGroup("g").Info("m", "b", 2) }, "INFO  m  a=1 g.b=2\n"},
		{"a forged line", func(l *slog.Logger) { l.Info("a\n2026 INFO b") }, `INFO  "a\n2026 INFO b"` + "\n"},
		{"an escape sequence", func(l *slog.Logger) { l.Info("\x1b[2J", "k", "\x1b[2J") }, `INFO  "\x1b[2J"  k="\x1b[2J"` + "\n"},
		{"other scripts", func(l *slog.Logger) { l.Info("größer 世界") }, "INFO  größer 世界\n"},
		{"below the level", func(l *slog.Logger) { l.Debug("quiet") }, ""},
	} {
		got := logged(Common{LogLevel: "info", LogFormat: "text"}, row.say)
		if row.want == "" && got == "" {
			continue
		}
		head := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z `).FindString(got)
		if rest := strings.TrimPrefix(got, head); head == "" || rest != row.want {
			t.Errorf("%s: %q, want %q behind the time", row.name, got, row.want)
		}
	}
}

func TestJSONLogHasNumbersAndUTC(t *testing.T) {
	got := logged(Common{LogLevel: "debug", LogFormat: "json"}, func(l *slog.Logger) {
		l.Debug("m", "took", 1500*time.Millisecond, "error", errors.New("full"), "n", 7,
			"peer", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9410})
	})
	var line struct {
		Time  string  `json:"time"`
		Level string  `json:"level"`
		Msg   string  `json:"msg"`
		Took  float64 `json:"took"`
		Error string  `json:"error"`
		N     int     `json:"n"`
		Peer  string  `json:"peer"`
	}
	if err := json.Unmarshal([]byte(got), &line); err != nil {
		t.Fatalf("%v in %q", err, got)
	}
	at, err := time.Parse(time.RFC3339, line.Time)
	if err != nil || !strings.HasSuffix(line.Time, "Z") || time.Since(at).Abs() > time.Minute {
		t.Errorf("time is %q", line.Time)
	}
	if line.Level != "DEBUG" || line.Msg != "m" || line.Took != 1.5 || line.Error != "full" || line.N != 7 || line.Peer != "127.0.0.1:9410" {
		t.Errorf("read back: %+v", line)
	}
}

// Lines of goroutines that log at once are not mixed, derived loggers included.
func TestTextLogLinesStayWhole(t *testing.T) {
	var b bytes.Buffer
	l := Common{LogLevel: "info"}.Logger(&b)
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 50 {
				l.With("a", "b").Info("message", "c", "d")
			}
		})
	}
	work.Wait()
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for _, line := range lines {
		if !strings.HasSuffix(line, "Z INFO  message  a=b c=d") {
			t.Fatalf("a line is %q", line)
		}
	}
	if len(lines) != 400 {
		t.Errorf("%d lines", len(lines))
	}
}
