//go:build !race

package store

import "syscall"

// releaseMemory tells the operating system that b's pages are not needed; they
// stay mapped. An advice that is refused changes nothing.
func releaseMemory(b []byte) { _ = syscall.Madvise(b, syscall.MADV_DONTNEED) }
