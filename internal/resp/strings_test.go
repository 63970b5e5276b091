package resp

import (
	"bytes"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// Whether ReadStrings comes first or not, the same replies are read, however
// the bytes arrive.
func TestReadStringsReadsWhatReadReplyReads(t *testing.T) {
	pieces := []string{
		"+OK\r\n", "-BUSY later\r\n", ":7\r\n", "_\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*0\r\n", "*-1\r\n",
		"*1\r\n$0\r\n\r\n", "*2\r\n$3\r\nabc\r\n$5\r\nde\r\nf\r\n", "*2\r\n$3\r\nabc\r\n:5\r\n", "*2\r\n$1\r\na\r\n$-1\r\n",
		"*2\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", "%1\r\n$1\r\na\r\n$1\r\nb\r\n", ">2\r\n$1\r\na\r\n$1\r\nb\r\n",
		"*2\r\n$1\r\na\r\n$40000\r\n" + strings.Repeat("x", 40000) + "\r\n",
		"*3000\r\n" + strings.Repeat("$8\r\n01234567\r\n", 3000), "*12\r\n" + strings.Repeat("$90\r\n"+strings.Repeat("y", 90)+"\r\n", 12),
		"\r\n", "*2\r\n$1\r\na\r\n$x", "*1\r\n$1\r\nab\r\n", "|1\r\n+a\r\n+b\r\n:3\r\n",
	}
	for range 300 {
		var stream []byte
		for range 1 + rand.IntN(6) {
			stream = append(stream, pieces[rand.IntN(len(pieces))]...)
		}
		stream = stream[:len(stream)-rand.IntN(2)*rand.IntN(len(stream))]
		var src io.Reader = bytes.NewReader(stream)
		if rand.IntN(2) == 0 && len(stream) < 4000 {
			src = iotest.OneByteReader(src)
		}
		wait := rand.IntN(4) > 0
		want, wantErr := replies(NewReader(bytes.NewReader(stream), Limits{}), func(r *Reader) (Reply, error) { return r.ReadReply() })
		got, gotErr := replies(NewReader(src, Limits{}), func(r *Reader) (Reply, error) {
			if !wait { // a look that may come too early changes nothing
				if list, ok, err := r.ReadStrings(nil, false); ok || err != nil {
					return asReply(list), err
				}
			}
			list, ok, err := r.ReadStrings(nil, true)
			if ok || err != nil {
				return asReply(list), err
			}
			return r.ReadReply()
		})
		if !reflect.DeepEqual(got, want) || gotErr.Error() != wantErr.Error() {
			t.Fatalf("%q is read as\n%v, %v, and not as\n%v, %v", stream, got, gotErr, want, wantErr)
		}
	}
}

func replies(r *Reader, next func(*Reader) (Reply, error)) (list []Reply, err error) {
	for {
		reply, err := next(r)
		if err != nil {
			return list, err
		}
		list = append(list, reply)
	}
}

func asReply(list [][]byte) Reply {
	r := Reply{Type: '*'}
	for _, b := range list {
		r.Elems = append(r.Elems, Reply{Type: '$', Bytes: b})
	}
	return r
}

func TestReadStringsTakesOnePieceOfMemory(t *testing.T) {
	answer := []byte("*12\r\n" + strings.Repeat("$90\r\n"+strings.Repeat("y", 90)+"\r\n", 12))
	src := bytes.NewReader(nil)
	r := NewReader(src, Limits{})
	var list [][]byte
	read := func() {
		src.Reset(answer)
		if list, _, _ = r.ReadStrings(list[:0], true); len(list) != 12 {
			t.Fatalf("%d strings", len(list))
		}
	}
	read()
	if n := testing.AllocsPerRun(100, read); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestShortAnswersShareTheirMemory(t *testing.T) {
	const answer = "*4\r\n$1\r\n4\r\n$5\r\n12345\r\n$1\r\n0\r\n$7\r\n0.1.2.3\r\n"
	src := strings.NewReader("")
	r := NewReader(src, Limits{})
	var list [][]byte
	allocs := testing.AllocsPerRun(100, func() {
		src.Reset(strings.Repeat(answer, 20))
		for range 20 {
			if list, _, _ = r.ReadStrings(list[:0], true); len(list) != 4 {
				t.Fatalf("%d strings", len(list))
			}
		}
	})
	if allocs > 2 {
		t.Errorf("%v allocations for 20 answers", allocs)
	}
	src.Reset("*2\r\n$1\r\n9\r\n$30\r\n" + strings.Repeat("x", 30) + "\r\n")
	next, _, _ := r.ReadStrings(nil, true)
	_ = append(list[3], "over"...) // whoever appends gets memory of its own
	if string(next[0]) != "9" || string(list[0]) != "4" || string(list[3]) != "0.1.2.3" {
		t.Errorf("one answer is written over another: %q, %q", list, next)
	}
}
