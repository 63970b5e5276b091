package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
)

// The file format of bbolt v1.3.6 (its page.go, db.go, freelist.go), as far as it is needed here: pages, each
// with a head, two of them with the meta data of a transaction each, of which the newest good one counts.
const (
	pageHead    = 16 // number, kind, elements, pages that follow
	pageElement = 16

	branchPage, leafPage, freePage = 0x01, 0x02, 0x10

	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	bucketElement = 1
	bucketHead    = 16
)

// verifyIndex verifies the pages of the database in which raft-wal keeps its list of files and raft its
// term. bbolt verifies none of them: it ends the process where one lies beyond the end of the file, goes round
// for ever in others, and writes over what a damaged list calls free. What a page says it can't tell.
func verifyIndex(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	m, err := newestMeta(b)
	if err != nil {
		return err
	}
	if m.end > uint64(len(b))/m.page {
		return fmt.Errorf("it is cut short: it has %d bytes, and needs %d", len(b), m.end*m.page)
	}
	w := indexWalk{file: b, indexMeta: m, seen: make(map[uint64]bool)}
	if err := w.tree(m.root); err != nil {
		return err
	}
	return w.freeList()
}

// indexMeta is what the meta data of a transaction says.
type indexMeta struct {
	page        uint64 // size of one, in bytes
	root        uint64 // page
	free        uint64 // page
	end         uint64 // behind the last page
	transaction uint64
}

// newestMeta returns the newer of the two that is good, as bbolt chooses.
func newestMeta(b []byte) (newest indexMeta, err error) {
	first, ok := parseMeta(b)
	size := uint64(os.Getpagesize())
	if ok {
		newest, size = first, first.page
	}
	if size < uint64(len(b)) {
		if second, good := parseMeta(b[size:]); good && (!ok || second.transaction > first.transaction) {
			newest, ok = second, true
		}
	}
	if !ok || newest.page < pageHead+metaSize || newest.page > 1<<16 {
		return newest, errors.New("its first pages are damaged")
	}
	return newest, nil
}

func parseMeta(b []byte) (indexMeta, bool) {
	if len(b) < pageHead+metaSize {
		return indexMeta{}, false
	}
	b = b[pageHead : pageHead+metaSize]
	at, n := binary.NativeEndian.Uint64, binary.NativeEndian.Uint32
	sum := fnv.New64a()
	sum.Write(b[:56])
	m := indexMeta{page: uint64(n(b[8:])), root: at(b[16:]), free: at(b[32:]), end: at(b[40:]), transaction: at(b[48:])}
	return m, n(b) == metaMagic && n(b[4:]) == metaVersion && sum.Sum64() == at(b[56:])
}

// indexWalk goes through the pages, each once.
type indexWalk struct {
	file []byte
	indexMeta
	seen map[uint64]bool
}

// take returns the page, and those that belong to it. It is of one of the kinds.
func (w *indexWalk) take(id uint64, kinds ...uint16) (p []byte, kind uint16, err error) {
	if id < 2 || id >= w.end {
		return nil, 0, fmt.Errorf("page %d is out of range", id)
	}
	p = w.file[id*w.page:]
	kind = binary.NativeEndian.Uint16(p[8:])
	more := uint64(binary.NativeEndian.Uint32(p[12:]))
	if binary.NativeEndian.Uint64(p) != id || !slices.Contains(kinds, kind) || more >= w.end-id {
		return nil, 0, fmt.Errorf("page %d is damaged", id)
	}
	for i := id; i <= id+more; i++ {
		if err := w.use(i); err != nil {
			return nil, 0, err
		}
	}
	return p[:(more+1)*w.page], kind, nil
}

func (w *indexWalk) use(id uint64) error {
	if w.seen[id] {
		return fmt.Errorf("page %d is used twice", id)
	}
	w.seen[id] = true
	return nil
}

// tree goes through a page of keys and all below it.
func (w *indexWalk) tree(id uint64) error {
	p, kind, err := w.take(id, branchPage, leafPage)
	if err != nil {
		return err
	}
	if err := w.elements(p, kind); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements goes through the keys of p, which may lie within another page.
func (w *indexWalk) elements(p []byte, kind uint16) error {
	n := int(binary.NativeEndian.Uint16(p[10:]))
	if pageHead+n*pageElement > len(p) || n == 0 && kind == branchPage {
		return fmt.Errorf("it can't have %d elements", n)
	}
	var last []byte
	for i := range n {
		at := pageHead + i*pageElement
		e := p[at:]
		at4 := func(off int) uint64 { return uint64(binary.NativeEndian.Uint32(e[off:])) }
		pos, keys, values := at4(0), at4(4), uint64(0)
		if kind == leafPage {
			pos, keys, values = at4(4), at4(8), at4(12)
		}
		if pos+keys+values > uint64(len(e)) {
			return fmt.Errorf("element %d is out of range", i)
		}
		key, value := e[pos:pos+keys], e[pos+keys:pos+keys+values]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return fmt.Errorf("element %d is out of order", i)
		}
		last = key
		var err error
		switch {
		case kind == branchPage:
			err = w.tree(binary.NativeEndian.Uint64(e[8:]))
		case at4(0) == bucketElement:
			err = w.bucket(value)
		case at4(0) != 0:
			err = fmt.Errorf("element %d is damaged", i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket goes through a bucket, which lies in pages of its own or, where it is small, behind its head.
func (w *indexWalk) bucket(b []byte) error {
	if len(b) < bucketHead {
		return errors.New("a bucket is damaged")
	}
	if root := binary.NativeEndian.Uint64(b); root != 0 {
		return w.tree(root)
	}
	p := b[bucketHead:]
	if len(p) < pageHead || binary.NativeEndian.Uint16(p[8:]) != leafPage {
		return errors.New("a bucket is damaged")
	}
	return w.elements(p, leafPage)
}

// freeList goes through the list of pages that may be written.
func (w *indexWalk) freeList() error {
	p, _, err := w.take(w.free, freePage)
	if err != nil {
		return err
	}
	n, p := uint64(binary.NativeEndian.Uint16(p[10:])), p[pageHead:]
	if n == 0xFFFF { // then the first one is their number
		n, p = binary.NativeEndian.Uint64(p), p[8:]
	}
	if n > uint64(len(p))/8 {
		return fmt.Errorf("page %d can't name %d free ones", w.free, n)
	}
	for ; n > 0; n-- {
		id := binary.NativeEndian.Uint64(p)
		if id < 2 || id >= w.end {
			return fmt.Errorf("page %d names page %d free", w.free, id)
		}
		if err := w.use(id); err != nil {
			return err
		}
		p = p[8:]
	}
	return nil
}
