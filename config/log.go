package config

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// logTime is how the log writes instants: always UTC, whatever the time zone of
// the machine, so that the logs of a cluster can be laid side by side.
const logTime = "2006-01-02T15:04:05.000Z"

// Logger returns a logger that writes to w as log-level and log-format say. A
// line of format text is
//
//	2026-03-01T09:00:00.000Z INFO  the message as it is  key=value key="two words"
//
// so that a message without values ends its line. One of format json is an
// object with time, level, msg and the values under the same keys; durations
// are numbers of seconds there.
func (c Common) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // the load function has reported the word
	}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: forMachines}))
	}
	h := &textHandler{shared: &textOutput{w: w}}
	h.attrs = slog.NewTextHandler(&h.shared.tail, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutHead})
	return slog.New(h)
}

func forMachines(groups []string, a slog.Attr) slog.Attr {
	switch {
	case len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
		return slog.String(a.Key, a.Value.Time().UTC().Format(logTime))
	case a.Value.Kind() == slog.KindDuration:
		return slog.Float64(a.Key, a.Value.Duration().Seconds())
	case a.Value.Kind() == slog.KindAny:
		// Addresses and ids read as in the text form, not as their parts.
		switch v := a.Value.Any().(type) {
		case error, json.Marshaler:
		case fmt.Stringer:
			return slog.String(a.Key, v.String())
		}
	}
	return a
}

// withoutHead drops what textHandler writes itself.
func withoutHead(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// textHandler writes the head of a line; the standard library's handler writes
// the values behind it.
type textHandler struct {
	shared *textOutput
	attrs  slog.Handler // writes to shared.tail
}

// textOutput is shared by a handler and those derived from it.
type textOutput struct {
	mu   sync.Mutex // guards all below
	w    io.Writer
	line []byte
	tail bytes.Buffer
}

// Enabled implements slog.Handler.
func (h *textHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.attrs.Enabled(ctx, l) }

// Handle implements slog.Handler. A record is one Write.
func (h *textHandler) Handle(ctx context.Context, r slog.Record) error {
	o := h.shared
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail.Reset()
	if err := h.attrs.Handle(ctx, r); err != nil {
		return err
	}
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	level := r.Level.String()
	o.line = at.UTC().AppendFormat(o.line[:0], logTime)
	o.line = append(append(append(o.line, ' '), level...), "      "[min(len(level), 5):6]...)
	o.line = append(o.line, oneLine(r.Message)...)
	if o.tail.Len() > len("\n") {
		o.line = append(o.line, "  "...)
	}
	o.line = append(o.line, o.tail.Bytes()...)
	_, err := o.w.Write(o.line)
	return err
}

// WithAttrs implements slog.Handler.
func (h *textHandler) WithAttrs(list []slog.Attr) slog.Handler {
	return &textHandler{h.shared, h.attrs.WithAttrs(list)}
}

// WithGroup implements slog.Handler.
func (h *textHandler) WithGroup(name string) slog.Handler {
	return &textHandler{h.shared, h.attrs.WithGroup(name)}
}

// oneLine returns text as it is, or quoted where it could forge a line or steer
// a terminal.
func oneLine(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return text
	}
	return strconv.Quote(text)
}
