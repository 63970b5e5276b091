package fuzzing

import "testing"

// recorder notes failures instead of ending the test.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }

var sink []byte

func TestBounded(t *testing.T) {
	take := func(pieces, size int) func() {
		return func() {
			for range pieces {
				sink = make([]byte, size)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		input  int
		read   func()
		failed bool
	}{
		{"modest", 100, take(4, MaxMemory/8), false},
		{"one large piece", 100, take(1, MaxMemory+4096), true},
		{"many small pieces, none of them kept", MaxInput, take(80<<10, 1024), true},
		{"large input", MaxInput + 1, take(1, MaxMemory+4096), false},
	} {
		r := &recorder{TB: t}
		Bounded(r, make([]byte, tt.input), tt.read)
		if r.failed != tt.failed {
			t.Errorf("%s: failed is %v", tt.name, r.failed)
		}
	}
}
