package stripe

import (
	"testing"
	"testing/synctest"
	"time"
)

// slowWriter takes time for each piece; meanwhile the log grows.
type slowWriter struct {
	takes time.Duration
	grows int64
	log   int64
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
		"slow without any pauses": {slowWriter{takes: 30 * time.Millisecond, grows: 1}, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := c.slowWriter
			begin := time.Now()
			p := newPacer(&w, nil, func() int64 { return w.log })
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
		p := newPacer(&w, stop, func() int64 { return w.log })
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
