// Package fuzzing is for fuzz targets only: it holds what a reader may take for
// input from outside.
//
// The one idea: bytes allocated in all, not bytes in use, are counted. That is
// at least what was in use at the worst moment, and no garbage collection
// between two looks can hide anything.
package fuzzing

import (
	"runtime/metrics"
	"testing"
)

// Of a reader of input from outside: for MaxInput bytes or less it allocates
// no more than MaxMemory bytes in all.
const (
	MaxInput  = 64 << 10
	MaxMemory = 64 << 20
)

// Bounded runs read, which reads in, and fails t where it allocates more than
// MaxMemory. For larger inputs it only runs read. Goroutines that allocate
// beside it are counted, too, so fuzz targets that call it must be the only ones at work.
func Bounded(t testing.TB, in []byte, read func()) {
	t.Helper()
	before := allocated()
	read()
	if n := allocated() - before; n > MaxMemory && len(in) <= MaxInput {
		t.Errorf("%d bytes of input took %d bytes of memory, more than %d", len(in), n, MaxMemory)
	}
}

// allocated is how many bytes this process has allocated since its start, up
// to what small objects not yet counted make (below 2 MB).
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
