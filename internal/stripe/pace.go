package stripe

import (
	"errors"
	"io"
	"time"
)

// How a snapshot is written beside changes; measured in docs/decisions/raft.md.
const (
	pieceBytes   = 256 << 10             // is written before the next look
	pausePerWork = 2                     // pauses take so many times as long as the work
	longestPause = 20 * time.Millisecond // where the disk or the processors kept a piece waiting
	leastRate    = 20_000_000            // bytes a second; nothing slower pauses
)

// pacer writes a snapshot in pieces, and pauses between them while changes are
// made: reading the state, sums and the disk otherwise take a processor that
// changes need. It does not pause where nobody writes, where the log has grown by
// more than the snapshot already has (so it ends, whatever the load, and the log
// is bounded by it), nor below leastRate. It fails once stop is closed, also
// within a large Write.
type pacer struct {
	w    io.Writer
	stop <-chan struct{}
	log  func() int64 // bytes of the log: they grow with every change

	written int64
	began   time.Time
	first   int64     // log when it began
	last    int64     // log at the last piece
	resumed time.Time // when the last pause ended
}

func newPacer(w io.Writer, stop <-chan struct{}, log func() int64) *pacer {
	now, size := time.Now(), log()
	return &pacer{w: w, stop: stop, log: log, began: now, resumed: now, first: size, last: size}
}

// Write implements io.Writer.
func (p *pacer) Write(b []byte) (int, error) {
	written := 0
	for {
		if err := p.pause(); err != nil {
			return written, err
		}
		n, err := p.w.Write(b[written:min(len(b), written+pieceBytes)])
		written += n
		p.written += int64(n)
		if err != nil || written == len(b) {
			return written, err
		}
	}
}

// pause waits for as long as is due, but not beyond stop.
func (p *pacer) pause() error {
	if d := p.due(); d > 0 {
		select {
		case <-p.stop:
		case <-time.After(d):
		}
	}
	p.resumed = time.Now()
	select {
	case <-p.stop:
		return errors.New("the server is stopping")
	default:
		return nil
	}
}

// due returns for how long to pause now.
func (p *pacer) due() time.Duration {
	now, size := time.Now(), p.log()
	quiet := size == p.last
	p.last = size
	if quiet || size-p.first > p.written {
		return 0
	}
	ahead := time.Duration(p.written)*(time.Second/leastRate) - now.Sub(p.began)
	return min(pausePerWork*now.Sub(p.resumed), longestPause, ahead)
}
