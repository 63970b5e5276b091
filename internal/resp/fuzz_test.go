package resp

import (
	"bytes"
	"io"
	"reflect"
	"testing"

	"github.com/terracotta-go/terracotta/internal/fuzzing"
)

// Laws: decoding never panics; the pieces in which bytes come change nothing; what
// is held is bounded by what has come.
func FuzzCommands(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), 3)
	f.Add([]byte("SET \"a b\" 'c'\r\n*1\r\n$0\r\n\r\n"), 1)
	f.Add([]byte("*1048576\r\n$8388608\r\n"), 7)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		whole := NewReader(bytes.NewReader(in), Limits{})
		parts := NewReader(&chunks{data: bytes.Clone(in), sizes: []int{max(1, size)}}, Limits{})
		var got [][][]byte
		var err1 error
		fuzzing.Bounded(t, in, func() { got, err1 = readAll(whole) })
		same, err2 := readAll(parts)
		if !reflect.DeepEqual(got, same) || (err1 == io.EOF) != (err2 == io.EOF) {
			t.Errorf("%q at once: %q, %v; in pieces: %q, %v", in, got, err1, same, err2)
		}
		if len(whole.buf) > 4*len(in)+usualBuffer {
			t.Errorf("%d bytes are held for %d", len(whole.buf), len(in))
		}
	})
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n_\r\n+OK\r\n"), 3)
	f.Add([]byte("%1\r\n|1\r\n+a\r\n+b\r\n:1\r\n#t\r\n"), 1)
	f.Add([]byte("*1000000\r\n*1000000\r\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		whole := NewReader(bytes.NewReader(in), Limits{})
		parts := NewReader(&chunks{data: bytes.Clone(in), sizes: []int{max(1, size)}}, Limits{})
		var replies []Reply
		var end error
		fuzzing.Bounded(t, in, func() { replies, end = readReplies(whole) })
		for i := 0; ; i++ {
			var got Reply
			var err1 error
			if i < len(replies) {
				got = replies[i]
			} else {
				err1 = end
			}
			same, err2 := parts.ReadReply()
			if !reflect.DeepEqual(got, same) || (err1 == nil) != (err2 == nil) || (err1 == io.EOF) != (err2 == io.EOF) {
				t.Fatalf("%q at once: %+v, %v; in pieces: %+v, %v", in, got, err1, same, err2)
			}
			if err1 != nil {
				return
			}
			again, err := NewReader(bytes.NewReader(AppendReply(nil, got)), Limits{}).ReadReply()
			if err != nil || !reflect.DeepEqual(got, again) {
				t.Fatalf("%+v came back as %+v, %v", got, again, err)
			}
		}
	})
}

// readReplies reads to the end or the first error.
func readReplies(r *Reader) (all []Reply, err error) {
	for {
		reply, err := r.ReadReply()
		if err != nil {
			return all, err
		}
		all = append(all, reply)
	}
}

// endless repeats its bytes for ever.
type endless struct {
	data []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c := copy(p[n:], e.data[e.at:])
		n += c
		e.at = (e.at + c) % len(e.data)
	}
	return n, nil
}

func BenchmarkReadCommand(b *testing.B) {
	one := AppendCommand(nil, []byte("SET"), []byte("key:000000000001"), make([]byte, 1024))
	r := NewReader(&endless{data: one}, Limits{})
	b.ReportAllocs()
	b.SetBytes(int64(len(one)))
	for b.Loop() {
		r.Buffered()
		if args, err := r.ReadCommand(); err != nil || len(args) != 3 {
			b.Fatal(args, err)
		}
	}
}

func BenchmarkReadReply(b *testing.B) {
	one := AppendBulk(nil, make([]byte, 1024))
	r := NewReader(&endless{data: one}, Limits{})
	b.ReportAllocs()
	b.SetBytes(int64(len(one)))
	for b.Loop() {
		if _, err := r.ReadReply(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	one := AppendCommand(nil, []byte("SET"), []byte("key"), make([]byte, 1024))
	r := NewReader(&endless{data: one}, Limits{})
	for range 1000 {
		_, _ = r.ReadCommand()
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = r.ReadCommand() }); n != 0 {
		t.Errorf("%v allocations per command", n)
	}
}
