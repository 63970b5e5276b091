package stripe

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// What operators read of raft: why a server ceases to be active, and what is wrong.
func TestWhatIsSaidOfRaft(t *testing.T) {
	var out bytes.Buffer
	r := hclogTo(slog.New(slog.NewTextHandler(&out, nil)))
	r.Warn("heartbeat timeout reached, starting election")
	r.Error("failed to heartbeat to", "peer", "b")
	r.Error("failed to get log", "index", 1, "error", raft.ErrLogNotFound)
	if out.Len() > 0 {
		t.Errorf("said: %s", &out)
	}
	r.Warn(quorumLost)
	r.Error("failed to get log", "index", 1, "error", errors.New("i/o error"))
	for _, want := range []string{"ceases to be active", "i/o error"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %s", want, &out)
		}
	}
}
