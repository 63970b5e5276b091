//go:build unix && !race

package store

import (
	"fmt"
	"syscall"
)

// chunkBytes is how much memory a segment takes from the operating system at
// once. Pages that were never written cost nothing.
const chunkBytes = 4 << 20

// mapMemory returns n zero bytes that the garbage collector does not know. It
// panics where the operating system refuses: the agreed log says that the bytes
// fit, so this server cannot go on as if they did not.
func mapMemory(n int) []byte {
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(fmt.Sprintf("store: the operating system refuses %d bytes of memory: %v", n, err))
	}
	return b
}

func unmapMemory(b []byte) {
	if err := syscall.Munmap(b); err != nil {
		panic(fmt.Sprintf("store: give back memory: %v", err))
	}
}
