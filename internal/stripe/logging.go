package stripe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// hclogTo returns a logger for the Raft library that writes to l. What raft
// calls information is its own chatter, for operators at most of use when they
// debug; its warnings are mostly elections, which are ordinary.
func hclogTo(l *slog.Logger) hclog.Logger {
	ic := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	ic.RegisterSink(&slogSink{l: l, last: map[string]time.Time{}})
	return ic
}

// expected is what raft calls an error, many times a second, while another server
// is away. This room says once that it is.
var expected = []string{
	"failed to heartbeat to", "failed to appendEntries to", "failed to make requestVote RPC",
	"failed to start pipeline replication to", "failed to pipeline appendEntries",
	"failed to decode incoming command", "failed to accept connection", "failed to flush response",
	"peer has newer term, stopping replication",
}

// quorumLost is what raft says when the active server ceases to be: to it a mere warning.
const quorumLost = "failed to contact quorum of nodes, stepping down"

// repeatAfter is how often the same error of raft is logged as one.
const repeatAfter = 10 * time.Second

type slogSink struct {
	l *slog.Logger

	mu   sync.Mutex
	last map[string]time.Time // error -> when it was logged
}

// Accept implements hclog.SinkAdapter.
func (s *slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	if msg == quorumLost {
		s.l.Warn("this server ceases to be active: no majority of the servers answers; they are away, or a machine is too busy")
	}
	to := slog.LevelDebug
	cut := slices.Contains(args, any(raft.ErrLogNotFound)) // a server gets a snapshot in the place of entries that are gone
	if level >= hclog.Error && !cut && !slices.Contains(expected, msg) && s.due(msg) {
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

func (s *slogSink) due(msg string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.last[msg]) < repeatAfter {
		return false
	}
	s.last[msg] = now
	return true
}
