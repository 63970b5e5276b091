package store

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// loading reads segments beside each other: the reader of the stream cuts it
// into parts, and workers fill a segment from each.
type loading struct {
	st     *state
	parts  []*part // all of them, in the order of the stream
	work   chan *part
	spare  chan []byte // blocks that may be used again, or nil for one that is still to be made
	failed atomic.Bool // a worker found a fault: the rest need not be read
	wg     sync.WaitGroup
}

// loadBlocks bounds the blocks that were read and are not loaded yet, to 16 MiB.
const loadBlocks = 256

// part is a segment that is being loaded, and what came of it.
type part struct {
	d    *dataset
	at   int
	feed chan []byte

	err      error
	cost     uint64
	sessions uint64
	users    []pair
}

func startLoading(st *state) *loading {
	l := &loading{st: st, work: make(chan *part, loadBlocks), spare: make(chan []byte, loadBlocks)}
	for range loadBlocks {
		l.spare <- nil
	}
	for range runtime.GOMAXPROCS(0) {
		l.wg.Go(func() {
			w := &loader{loading: l}
			for p := range l.work {
				w.fill(p)
			}
		})
	}
	return l
}

// load hands the rest of the part that b is in to a worker.
func (l *loading) load(b *blockReader, d *dataset, at int) {
	if b.err != nil || l.failed.Load() {
		b.left = nil
		for !b.ended() {
			b.left = nil
		}
		return
	}
	p := &part{d: d, at: at, feed: make(chan []byte, loadBlocks)}
	l.parts = append(l.parts, p)
	l.work <- p
	defer close(p.feed)
	for !b.ended() {
		// There are no more blocks than fit into feed, so this waits for workers only.
		p.feed <- append((<-l.spare)[:0], b.left...)
		b.left = nil
	}
}

// finish waits for the workers, and puts together what they found.
func (l *loading) finish(b *blockReader) error {
	close(l.work)
	l.wg.Wait()
	if b.err != nil {
		return b.err
	}
	for _, p := range l.parts {
		if p.err != nil {
			return p.err
		}
		b.account(p.d, p.cost)
		p.d.sessions.Add(p.sessions)
		for _, u := range p.users {
			p.d.users.add(u)
		}
	}
	for _, d := range l.st.sortedDatasets() {
		b.account(d, d.ownCost())
		b.bindAliases(l.st, d)
	}
	return b.err
}

// loader is one worker.
type loader struct {
	*loading
	blockReader
	record record
	writer writer
}

func (w *loader) fill(p *part) {
	w.blockReader = blockReader{feed: p.feed, used: w.used[:0]}
	w.segment(p)
	if !w.ended() {
		w.fail("bytes follow the end of a segment")
	}
	if p.err = w.err; p.err != nil {
		w.failed.Store(true)
	}
	for content := range p.feed { // the reader waits for them
		w.used = append(w.used, content)
		w.recycle()
	}
	w.recycle()
}

// recycle lets the blocks before the one that is being read be used again; without one, all.
func (w *loader) recycle() {
	last := len(w.used)
	if len(w.left) > 0 {
		last--
	}
	for _, content := range w.used[:last] {
		w.spare <- content
	}
	w.used = append(w.used[:0], w.used[last:]...)
}

func (w *loader) segment(p *part) {
	g := &p.d.segments[p.at]
	g.mu.Lock()
	defer g.mu.Unlock()
	var last []byte
	r := &w.record
	for n := w.uint(); n > 0 && w.err == nil; n-- {
		w.blockReader.record(w.st, r)
		h := hash(r.Key)
		if p.d.segmentOf(h) != g || bytes.Compare(r.Key, last) <= 0 {
			w.fail("a session stands where it may not")
		}
		if p.d.ofRedis() && !r.redisShape() {
			w.fail("a key of Redis commands is neither a string nor a hash")
		}
		if w.err != nil {
			return
		}
		g.put(h, w.writer.record(r))
		p.cost += r.cost
		p.sessions++
		if len(r.User) > 0 {
			p.users = append(p.users, pair{hash(r.User), h})
		}
		last = append(last[:0], r.Key...)
		w.recycle()
	}
	last = last[:0]
	for n := w.uint(); n > 0 && w.err == nil; n-- {
		t := w.trace()
		h := hash(t.key)
		if taken, _ := g.look(h, t.key); p.d.segmentOf(h) != g || bytes.Compare(t.key, last) <= 0 || taken != nil || p.d.ofRedis() {
			w.fail("an ended session stands where it may not")
		}
		if w.err != nil {
			return
		}
		g.put(h, w.writer.trace(t))
		p.cost += t.cost()
		last = append(last[:0], t.key...)
		w.recycle()
	}
}

// bindAliases tells each session which keys lead to it.
func (b *blockReader) bindAliases(st *state, d *dataset) {
	var all []*trace
	for i := range d.segments {
		g := &d.segments[i]
		for _, q := range g.ends.s {
			if t := g.block(q.r).trace(); t.target != nil {
				all = append(all, &t)
			}
		}
	}
	slices.SortFunc(all, compareTrace)
	for _, t := range all {
		h := hash(t.target)
		s, _ := d.segmentOf(h).look(h, t.target)
		if s == nil || s.kind() != kindRecord {
			b.fail("an old key leads nowhere")
			return
		}
		r := &st.scratch.record
		s.read(r)
		if len(r.aliases) >= maxAliases {
			b.fail("too many old keys lead to a session")
			return
		}
		r.aliases = append(r.aliases, t.key)
		d.segmentOf(h).put(h, st.scratch.writer.record(r))
	}
}
