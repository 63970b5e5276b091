package stripe

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// endsAlone ends the goroutine that goes on alone where it has opened the gate, and neither
// log nor disk say in which incarnation: as kill -9 ends it there.
type endsAlone struct {
	slog.Handler
	armed, ended *atomic.Bool
}

func (h endsAlone) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "the passive is lost: this server goes on alone") && h.armed.Swap(false) {
		h.ended.Store(true)
		runtime.Goexit()
	}
	return h.Handler.Handle(ctx, r)
}

// A server that was killed after it had removed its passive, and before it could say in which
// incarnation it is, knows at its next start where its own changes begin, with a snapshot
// or without: all of them are listed, and of what both had no more than the last batch.
func TestPairKilledBeforeItSaysThatItIsAlone(t *testing.T) {
	t.Parallel()
	for _, snapshot := range []string{"none", "before", "alone"} {
		t.Run("snapshot "+snapshot, func(t *testing.T) {
			t.Parallel()
			end := endsAlone{testLog(t).Handler(), new(atomic.Bool), new(atomic.Bool)}
			r := newPairRigOf(t, Config{Durability: EveryWrite, Logger: slog.New(end)})
			r.do("of both")
			if a, _ := r.actives(); snapshot == "before" {
				r.snapshot(a)
			}
			r.do("of both, too")
			r.do("last of both")
			a, b := r.tries(func(a, b int) bool {
				before := r.servers[a].pair.note().History.tip()
				end.armed.Store(true)
				r.down(b)
				r.until("it ends, or waits, or goes on by force, or was alone before", func() bool {
					tip := r.servers[a].pair.note().History.tip()
					return end.ended.Load() || r.waits(a) || tip.Forced && !tip.same(before) ||
						r.servers[a].Status().Alone && !r.servers[a].pair.untold()
				})
				end.armed.Store(false)
				return end.ended.Load()
			}, func(_, b int) { r.start(b) })
			must(t, r.servers[a], "alone")
			must(t, r.servers[a], "delete alone")
			if snapshot == "alone" {
				if err := r.servers[a].snapshot(); err == nil {
					t.Error("with a snapshot the log forgets where this server went on alone")
				}
			}
			must(t, r.servers[a], "still alone")
			r.down(a)
			r.start(a)
			r.until("it goes on", func() bool { return r.leads(a) })
			must(t, r.servers[a], "alone again")
			r.snapshot(a)
			var got []string
			for _, l := range r.sendsHome(a, b, "on the side that is kept") {
				got = append(got, l.Key)
			}
			want := []string{"last of both", "alone", "delete alone", "still alone", "alone again", "alone"}
			if !slices.Equal(got, want) {
				t.Errorf("listed: %q, want %q", got, want)
			}
		})
	}
}
