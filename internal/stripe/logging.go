package stripe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/hashicorp/go-hclog"
)

// hclogTo returns a logger for the Raft library that writes to l. What raft
// calls information is its own chatter, for operators at most of use when they
// debug; its warnings are mostly elections, which are ordinary.
func hclogTo(l *slog.Logger) hclog.Logger {
	ic := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	ic.RegisterSink(slogSink{l})
	return ic
}

type slogSink struct{ l *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Error {
		to = slog.LevelWarn
	}
	if !s.l.Enabled(context.Background(), to) {
		return
	}
	list := slices.Clone(args)
	for i, a := range list {
		if f, ok := a.(hclog.Format); ok {
			list[i] = fmt.Sprintf(f[0].(string), f[1:]...)
		}
	}
	s.l.Log(context.Background(), to, "raft: "+msg, list...)
}
