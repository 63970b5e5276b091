package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A snapshot is: the magic, the format version (4 bytes), and blocks. A block is
// the length of its content (4 bytes), the content, and a CRC-32C (4 bytes) over
// everything from the magic to here but the checksums before, so that a block
// that is missing or in the wrong place is found too. An empty block is the end
// mark. Numbers outside of blocks are little endian. A block whose length has the
// top bit set begins a new part, so that parts can be read beside each other.
const (
	magic           = "TCSTORE\n"
	snapshotVersion = 2
	blockSize       = 64 << 10
	beginsPart      = 1 << 31
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockWriter writes fields into blocks. The first error sticks.
type blockWriter struct {
	w   io.Writer
	n   int64  // bytes written
	sum uint32 // running checksum
	buf []byte // 4 bytes for the length, then content
	top uint32 // beginsPart for the first block of a part
	err error
}

func newBlockWriter(w io.Writer) *blockWriter {
	b := &blockWriter{w: w, buf: make([]byte, 4, 4+blockSize+4)}
	head := binary.LittleEndian.AppendUint32([]byte(magic), snapshotVersion)
	b.sum = crc32.Update(0, castagnoli, head)
	b.write(head)
	return b
}

func (b *blockWriter) write(p []byte) {
	if b.err != nil {
		return
	}
	n, err := b.w.Write(p)
	b.n += int64(n)
	b.err = err
}

func (b *blockWriter) flush() {
	binary.LittleEndian.PutUint32(b.buf, uint32(len(b.buf)-4)|b.top)
	b.top = 0
	b.sum = crc32.Update(b.sum, castagnoli, b.buf)
	b.write(binary.LittleEndian.AppendUint32(b.buf, b.sum))
	b.buf = b.buf[:4]
}

// part begins a new part with section.
func (b *blockWriter) part(section byte) {
	if len(b.buf) > 4 {
		b.flush()
	}
	b.top = beginsPart
	b.byte(section)
}

// close writes what is left and the end mark.
func (b *blockWriter) close() {
	if len(b.buf) > 4 {
		b.flush()
	}
	b.flush()
}

func (b *blockWriter) raw(p []byte) {
	for len(p) > 0 && b.err == nil {
		n := min(len(p), 4+blockSize-len(b.buf))
		b.buf = append(b.buf, p[:n]...)
		p = p[n:]
		if len(b.buf) == 4+blockSize {
			b.flush()
		}
	}
}

func (b *blockWriter) byte(c byte) { b.raw([]byte{c}) }

func (b *blockWriter) bool(v bool) {
	if v {
		b.byte(1)
	} else {
		b.byte(0)
	}
}

func (b *blockWriter) uint(n uint64) {
	if len(b.buf) < 4+blockSize-binary.MaxVarintLen64 && b.err == nil {
		b.buf = binary.AppendUvarint(b.buf, n) // nearly always; raw splits it where a block ends
		return
	}
	var buf [binary.MaxVarintLen64]byte
	b.raw(buf[:binary.PutUvarint(buf[:], n)])
}

func (b *blockWriter) bytes(p []byte) {
	b.uint(uint64(len(p)))
	b.raw(p)
}

// errDamaged is wrapped by every complaint about a snapshot's bytes.
var errDamaged = errors.New("snapshot is damaged")

// blockReader reads what blockWriter wrote: from a stream, or the blocks of one
// part that the reader of the stream feeds it. The first error sticks, and makes
// everything read after it zero. It allocates in step with what it has read,
// not with what lengths announce.
type blockReader struct {
	r       io.Reader
	sum     uint32
	buf     []byte // the whole block
	left    []byte // of its content
	outside bool   // left begins a part that was not entered
	done    bool   // the end mark was read
	err     error

	feed <-chan []byte // instead of r
	used [][]byte      // blocks of feed that what was read may point into
}

func newBlockReader(r io.Reader) *blockReader {
	b := &blockReader{r: r, buf: make([]byte, blockSize+4)}
	head := b.buf[:len(magic)+4]
	if !b.fill(head) {
		return b
	}
	if string(head[:len(magic)]) != magic {
		b.fail("it does not start as one")
	} else if v := binary.LittleEndian.Uint32(head[len(magic):]); v != snapshotVersion {
		b.err = fmt.Errorf("snapshot has format version %d; this build reads %d", v, snapshotVersion)
	}
	b.sum = crc32.Update(0, castagnoli, head)
	return b
}

func (b *blockReader) fail(format string, v ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("%w: "+format, append([]any{errDamaged}, v...)...)
	}
	b.left = nil
}

func (b *blockReader) fill(p []byte) bool {
	if b.err != nil {
		return false
	}
	if _, err := io.ReadFull(b.r, p); err == io.EOF || err == io.ErrUnexpectedEOF {
		b.fail("it is cut short")
	} else if err != nil {
		b.err = fmt.Errorf("read snapshot: %w", err)
	}
	return b.err == nil
}

// next reads a block; false after the end mark and on error.
func (b *blockReader) next() bool {
	if b.feed != nil {
		return b.nextFed()
	}
	var head [4]byte
	if b.done || !b.fill(head[:]) {
		return false
	}
	n := binary.LittleEndian.Uint32(head[:])
	begins := n&beginsPart != 0
	n &^= beginsPart
	if n > blockSize {
		b.fail("a block announces %d bytes", n)
		return false
	}
	if !b.fill(b.buf[:n+4]) {
		return false
	}
	b.sum = crc32.Update(crc32.Update(b.sum, castagnoli, head[:]), castagnoli, b.buf[:n])
	if sum := binary.LittleEndian.Uint32(b.buf[n : n+4]); sum != b.sum {
		b.fail("the checksum of a block is wrong")
		return false
	}
	b.left = b.buf[:n]
	b.done = n == 0
	b.outside = begins && !b.done
	return !b.done
}

func (b *blockReader) nextFed() bool {
	content, ok := <-b.feed
	if !ok || b.err != nil {
		return false
	}
	b.used = append(b.used, content)
	b.left = content
	return true
}

// more makes sure that there is content in this part, or fails.
func (b *blockReader) more() bool {
	if b.err != nil {
		return false
	}
	if len(b.left) == 0 && !b.next() || b.outside {
		b.fail("it ends too early")
		return false
	}
	return true
}

// ended reports whether the part has no more content.
func (b *blockReader) ended() bool {
	return b.err != nil || b.outside || len(b.left) == 0 && (!b.next() || b.outside)
}

// enter begins the next part and returns its section.
func (b *blockReader) enter() byte {
	if !b.ended() {
		b.fail("bytes follow the end of a section")
	}
	if !b.outside {
		b.fail("it ends too early")
	}
	b.outside = false
	return b.byte()
}

// end makes sure that nothing but the end mark follows.
func (b *blockReader) end() {
	if !b.ended() || b.outside {
		b.fail("bytes follow its end")
	}
	if b.err != nil {
		return
	}
	switch n, err := io.ReadFull(b.r, b.buf[:1]); {
	case n > 0:
		b.fail("bytes follow its end")
	case err != io.EOF:
		b.err = fmt.Errorf("read snapshot: %w", err)
	}
}

func (b *blockReader) byte() byte {
	if !b.more() {
		return 0
	}
	c := b.left[0]
	b.left = b.left[1:]
	return c
}

func (b *blockReader) bool() bool {
	c := b.byte()
	if c > 1 {
		b.fail("a flag is %d", c)
	}
	return c == 1
}

func (b *blockReader) uint() uint64 {
	if len(b.left) >= binary.MaxVarintLen64 && !b.outside { // else it may go on in the next block
		if n, size := binary.Uvarint(b.left); size > 0 {
			b.left = b.left[size:]
			return n
		}
	}
	n, err := binary.ReadUvarint(byteReader{b})
	if err != nil {
		b.fail("a number is too large")
		return 0
	}
	return n
}

// byteReader is a blockReader as binary.ReadUvarint wants it.
type byteReader struct{ b *blockReader }

func (r byteReader) ReadByte() (byte, error) { c := r.b.byte(); return c, r.b.err }

// time reads a Time.
func (b *blockReader) time() Time {
	n := b.uint()
	if n > 1<<63-1 {
		b.fail("a time is too large")
		return 0
	}
	return Time(n)
}

// raw fills p.
func (b *blockReader) raw(p []byte) {
	for len(p) > 0 && b.more() {
		n := copy(p, b.left)
		p, b.left = p[n:], b.left[n:]
	}
}

// text is as bytes, but what it returns may be memory of the block: valid until
// the block is used again.
func (b *blockReader) text(what string, most uint64) []byte {
	if len(b.left) >= 2 && !b.outside {
		if n, size := binary.Uvarint(b.left); size > 0 && n <= most && n > 0 && n <= uint64(len(b.left)-size) {
			p := b.left[size : size+int(n) : size+int(n)]
			b.left = b.left[size+int(n):]
			return p
		}
	}
	return b.bytes(what, most)
}

// bytes reads a byte string of at most most bytes into memory of its own; an
// empty one is nil.
func (b *blockReader) bytes(what string, most uint64) []byte {
	n := b.uint()
	if n > most {
		b.fail("%s has %d bytes", what, n)
	}
	if n == 0 || b.err != nil {
		return nil
	}
	p := make([]byte, 0, min(n, blockSize))
	for n > 0 && b.more() {
		part := b.left[:min(n, uint64(len(b.left)))]
		p = append(p, part...)
		b.left = b.left[len(part):]
		n -= uint64(len(part))
	}
	if b.err != nil {
		return nil
	}
	if cap(p)-len(p) > len(p)/8 { // grown in doubling steps: give back what is over
		p = append(make([]byte, 0, len(p)), p...)
	}
	return p
}
