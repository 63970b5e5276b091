package stripe

import (
	"errors"
	"io"
	"sync"
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
// is bounded by it), where the snapshot holds much memory, nor below leastRate. It fails once stop is closed, also
// within a large Write.
type pacer struct {
	w    io.Writer
	stop <-chan struct{}
	log  func() int64 // bytes of the log: they grow with every change
	full func() bool  // much memory is held for what is written

	written int64
	began   time.Time
	first   int64     // log when it began
	last    int64     // log at the last piece
	resumed time.Time // when the last pause ended
}

func newPacer(w io.Writer, stop <-chan struct{}, log func() int64, full func() bool) *pacer {
	now, size := time.Now(), log()
	return &pacer{w: w, stop: stop, log: log, full: full, began: now, resumed: now, first: size, last: size}
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
	if quiet || size-p.first > p.written || p.full() {
		return 0
	}
	ahead := time.Duration(p.written)*(time.Second/leastRate) - now.Sub(p.began)
	return min(pausePerWork*now.Sub(p.resumed), longestPause, ahead)
}

// What a server that catches up gets while changes are made, in bytes a second. It is the
// receiver's work first, so how long a piece took here tells nothing.
const (
	besideRate = 150_000_000 // of a snapshot
	logRate    = 60_000_000  // of the log since
	quietTime  = 100 * time.Millisecond
)

// traffic tells whether changes are made: the log grows with each.
type traffic struct {
	mu   sync.Mutex
	size int64     // of the log at the last look
	grew time.Time // when it was seen to have changed
}

// seen is told the size of the log, and reports whether there was a change within quietTime.
func (t *traffic) seen(size int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if size != t.size {
		t.size, t.grew = size, now
	}
	return now.Sub(t.grew) < quietTime
}

// busy reports whether changes are made.
func (f *fsm) busy() bool { return f.traffic.seen(f.bytes.Load()) }

// pacedReader reads a snapshot at besideRate while busy says so.
type pacedReader struct {
	io.ReadCloser
	stop <-chan struct{}
	busy func() bool

	due  time.Time // of the piece that is being read; late by longestPause at most
	read int       // of it
}

func newPacedReader(r io.ReadCloser, stop <-chan struct{}, busy func() bool) *pacedReader {
	return &pacedReader{ReadCloser: r, stop: stop, busy: busy, due: time.Now()}
}

// Read implements io.Reader.
func (p *pacedReader) Read(b []byte) (int, error) {
	if p.read >= pieceBytes {
		now := time.Now()
		p.due = p.due.Add(time.Duration(p.read) * time.Second / besideRate)
		if late := now.Add(-longestPause); !p.busy() {
			p.due = now
		} else if p.due.Before(late) {
			p.due = late
		}
		if !rest(p.due.Sub(now), p.stop) {
			return 0, errStopping
		}
		p.read = 0
	}
	n, err := p.ReadCloser.Read(b[:min(len(b), pieceBytes)])
	p.read += n
	return n, err
}

// rest waits for d, and reports whether stop is open still.
func rest(d time.Duration, stop <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-stop:
		return false
	case <-time.After(d):
		return true
	}
}

// logPause is for how long a server that catches up waits for more of the log, after n
// bytes of it took so long while the log grew by grown: not where it would hardly catch up.
func logPause(n int, took time.Duration, grown int64) time.Duration {
	if float64(grown) > logRate/2*took.Seconds() {
		return 0
	}
	return max(0, time.Duration(n)*time.Second/logRate-took)
}

// arrival is a snapshot that another server sent: it is verified. At besideRate it came
// from one that makes changes meanwhile, perhaps on this machine, and is restored at it.
type arrival struct {
	id    string
	paced bool
}

func arrivedAs(id string, size int64, took time.Duration) *arrival {
	return &arrival{id, float64(size) < 1.1*besideRate*took.Seconds()}
}
