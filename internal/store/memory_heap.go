//go:build !unix || race

package store

// chunkBytes is small here, because the memory is cleared when it is taken.
const chunkBytes = 256 << 10

// mapMemory returns n bytes of the heap: the race detector watches no other
// memory. Slices of bytes hold no pointers, so the garbage collector looks at none of them.
func mapMemory(n int) []byte { return make([]byte, n) }

func unmapMemory([]byte) {}
