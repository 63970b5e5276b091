package resp

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// Law: what Readers take of their Budget never exceeds it, and all of it comes back.
func TestBudgetIsSharedAndGivenBack(t *testing.T) {
	budget := NewBudget(3 << 20)
	half := AppendCommand(nil, make([]byte, 1<<20))
	half = half[:len(half)-3]
	var readers []*Reader
	refused := 0
	for range 10 {
		r := NewReader(bytes.NewReader(half), Limits{MaxCommand: 2 << 20})
		r.Share(budget)
		switch _, err := r.ReadCommand(); {
		case errors.Is(err, ErrBudget):
			refused++
		case err != io.ErrUnexpectedEOF:
			t.Fatal(err)
		}
		readers = append(readers, r)
		if used := budget.used.Load(); used > budget.max {
			t.Fatalf("%d bytes are taken of %d", used, budget.max)
		}
	}
	if refused == 0 || refused == 10 {
		t.Errorf("%d of 10 were refused", refused)
	}
	for _, r := range readers {
		r.Release()
	}
	if used := budget.used.Load(); used != 0 {
		t.Errorf("%d bytes are lost", used)
	}
	if n := budget.usual.Load(); n != 0 {
		t.Errorf("%d bytes of usual buffers are lost", n)
	}
}

// A thousand connections that were busy once keep little, and each is still
// served: usual buffers are counted, never refused.
func TestACrowdKeepsSmallBuffers(t *testing.T) {
	budget := NewBudget(16 << 20)
	in := AppendCommand(nil, make([]byte, 40<<10))
	var readers []*Reader
	for range 1000 {
		r := NewReader(&chunks{data: bytes.Clone(in), sizes: []int{30 << 10}}, Limits{})
		r.Share(budget)
		if args, err := r.ReadCommand(); err != nil || len(args[0]) != 40<<10 {
			t.Fatal(err)
		}
		if _, err := r.ReadCommand(); err != io.EOF { // idle from here on
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	if n := budget.usual.Load(); n > budget.max/8+usualBuffer {
		t.Errorf("%d bytes of buffers are kept", n)
	}
	for _, r := range readers {
		r.Release()
	}
	if n := budget.usual.Load(); n != 0 {
		t.Errorf("%d bytes are lost", n)
	}
}

// A large buffer that idles counts: it goes at once where others need it.
func TestScarceBudgetKeepsNoIdleBuffer(t *testing.T) {
	in := AppendCommand(nil, make([]byte, 1<<20))
	for _, test := range []struct {
		max  int
		kept bool
	}{{64 << 20, true}, {3 << 20, false}} {
		budget := NewBudget(test.max)
		r := NewReader(&chunks{data: in, sizes: []int{64 << 10}}, Limits{})
		r.Share(budget)
		if _, err := readAll(r); err != io.EOF {
			t.Fatal(err)
		}
		if kept := budget.used.Load() > 0; kept != test.kept {
			t.Errorf("of %d bytes %d are kept", test.max, budget.used.Load())
		}
	}
}

// The largest command that is allowed takes little more than its own size.
func TestLargestCommandTakesItsSize(t *testing.T) {
	const size = 4 << 20
	in := AppendCommand(nil, make([]byte, size-100))
	in = append(in, in...)
	r := NewReader(&chunks{data: in, sizes: []int{30<<10 + 1}}, Limits{MaxCommand: size})
	for range 2 {
		if args, err := r.ReadCommand(); err != nil || len(args[0]) != size-100 {
			t.Fatal(err)
		}
	}
	if len(r.buf) > size+usualBuffer {
		t.Errorf("the buffer has %d bytes", len(r.buf))
	}
}
