package store

import "math/bits"

// ref is the place of a block: the number of its chunk and the offset in it. No
// block has ref 0. It fits into 48 bits, and is not a pointer.
type ref uint64

const (
	refBits    = 48
	offsetBits = 22 // of chunkBytes at most
)

func (r ref) chunk() int  { return int(r >> offsetBits) }
func (r ref) offset() int { return int(r & (1<<offsetBits - 1)) }

// The sizes of blocks. Small ones are slots of one size in a span; sizes are a
// sixteenth of a power of two apart, so that at most a sixteenth is lost. Larger
// ones are runs of pages, the largest have a chunk to themselves.
const (
	pageBytes  = 4 << 10
	chunkPages = chunkBytes / pageBytes
	smallBytes = 16 << 10 // above: runs of pages
	classes    = 16 + 6*16
)

// classOf returns the class of small blocks of n bytes.
func classOf(n int) int {
	if n <= 256 {
		return max(n-1, 31) / 16
	}
	k := bits.Len(uint(n-1)) - 1 // 1<<k < n <= 1<<(k+1)
	return (k-7)*16 + (n-1-1<<k)>>(k-4)
}

// classBytes returns the size of the slots of class c.
func classBytes(c int) int {
	if c < 16 {
		return (c + 1) * 16
	}
	k := c/16 + 7
	return 1<<k + (c%16+1)<<(k-4)
}

// spanPages returns how many pages a span of class c has: 16 slots at least, and no more
// than that, because a segment has a span for each class that is partly empty.
func spanPages(c int) int {
	switch n := classBytes(c); {
	case n <= 512:
		return 4
	case n <= 2<<10:
		return 8
	case n <= 4<<10:
		return 16
	case n <= 8<<10:
		return 32
	}
	return 64
}

// blockBytes returns what a block of n bytes takes in memory.
func blockBytes(n int) int {
	if n <= smallBytes {
		return classBytes(classOf(n))
	}
	return (n + pageBytes - 1) / pageBytes * pageBytes
}

// arena is the memory of a segment. It knows no locks: the segment's guards it.
type arena struct {
	chunks []chunk // by number; 0 is none's
	free   []int   // numbers of chunks that were given back
	spare  int     // chunk of which nothing is taken, 0 for none
	spans  []span  // by number; 0 is none's
	idle   []uint32
	ready  [classes]uint32 // spans of the class with free slots, linked by next and prev
	slots  [classes]int    // free slots in the spans of the class
	victim uint32          // span that is being emptied, 0 for none: it gets no new blocks
	moved  int             // slots of the victim that were looked at
	cursor int             // where the search for a victim goes on

	mapped uint64 // bytes taken from the operating system
	taken  uint64 // bytes of spans and of larger blocks
	loose  uint64 // bytes of free pages that were written: they are real memory until they are released
	used   uint64 // bytes of blocks
	blocks uint64
}

// chunk is memory from the operating system, divided into runs of pages.
type chunk struct {
	mem   []byte
	taken []uint64 // a bit for each page; nil for a block that has the chunk to itself
	loose []uint64 // likewise, of those that count in the arena's loose
	owner []uint32 // page -> span it belongs to, 0 for a run that is one block
	left  int      // free pages
	most  int      // no run of free pages is longer
}

// span is a run of pages divided into slots of one size.
type span struct {
	chunk, page uint32
	next, prev  uint32 // in the class's list of those that have a free slot
	class       uint16
	carved      uint16 // slots that were ever used; those behind were never written
	used        uint16
	free        uint16 // the first free slot below carved, counted from 1; a free slot holds the next
	listed      bool
}

// at returns the memory at r, from its first byte to the end of its chunk.
func (a *arena) at(r ref) []byte { return a.chunks[r.chunk()].mem[r.offset():] }

// take returns the place of a new block of n bytes, whose bytes are arbitrary.
func (a *arena) take(n int) ref {
	a.used += uint64(blockBytes(n))
	a.blocks++
	if n > smallBytes {
		number, page := a.run((n + pageBytes - 1) / pageBytes)
		return ref(number<<offsetBits | page*pageBytes)
	}
	c := classOf(n)
	id := a.ready[c]
	if id == 0 {
		id = a.newSpan(c)
	}
	s := &a.spans[id]
	slot := int(s.carved)
	if s.free > 0 {
		slot = int(s.free) - 1
		s.free = block(a.at(s.ref(slot))).nextFree()
	} else {
		s.carved++
	}
	s.used++
	a.slots[c]--
	if s.full() {
		a.unlist(id)
	}
	return s.ref(slot)
}

func (s *span) ref(slot int) ref {
	return ref(int(s.chunk)<<offsetBits | int(s.page)*pageBytes + slot*classBytes(int(s.class)))
}

func (s *span) slots() int { return spanPages(int(s.class)) * pageBytes / classBytes(int(s.class)) }
func (s *span) full() bool { return s.free == 0 && int(s.carved) == s.slots() }

// give frees the block of n bytes at r.
func (a *arena) give(r ref, n int) {
	a.used -= uint64(blockBytes(n))
	a.blocks--
	if poison != 0 {
		fill(a.at(r)[:n], poison)
	}
	k := &a.chunks[r.chunk()]
	if n > smallBytes {
		a.giveRun(r.chunk(), r.offset()/pageBytes, (n+pageBytes-1)/pageBytes)
		return
	}
	id := k.owner[r.offset()/pageBytes]
	s := &a.spans[id]
	slot := (r.offset() - int(s.page)*pageBytes) / classBytes(int(s.class))
	block(a.at(r)).setFree(s.free)
	s.free = uint16(slot + 1)
	s.used--
	a.slots[s.class]++
	if s.used == 0 {
		a.dropSpan(id)
		return
	}
	if !s.listed && id != a.victim {
		a.list(id)
	}
}

// poison, set by tests, is what freed blocks are filled with.
var poison byte

func fill(b []byte, with byte) {
	for i := range b {
		b[i] = with
	}
}

func (a *arena) newSpan(c int) uint32 {
	number, page := a.run(spanPages(c))
	var id uint32
	if n := len(a.idle); n > 0 {
		id, a.idle = a.idle[n-1], a.idle[:n-1]
	} else {
		if len(a.spans) == 0 {
			a.spans = append(a.spans, span{})
		}
		a.spans = append(a.spans, span{})
		id = uint32(len(a.spans) - 1)
	}
	a.spans[id] = span{chunk: uint32(number), page: uint32(page), class: uint16(c)}
	k := &a.chunks[number]
	for i := range spanPages(c) {
		k.owner[page+i] = id
	}
	a.slots[c] += a.spans[id].slots()
	a.list(id)
	return id
}

func (a *arena) dropSpan(id uint32) {
	s := a.spans[id]
	if s.listed {
		a.unlist(id)
	}
	if id == a.victim {
		a.victim = 0
	}
	a.slots[s.class] -= s.slots()
	k := &a.chunks[s.chunk]
	for i := range spanPages(int(s.class)) {
		k.owner[int(s.page)+i] = 0
	}
	a.spans[id] = span{}
	a.idle = append(a.idle, id)
	a.giveRun(int(s.chunk), int(s.page), spanPages(int(s.class)))
}

func (a *arena) list(id uint32) {
	s := &a.spans[id]
	s.prev, s.next, s.listed = 0, a.ready[s.class], true
	if s.next != 0 {
		a.spans[s.next].prev = id
	}
	a.ready[s.class] = id
}

func (a *arena) unlist(id uint32) {
	s := &a.spans[id]
	if s.prev != 0 {
		a.spans[s.prev].next = s.next
	} else {
		a.ready[s.class] = s.next
	}
	if s.next != 0 {
		a.spans[s.next].prev = s.prev
	}
	s.listed = false
}

// run takes n pages in a row and returns their chunk and the first one.
func (a *arena) run(n int) (number, page int) {
	a.taken += uint64(n * pageBytes)
	if n > chunkPages {
		return a.newChunk(n*pageBytes, true), 0
	}
	for i := range a.chunks {
		k := &a.chunks[i]
		if k.taken == nil || k.most < n {
			continue
		}
		page, longest := findRun(k.taken, n)
		if page < 0 {
			k.most = longest
			continue
		}
		a.mark(k, page, n, true)
		if i == a.spare {
			a.spare = 0
		}
		return i, page
	}
	number = a.newChunk(chunkBytes, false)
	a.mark(&a.chunks[number], 0, n, true)
	return number, 0
}

func (a *arena) newChunk(size int, whole bool) int {
	k := chunk{mem: mapMemory(size)}
	a.mapped += uint64(size)
	if !whole {
		words := make([]uint64, 2*chunkWords)
		k.taken, k.loose, k.owner = words[:chunkWords:chunkWords], words[chunkWords:], make([]uint32, chunkPages)
		k.left, k.most = chunkPages, chunkPages
	}
	if n := len(a.free); n > 0 {
		number := a.free[n-1]
		a.free = a.free[:n-1]
		a.chunks[number] = k
		return number
	}
	if len(a.chunks) == 0 {
		a.chunks = append(a.chunks, chunk{})
	}
	a.chunks = append(a.chunks, k)
	return len(a.chunks) - 1
}

const chunkWords = (chunkPages + 63) / 64

// mark notes that n pages of k from page on are taken, or free.
func (a *arena) mark(k *chunk, page, n int, taken bool) {
	for i := page; i < page+n; i++ {
		word, bit := i/64, uint64(1)<<(i%64)
		if taken {
			k.taken[word] |= bit
			if k.loose[word]&bit != 0 {
				k.loose[word] &^= bit
				a.loose -= pageBytes
			}
		} else {
			k.taken[word] &^= bit
			k.loose[word] |= bit
			a.loose += pageBytes
		}
	}
	if taken {
		k.left -= n
	} else {
		k.left += n
	}
}

// findRun returns the first of n free pages in a row, or -1 and the longest row there is.
func findRun(taken []uint64, n int) (page, longest int) {
	row := 0
	for i := 0; i < chunkPages; i++ {
		if i%64 == 0 && taken[i/64] == ^uint64(0) {
			longest, row = max(longest, row), 0
			i += 63
			continue
		}
		if taken[i/64]>>(i%64)&1 != 0 {
			longest, row = max(longest, row), 0
			continue
		}
		if row++; row == n {
			return i - n + 1, 0
		}
	}
	return -1, max(longest, row)
}

// giveRun frees n pages. A chunk of which nothing is left goes back to the operating system.
func (a *arena) giveRun(number, page, n int) {
	a.taken -= uint64(n * pageBytes)
	k := &a.chunks[number]
	if k.taken != nil {
		a.mark(k, page, n, false)
		k.most = k.left
		if k.left < chunkPages || a.spare == 0 && a.blocks > 0 {
			if k.left == chunkPages {
				a.spare = number // soon wanted again, as likely as not
			}
			if a.loose > a.taken/looseShare+looseLeast {
				a.release()
			}
			return
		}
	}
	a.unmap(number)
	if a.blocks == 0 && a.spare != 0 {
		a.unmap(a.spare)
		a.spare = 0
	}
}

// Free pages that were written are kept for what comes next: one of so many that are taken, and a few.
const (
	looseShare = 32
	looseLeast = 128 << 10
)

// release gives the free pages back to the operating system. They stay mapped, and are
// taken anew when they are written.
func (a *arena) release() {
	for i := range a.chunks {
		k := &a.chunks[i]
		for page := 0; page < chunkPages && k.taken != nil; page++ {
			if k.loose[page/64] == 0 {
				page |= 63
				continue
			}
			from := page
			for page < chunkPages && k.loose[page/64]>>(page%64)&1 != 0 {
				page++
			}
			if from < page {
				releaseMemory(k.mem[from*pageBytes : page*pageBytes])
			}
		}
		clear(k.loose)
	}
	a.loose = 0
}

func (a *arena) unmap(number int) {
	k := &a.chunks[number]
	for _, word := range k.loose {
		a.loose -= uint64(bits.OnesCount64(word)) * pageBytes
	}
	a.mapped -= uint64(len(k.mem))
	unmapMemory(k.mem)
	*k = chunk{}
	a.free = append(a.free, number)
}

// close gives everything back to the operating system.
func (a *arena) close() {
	for _, k := range a.chunks {
		if k.mem != nil {
			unmapMemory(k.mem)
		}
	}
	*a = arena{}
}
