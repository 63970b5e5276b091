package stripe

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
)

// slowWriter takes time for each piece; meanwhile the log grows.
type slowWriter struct {
	takes time.Duration
	grows int64
	log   int64
	full  bool
}

func (w *slowWriter) Write(b []byte) (int, error) {
	time.Sleep(w.takes)
	w.log += w.grows
	return len(b), nil
}

func TestSnapshotPausesBesideChanges(t *testing.T) {
	const pieces = 400
	for what, c := range map[string]struct {
		slowWriter
		least, most time.Duration // of the pauses
	}{
		"beside changes":          {slowWriter{takes: time.Millisecond, grows: 1000}, 2 * (pieces - 1) * time.Millisecond, 2 * pieces * time.Millisecond},
		"nobody writes":           {slowWriter{takes: time.Millisecond}, 0, 0},
		"a piece takes long":      {slowWriter{takes: 11 * time.Millisecond, grows: 1000}, 50 * time.Millisecond, pieces * pieceBytes * time.Second / leastRate},
		"the log grows faster":    {slowWriter{takes: time.Millisecond, grows: pieceBytes + 1}, 0, 0},
		"the log grows as fast":   {slowWriter{takes: time.Millisecond, grows: pieceBytes}, 2 * (pieces - 1) * time.Millisecond, 2 * pieces * time.Millisecond},
		"much memory is held":     {slowWriter{takes: time.Millisecond, grows: 1000, full: true}, 0, 0},
		"slow without any pauses": {slowWriter{takes: 30 * time.Millisecond, grows: 1}, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := c.slowWriter
			begin := time.Now()
			p := newPacer(&w, nil, func() int64 { return w.log }, func() bool { return w.full })
			if n, err := p.Write(make([]byte, pieces*pieceBytes)); err != nil || n != pieces*pieceBytes {
				t.Fatalf("%s: %d, %v", what, n, err)
			}
			all := time.Since(begin)
			if paused := all - pieces*w.takes; paused < c.least || paused > c.most {
				t.Errorf("%s: pauses of %v, not between %v and %v", what, paused, c.least, c.most)
			}
			// With pauses it never falls below the least rate.
			if most := max(pieces*w.takes, pieces*pieceBytes*time.Second/leastRate+w.takes); all > most {
				t.Errorf("%s: it took %v, more than %v", what, all, most)
			}
		})
	}
}

func TestPauseEndsWithTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		w := slowWriter{takes: 4 * time.Millisecond, grows: 1}
		p := newPacer(&w, stop, func() int64 { return w.log }, func() bool { return w.full })
		begin := time.Now()
		time.AfterFunc(5*time.Millisecond, func() { close(stop) }) // in the first pause
		if n, err := p.Write(make([]byte, 10*pieceBytes)); err == nil || n != pieceBytes {
			t.Errorf("%d bytes, %v", n, err)
		}
		if d := time.Since(begin); d != 5*time.Millisecond {
			t.Errorf("it went on for %v", d)
		}
	})
}

// source is read in no time; changes are made while it is read.
type source struct {
	io.Reader
	log     int64
	changes func() bool
	traffic traffic
}

func (s *source) busy() bool { return s.traffic.seen(s.log) }

func (s *source) Read(b []byte) (int, error) {
	if s.changes() {
		s.log++
	}
	return s.Reader.Read(b)
}

// What is sent is paced while changes are made, and for quietTime after the last one.
func TestASnapshotIsSentSlowlyBesideChanges(t *testing.T) {
	const pieces = 400
	atRate := func(pieces int) time.Duration { return time.Duration(pieces) * pieceBytes * time.Second / besideRate }
	for what, c := range map[string]struct {
		changes     func(n int) bool // while piece n is read
		least, most time.Duration
	}{
		"beside changes":   {func(int) bool { return true }, atRate(pieces - 2), atRate(pieces)},
		"few changes":      {func(n int) bool { return n%20 == 0 }, atRate(pieces - 20), atRate(pieces)}, // one in 44 ms
		"nobody writes":    {func(int) bool { return false }, 0, 0},
		"changes that end": {func(n int) bool { return n < 100 }, atRate(98), atRate(100) + quietTime + atRate(1)},
		"a late change":    {func(n int) bool { return n == 300 }, quietTime, quietTime + atRate(1)},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			s := &source{Reader: bytes.NewReader(make([]byte, pieces*pieceBytes)), changes: func() bool { n++; return c.changes(n - 1) }}
			p := newPacedReader(io.NopCloser(s), nil, s.busy)
			began := time.Now()
			if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, p, make([]byte, 3*pieceBytes)); err != nil || n != pieces*pieceBytes {
				t.Fatalf("%s: %d bytes, %v", what, n, err)
			}
			if took := time.Since(began); took < c.least || took > c.most {
				t.Errorf("%s: it took %v, not %v to %v", what, took, c.least, c.most)
			}
		})
	}
}

// A receiver that is slower than the rate is not held back further.
func TestASlowReceiverOfASnapshotIsNotPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{Reader: bytes.NewReader(make([]byte, 100*pieceBytes)), changes: func() bool { return true }}
		p := newPacedReader(io.NopCloser(s), nil, s.busy)
		began := time.Now()
		w := slowWriter{takes: 3 * time.Millisecond}
		if _, err := io.CopyBuffer(&w, p, make([]byte, pieceBytes)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 300*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestSendingEndsWithTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		s := &source{Reader: bytes.NewReader(make([]byte, 100*pieceBytes)), changes: func() bool { return true }}
		p := newPacedReader(io.NopCloser(s), stop, s.busy)
		time.AfterFunc(50*time.Millisecond, func() { close(stop) })
		began := time.Now()
		if n, err := io.Copy(struct{ io.Writer }{io.Discard}, p); err == nil || n == 0 {
			t.Errorf("%d bytes, %v", n, err)
		}
		if took := time.Since(began); took != 50*time.Millisecond {
			t.Errorf("it went on for %v", took)
		}
	})
}

// What another server gets it verifies itself; what this one restores is verified before,
// but for what it just got.
func TestASnapshotIsSentUnread(t *testing.T) {
	dir := t.TempDir()
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, hclogTo(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	sends := true
	in := snapshots{SnapshotStore: files, dir: filepath.Join(dir, snapFolder), fsm: new(fsm), held: new(hold), sends: func() bool { return sends }, starting: t.Context()}
	sink, err := files.Create(raft.SnapshotVersionMax, 7, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sink.Write([]byte("state"))
	if err := errors.Join(err, sink.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(in.dir, sink.ID(), stateFile), []byte("stale"), 0o600); err != nil {
		t.Fatal(err)
	}
	isPaced := func(r io.ReadCloser) bool {
		_, is := r.(heldReader).ReadCloser.(described).ReadCloser.(*pacedReader)
		return is
	}
	meta, r, err := in.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil || string(b) != "stale" || meta.Index != 7 || meta.Size != 5 {
		t.Errorf("read %q of %+v, %v", b, meta, err)
	}
	if !isPaced(r) {
		t.Error("it is sent as fast as it can be")
	}
	if in.held.limit(10) != 6 {
		t.Error("the log is not held while it is sent")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := in.Open("none"); !errors.Is(err, errNoSnapshot) {
		t.Errorf("there is none, and the error is %v", err)
	}
	sends = false
	if _, _, err := in.Open(sink.ID()); err == nil {
		t.Error("a damaged snapshot was opened to be restored")
	}
	in.fsm.arrived.Store(arrivedAs(sink.ID(), 5, 0))
	if _, r, err := in.Open(sink.ID()); err != nil {
		t.Errorf("a snapshot that was verified when it came is read once more: %v", err)
	} else {
		if isPaced(r) {
			t.Error("Open paces what Restore paces")
		}
		r.Close()
	}
}

// A server that catches up waits for the log, but not where it would hardly catch up.
func TestTheLogIsSentSlowlyBesideChanges(t *testing.T) {
	const ms, n = time.Millisecond, logRate / 1000 // bytes of a millisecond at logRate
	for _, c := range []struct {
		bytes int
		took  time.Duration
		grown int64
		want  time.Duration
	}{
		{100 * n, 20 * ms, n, 80 * ms},
		{100 * n, 20 * ms, 0, 80 * ms},       // changes wait for something else
		{100 * n, 20 * ms, -50 * n, 80 * ms}, // a snapshot has cut the log short
		{100 * n, 100 * ms, n, 0},
		{100 * n, 300 * ms, n, 0},
		{100 * n, 20 * ms, 10 * n, 80 * ms},
		{100 * n, 20 * ms, 11 * n, 0}, // more than half of logRate
		{0, 0, 0, 0},
	} {
		if got := logPause(c.bytes, c.took, c.grown); got != c.want {
			t.Errorf("%d bytes took %v, the log grew by %d: a pause of %v, not %v", c.bytes, c.took, c.grown, got, c.want)
		}
	}
}

// swallower takes any snapshot for one.
type swallower struct{ storeMachine }

func (swallower) Verify(r io.Reader) error  { _, err := io.Copy(io.Discard, r); return err }
func (swallower) Restore(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }

// What came slowly is restored slowly; what came fast is not held back.
func TestASnapshotIsRestoredAsItCame(t *testing.T) {
	const pieces = 400
	image := append(snapshotHead(nil, 1), make([]byte, pieces*pieceBytes)...)
	for came, slow := range map[time.Duration]bool{time.Second: true, 500 * time.Millisecond: false} {
		synctest.Test(t, func(t *testing.T) {
			f := &fsm{m: swallower{storeMachine{store.New()}}, newest: formatNewest, starting: t.Context(), log: testLog(t)}
			r := &received{SnapshotSink: new(kept), f: f}
			if _, err := r.Write(image); err != nil {
				t.Fatal(err)
			}
			time.Sleep(came)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if f.received(r.ID()) == nil || f.received("another") != nil {
				t.Error("it is not known which snapshot came")
			}
			for id, slow := range map[string]bool{r.ID(): slow, "another": false} {
				began := time.Now()
				if err := f.Restore(described{io.NopCloser(bytes.NewReader(image)), &raft.SnapshotMeta{ID: id}}); err != nil {
					t.Fatal(err)
				}
				most := time.Duration(pieces) * pieceBytes * time.Second / besideRate
				if took := time.Since(began); slow != (took > most*9/10) || took > most {
					t.Errorf("%q, which came within %v, was restored within %v", id, came, took)
				}
			}
		})
	}
}
