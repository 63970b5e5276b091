package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// chunks hands out its bytes in pieces of the given sizes, in turn.
type chunks struct {
	data  []byte
	sizes []int
	turn  int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := min(len(p), len(c.data), c.sizes[c.turn%len(c.sizes)])
	c.turn++
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

func clone(args [][]byte) [][]byte {
	out := make([][]byte, len(args))
	for i, a := range args {
		out[i] = bytes.Clone(a)
		if out[i] == nil {
			out[i] = []byte{}
		}
	}
	return out
}

func readAll(r *Reader) (list [][][]byte, err error) {
	for {
		args, err := r.ReadCommand()
		if err != nil {
			return list, err
		}
		list = append(list, clone(args))
	}
}

func TestCommands(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want [][]string
		err  string
	}{
		"array":                 {"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", [][]string{{"GET", "k"}}, "EOF"},
		"empty argument":        {"*2\r\n$1\r\na\r\n$0\r\n\r\n", [][]string{{"a", ""}}, "EOF"},
		"binary argument":       {"*1\r\n$4\r\n\r\n\x00*\r\n", [][]string{{"\r\n\x00*"}}, "EOF"},
		"two":                   {"*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", [][]string{{"a"}, {"b"}}, "EOF"},
		"empty and null array":  {"*0\r\n*-1\r\n*1\r\n$1\r\na\r\n", [][]string{{"a"}}, "EOF"},
		"inline":                {"PING\r\nGET  key \n", [][]string{{"PING"}, {"GET", "key"}}, "EOF"},
		"empty lines":           {"\r\n\n  \r\nPING\r\n", [][]string{{"PING"}}, "EOF"},
		"double quotes":         {`SET "a b" "\x41\n\"\q\xzz"` + "\r\n", [][]string{{"SET", "a b", "A\n\"qxzz"}}, "EOF"},
		"single quotes":         {`SET 'a\'b' '\n' ''` + "\r\n", [][]string{{"SET", "a'b", `\n`, ""}}, "EOF"},
		"quote within a word":   {`SET a"b c"` + "\r\n", [][]string{{"SET", "ab c"}}, "EOF"},
		"array after inline":    {"PING\r\n*1\r\n$1\r\na\r\n", [][]string{{"PING"}, {"a"}}, "EOF"},
		"open quote":            {"SET \"a\r\n", nil, "unbalanced quotes"},
		"text after a quote":    {"SET \"a\"b\r\n", nil, "unbalanced quotes"},
		"browser":               {"POST / HTTP/1.1\r\nHost: x\r\n", [][]string{{"POST", "/", "HTTP/1.1"}, {"Host:", "x"}}, "EOF"},
		"TLS":                   {"\x16\x03\x01\x02\x00\x01\x00\n", nil, "TLS handshake"},
		"half a header":         {"*1", nil, "unexpected EOF"},
		"half an argument":      {"*1\r\n$3\r\nab", nil, "unexpected EOF"},
		"half a line":           {"PIN", nil, "unexpected EOF"},
		"not a number":          {"*x\r\n", nil, `"x", not a number`},
		"negative":              {"*-2\r\n", nil, "not a number"},
		"plus sign":             {"*+1\r\n", nil, "not a number"},
		"header without CR":     {"*1\n$1\r\na\r\n", nil, "CR LF"},
		"number instead":        {"*1\r\n:1\r\n", nil, `expected "$", got ":1"`},
		"null argument":         {"*1\r\n$-1\r\n", nil, "is null"},
		"longer than told":      {"*1\r\n$1\r\nab\r\n", nil, "longer than announced"},
		"too many arguments":    {"*1048577\r\n", nil, "number of arguments is above the limit of 1048576"},
		"number that overflows": {"*99999999999999999999999\r\n", nil, "above the limit"},
		"argument too long":     {"*1\r\n$8388609\r\n", nil, "length of an argument is above the limit of 8388608"},
		"endless header":        {"*" + strings.Repeat("1", 100), nil, "above the limit of 32"},
		"endless line":          {strings.Repeat("a", 70<<10), nil, "above the limit of 65536"},
		"long line":             {strings.Repeat("a", 70<<10) + "\n", nil, "above the limit of 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			for chunk, src := range map[string]io.Reader{"at once": strings.NewReader(c.in), "byte by byte": iotest.OneByteReader(strings.NewReader(c.in))} {
				got, err := readAll(NewReader(src, Limits{}))
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%s: error %v, want %s", chunk, err, c.err)
				}
				if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
					t.Errorf("%s: got %q, want %q", chunk, got, c.want)
				}
			}
		})
	}
}

func TestWholeCommandIsBounded(t *testing.T) {
	r := NewReader(strings.NewReader("*3\r\n$5\r\nhello\r\n$5\r\nhello\r\n$90\r\n"), Limits{MaxCommand: 100})
	var e *ProtocolError
	if _, err := r.ReadCommand(); !errors.As(err, &e) || !strings.Contains(e.Text, "length of the command") {
		t.Errorf("got %v", err)
	}
}

func TestSetLimitsFromTheNextCommand(t *testing.T) {
	r := NewReader(strings.NewReader("*1\r\n$3\r\nabc\r\n*1\r\n$3\r\nabc\r\n"), Limits{MaxBulk: 3})
	if _, err := r.ReadCommand(); err != nil {
		t.Fatal(err)
	}
	r.SetLimits(Limits{MaxBulk: 2})
	if _, err := r.ReadCommand(); err == nil {
		t.Error("an argument above the new limit was taken")
	}
}

// Half a command must not hold back the answers to those before it.
func TestBufferedCountsWholeCommandsOnly(t *testing.T) {
	whole := "*1\r\n$4\r\nPING\r\n"
	for in, want := range map[string]bool{
		whole:                    false,
		whole + "*1\r\n$4\r\nPI": false,
		whole + whole:            true,
		whole + "\r\n":           false,
		whole + "PING\r\n":       true,
		whole + "*x\r\n":         true, // ReadCommand returns an error at once
	} {
		r := NewReader(strings.NewReader(in), Limits{})
		args, err := r.ReadCommand()
		if err != nil || r.Buffered() != want {
			t.Errorf("after %q: Buffered is not %v (%v)", in, want, err)
		}
		if string(args[0]) != "PING" {
			t.Errorf("%q: Buffered changed the arguments to %q", in, args)
		}
	}
}

// A server may set a deadline on the connection and go on after it.
func TestTimeoutWithinCommandLosesNothing(t *testing.T) {
	src := iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("*1\r\n$4\r\nPING\r\n")))
	r := NewReader(src, Limits{})
	if _, err := r.ReadCommand(); !errors.Is(err, iotest.ErrTimeout) {
		t.Fatalf("got %v", err)
	}
	if args, err := r.ReadCommand(); err != nil || string(args[0]) != "PING" {
		t.Errorf("got %q, %v", args, err)
	}
}

// announcer sends a header and then nothing; it tells how much memory was taken.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestAnnouncedBytesCostNothing(t *testing.T) {
	for name, in := range map[string]string{
		"command: length": "*1\r\n$8388608\r\n",
		"command: count":  "*1048576\r\n",
	} {
		if n := allocated(func() { _, _ = NewReader(strings.NewReader(in), Limits{}).ReadCommand() }); n > 64<<10 {
			t.Errorf("%s took %d bytes", name, n)
		}
	}
	for name, in := range map[string]string{
		"reply: length": "$8388608\r\n",
		"reply: count":  "*1048576\r\n",
		"reply: map":    "%500000\r\n",
		"reply: nested": strings.Repeat("*1000000\r\n", 30),
	} {
		if n := allocated(func() { _, _ = NewReader(strings.NewReader(in), Limits{}).ReadReply() }); n > 256<<10 {
			t.Errorf("%s took %d bytes", name, n)
		}
	}
}

func TestMillionArgumentsAreTaken(t *testing.T) {
	in := []byte("*1048576\r\n")
	in = append(in, bytes.Repeat([]byte("$0\r\n\r\n"), 1<<20)...)
	in = append(in, strings.Repeat("*1\r\n$1\r\na\r\n", 2*calmAfter)...)
	r := NewReader(bytes.NewReader(in), Limits{})
	args, err := r.ReadCommand()
	if err != nil || len(args) != 1<<20 {
		t.Fatalf("got %d arguments, %v", len(args), err)
	}
	if _, err = readAll(r); err != io.EOF {
		t.Fatal(err)
	}
	if cap(r.args) > keepSpans || cap(r.spans) > keepSpans {
		t.Errorf("memory for %d arguments is kept", cap(r.args))
	}
}

func TestLargeBufferIsGivenBack(t *testing.T) {
	var in []byte
	in = AppendCommand(in, make([]byte, 4<<20))
	for range 10 * calmAfter {
		in = AppendCommand(in, make([]byte, 20<<10))
	}
	r := NewReader(&chunks{data: in, sizes: []int{20<<10 + 17}}, Limits{})
	if _, err := readAll(r); err != io.EOF {
		t.Fatal(err)
	}
	if len(r.buf) > 2*usualBuffer {
		t.Errorf("the buffer still has %d bytes", len(r.buf))
	}
}

// What one protocol lacks, the other's form stands for.
func TestAppendByProtocol(t *testing.T) {
	for _, c := range []struct{ two, three, want2, want3 string }{
		{string(AppendNull(nil, 2)), string(AppendNull(nil, 3)), "$-1\r\n", "_\r\n"},
		{string(AppendMapHeader(nil, 2, 3)), string(AppendMapHeader(nil, 3, 3)), "*6\r\n", "%3\r\n"},
		{string(AppendSetHeader(nil, 2, 3)), string(AppendSetHeader(nil, 3, 3)), "*3\r\n", "~3\r\n"},
		{string(AppendPushHeader(nil, 2, 3)), string(AppendPushHeader(nil, 3, 3)), "*3\r\n", ">3\r\n"},
		{string(AppendVerbatim(nil, 2, "a")), string(AppendVerbatim(nil, 3, "a")), "$1\r\na\r\n", "=5\r\ntxt:a\r\n"},
		{string(AppendError(nil, "ERR a\r\n+OK")), string(AppendSimple(nil, "a\nb")), "-ERR a  +OK\r\n", "+a b\r\n"},
		{string(AppendArrayHeader(nil, 0)), string(AppendInt(nil, math.MinInt64)), "*0\r\n", ":-9223372036854775808\r\n"},
		{string(AppendBulk(nil, nil)), string(AppendBulkString(nil, "a")), "$0\r\n\r\n", "$1\r\na\r\n"},
	} {
		if c.two != c.want2 || c.three != c.want3 {
			t.Errorf("got %q and %q, want %q and %q", c.two, c.three, c.want2, c.want3)
		}
	}
}

// Law: commands read back as they were appended, in whatever pieces they come.
func TestCommandsReadBackEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		arg := rapid.SliceOfN(rapid.Byte(), 0, 300)
		list := rapid.SliceOfN(rapid.SliceOfN(arg, 1, 20), 0, 30).Draw(t, "commands")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 9000), 1, 10).Draw(t, "sizes")
		var in []byte
		for _, args := range list {
			in = AppendCommand(in, args...)
		}
		r := NewReader(&chunks{data: in, sizes: sizes}, Limits{})
		for i, want := range list {
			if rapid.Bool().Draw(t, "ask") {
				r.Buffered()
			}
			got, err := r.ReadCommand()
			if err != nil || !reflect.DeepEqual(clone(got), clone(want)) {
				t.Fatalf("command %d: got %q, %v; want %q", i, got, err, want)
			}
		}
		if _, err := r.ReadCommand(); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
	})
}
