package resp

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestReplies(t *testing.T) {
	null := Reply{Type: '_'}
	bulk := func(s string) Reply { return Reply{Type: '$', Bytes: []byte(s)} }
	for in, want := range map[string]Reply{
		"+OK\r\n":                             {Type: '+', Bytes: []byte("OK")},
		"-ERR no\r\n":                         {Type: '-', Bytes: []byte("ERR no")},
		":-12\r\n":                            {Type: ':', Int: -12},
		"$3\r\na\r\n\r\n":                     bulk("a\r\n"),
		"$0\r\n\r\n":                          bulk(""),
		"$-1\r\n":                             null,
		"*-1\r\n":                             null,
		"_\r\n":                               null,
		"#t\r\n":                              {Type: '#', Int: 1},
		",3.5\r\n":                            {Type: ',', Bytes: []byte("3.5")},
		"(12345678901234567890\r\n":           {Type: '(', Bytes: []byte("12345678901234567890")},
		"!5\r\nERR x\r\n":                     {Type: '!', Bytes: []byte("ERR x")},
		"=5\r\ntxt:a\r\n":                     {Type: '=', Bytes: []byte("txt:a")},
		"*2\r\n$1\r\na\r\n_\r\n":              {Type: '*', Elems: []Reply{bulk("a"), null}},
		"~0\r\n":                              {Type: '~', Elems: []Reply{}},
		"%1\r\n$1\r\na\r\n:1\r\n":             {Type: '%', Elems: []Reply{bulk("a"), {Type: ':', Int: 1}}},
		">1\r\n$1\r\na\r\n":                   {Type: '>', Elems: []Reply{bulk("a")}},
		"|1\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n":  bulk("b"),
		"*1\r\n|1\r\n+a\r\n+b\r\n$1\r\nc\r\n": {Type: '*', Elems: []Reply{bulk("c")}},
	} {
		for chunk, src := range map[string]io.Reader{"at once": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in))} {
			r := NewReader(src, Limits{})
			got, err := r.ReadReply()
			if err != nil || !bytes.Equal(AppendReply(nil, got), AppendReply(nil, want)) || got.Type != want.Type {
				t.Errorf("%q %s: got %+v, %v", in, chunk, got, err)
			}
			if _, err := r.ReadReply(); err != io.EOF {
				t.Errorf("%q %s: then %v, want EOF", in, chunk, err)
			}
		}
	}
}

func TestHostileReplies(t *testing.T) {
	for in, want := range map[string]string{
		"?\r\n":                          "starts with",
		"\r\n":                           "empty line",
		"+OK\n":                          "CR LF",
		":x\r\n":                         "integer",
		":\r\n":                          "integer",
		"#x\r\n":                         "boolean",
		"_x\r\n":                         "null",
		"$2\r\nabc\r\n":                  "longer than announced",
		"$?\r\n":                         "not a number",
		"$8388609\r\n":                   "above the limit",
		"$\r\n":                          "empty",
		strings.Repeat("*1\r\n", 1000):   "too deep",
		strings.Repeat("|1\r\n", 1000):   "too deep",
		"*2\r\n$1\r\na\r\n":              "unexpected EOF",
		"$5\r\nab":                       "unexpected EOF",
		"$5\r\nabcde":                    "unexpected EOF",
		"+O":                             "unexpected EOF",
		"":                               "EOF",
		"+" + strings.Repeat("a", 1<<17): "above the limit",
	} {
		if _, err := NewReader(strings.NewReader(in), Limits{}).ReadReply(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", in, err, want)
		}
	}
	tree := "*3\r\n" + strings.Repeat("*3\r\n:1\r\n:1\r\n:1\r\n", 3)
	if _, err := NewReader(strings.NewReader(tree), Limits{MaxArgs: 10}).ReadReply(); err == nil || !strings.Contains(err.Error(), "more elements") {
		t.Errorf("a reply of 13 values, limit 10: %v", err)
	}
	many := "*3\r\n" + strings.Repeat("$40\r\n"+strings.Repeat("a", 40)+"\r\n", 3)
	if _, err := NewReader(strings.NewReader(many), Limits{MaxCommand: 100}).ReadReply(); err == nil || !strings.Contains(err.Error(), "more bytes") {
		t.Errorf("a reply above the limit: %v", err)
	}
}

func TestLargeReplyInPieces(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	in := AppendSimple(AppendBulk(AppendSimple(nil, "a"), want), "b")
	r := NewReader(&chunks{data: in, sizes: []int{1, 5000, 70000, 3}}, Limits{})
	for i, want := range [][]byte{[]byte("a"), want, []byte("b")} {
		got, err := r.ReadReply()
		if err != nil || !bytes.Equal(got.Bytes, want) {
			t.Fatalf("reply %d: %d bytes, %v", i, len(got.Bytes), err)
		}
	}
}

func drawReply(t *rapid.T, depth int) Reply {
	kinds := []byte("+-:$_#,(!=")
	if depth < 4 {
		kinds = append(kinds, "*~>%"...)
	}
	r := Reply{Type: rapid.SampledFrom(kinds).Draw(t, "type")}
	switch r.Type {
	case '+', '-', ',', '(':
		r.Bytes = []byte(rapid.StringMatching(`[ -~]{0,40}`).Draw(t, "text"))
	case '$', '!', '=':
		r.Bytes = rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "bytes")
	case ':':
		r.Int = rapid.Int64().Draw(t, "int")
	case '#':
		r.Int = rapid.Int64Range(0, 1).Draw(t, "bool")
	case '*', '~', '>', '%':
		n := rapid.IntRange(0, 5).Draw(t, "n")
		if r.Type == '%' {
			n *= 2
		}
		r.Elems = make([]Reply, n)
		for i := range r.Elems {
			r.Elems[i] = drawReply(t, depth+1)
		}
	}
	return r
}

// Law: replies read back as they were appended, in whatever pieces they come.
func TestRepliesReadBackEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 9000), 1, 10).Draw(t, "sizes")
		list := make([]Reply, rapid.IntRange(0, 8).Draw(t, "n"))
		var in []byte
		for i := range list {
			list[i] = drawReply(t, 0)
			in = AppendReply(in, list[i])
		}
		r := NewReader(&chunks{data: in, sizes: sizes}, Limits{})
		for i, want := range list {
			got, err := r.ReadReply()
			if err != nil || !bytes.Equal(AppendReply(nil, got), AppendReply(nil, want)) {
				t.Fatalf("reply %d: got %+v, %v; want %+v", i, got, err, want)
			}
		}
		if _, err := r.ReadReply(); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
	})
}
