package wire

import (
	"bytes"
	"math"
	"reflect"
	"testing"
	"time"
)

var (
	node  = NodeID{1, 2, 3, 15: 9}
	write = Write{Dataset: []byte("carts"), Key: []byte("aB3.key"), Node: node, Seq: 7, Low: 3, Token: Token{1, 2, 3, math.MaxUint64}}
	set   = []Attribute{{[]byte("cart"), []byte("\x00\r\n$")}, {[]byte("b"), []byte{}}}

	create     = Create{write, time.Second, 0, []byte("ann"), set}
	commit     = Commit{write, KeepIdle, set, [][]byte{[]byte("gone")}}
	invalidate = Invalidate{write, []byte("logout")}
	renew      = Renew{write, []byte("aB3.new"), 5 * time.Second, true, []byte("ann")}
	load       = Load{write.Dataset, write.Key, node, LoadRead, nil}
	open       = Open{write.Dataset, []byte("offheap-1"), []byte("dataroot-1"), 64, []byte("shop,eu"), []byte("none")}
	join       = Join{node, 2, 5, []byte("host-a")}
	leave      = Leave{node}
)

// What AppendArgs writes, Parse reads back unchanged.
func TestCommandsThereAndBack(t *testing.T) {
	check := func(cmd string, args [][]byte, want any, parse func([][]byte) (any, error)) {
		t.Helper()
		if string(args[0]) != cmd {
			t.Errorf("command %q, want %q", args[0], cmd)
		}
		got, err := parse(args[1:])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", cmd, got, err, want)
		}
		for n := range args[1:] { // a prefix is never mistaken for a command
			if _, err := parse(args[1 : 1+n]); err == nil && cmd != CmdRenew {
				t.Errorf("%s with %d of %d arguments was taken", cmd, n, len(args)-1)
			}
		}
		if _, err := parse(append(args[1:len(args):len(args)], []byte("x"))); !Is(err, ErrBadRequest) {
			t.Errorf("%s with an argument too many: %v", cmd, err)
		}
	}
	check(CmdCreate, create.AppendArgs(nil), create, func(a [][]byte) (any, error) { return ParseCreate(a) })
	check(CmdCommit, commit.AppendArgs(nil), commit, func(a [][]byte) (any, error) { return ParseCommit(a) })
	check(CmdInvalidate, invalidate.AppendArgs(nil), invalidate, func(a [][]byte) (any, error) { return ParseInvalidate(a) })
	check(CmdRenew, renew.AppendArgs(nil), renew, func(a [][]byte) (any, error) { return ParseRenew(a) })
	check(CmdLoad, load.AppendArgs(nil), load, func(a [][]byte) (any, error) { return ParseLoad(a) })
	check(CmdOpen, open.AppendArgs(nil), open, func(a [][]byte) (any, error) { return ParseOpen(a) })
	check(CmdLeave, leave.AppendArgs(nil), leave, func(a [][]byte) (any, error) { return ParseLeave(a) })
	check(CmdJoin, join.AppendArgs(nil), join, func(a [][]byte) (any, error) { return ParseJoin(a) })
}

func TestAnswersThereAndBack(t *testing.T) {
	session := Session{[]byte("k"), write.Token, true, 9, time.Hour, 0, time.Minute, KeepIdle, []byte{}, set}
	for _, s := range []Session{session, {Key: []byte("k"), User: []byte("u")}} {
		for _, room := range [][]Attribute{nil, make([]Attribute, 1), make([]Attribute, 9)} {
			if got, err := ParseSession(s.AppendTo(nil), room); err != nil || !reflect.DeepEqual(got, s) {
				t.Errorf("with room %d got %+v, %v; want %+v", len(room), got, err, s)
			}
		}
	}
	for _, o := range []Outcome{{Version: 3, Existed: true, Token: write.Token}, {Dropped: [][]byte{[]byte("a"), []byte("b")}}} {
		if got, err := ParseOutcome(o.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, o) {
			t.Errorf("got %+v, %v; want %+v", got, err, o)
		}
	}
	joined := Joined{1, "s1", "MyCluster", 2 * time.Second, 8 << 20}
	if got, err := ParseJoined(joined.AppendTo(nil)); err != nil || got != joined {
		t.Errorf("got %+v, %v; want %+v", got, err, joined)
	}
	list := []UserSession{{[]byte("k1"), time.Hour, time.Second}, {[]byte("k2"), time.Minute, 0}}
	if got, err := ParseUserSessions(AppendUserSessions(nil, list)); err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("got %+v, %v; want %+v", got, err, list)
	}
}

// A later server may answer with more words in the header; this client skips them.
func TestAnswerWithMoreWordsInTheHeader(t *testing.T) {
	o, err := ParseOutcome([][]byte{[]byte("3 0 0.0.0.0 new"), []byte("dropped")})
	if err != nil || o.Version != 3 || len(o.Dropped) != 1 || string(o.Dropped[0]) != "dropped" {
		t.Errorf("got %+v, %v", o, err)
	}
	s, err := ParseSession([][]byte{[]byte("0.2.2.4 0 4 1 2 3 -1 new words"), []byte("k"), nil}, nil)
	if err != nil || s.Version != 4 || s.IdleMax != 3*time.Millisecond || s.Remaining != KeepIdle {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for _, header := range []string{"", " ", "0.2.2.4", "0.2.2.4 2 4 1 2 3 -1", "0.2.2.4 0 4 1 2 3", "0.2.2.4 0 4 1 2 3 ", "0.2.2.4 0 4 1 2 3 -1x",
		"0.2.2.4  0 4 1 2 3 -1", "0.2.2.4 0 4 1 2 3 -2", "0.2.2 0 4 1 2 3 -1", "0.2.2.4 0 4 1 2 3 9999999999999999"} {
		if s, err := ParseSession([][]byte{[]byte(header), []byte("k"), nil}, nil); err == nil {
			t.Errorf("%q is %+v", header, s)
		}
	}
	for _, header := range []string{"", "3", "3 0", "3 2 0.0.0.0", "x 0 0.0.0.0", "3 0 0.0.0"} {
		if o, err := ParseOutcome([][]byte{[]byte(header)}); err == nil {
			t.Errorf("%q is %+v", header, o)
		}
	}
	good := []byte("0.2.2.4 0 4 1 2 3 -1")
	for _, a := range [][][]byte{nil, {good}, {good, good}, {good, good, good, good}} {
		if s, err := ParseSession(a, nil); err == nil {
			t.Errorf("%q is %+v", a, s)
		}
	}
	if o, err := ParseOutcome(nil); err == nil {
		t.Errorf("nothing is %+v", o)
	}
}

func TestEveryErrorWordThereAndBack(t *testing.T) {
	for _, w := range Words {
		e := ParseError((&Error{Word: w.Word, Text: "some text"}).Error())
		if e.Word != w.Word || e.Text != "some text" {
			t.Errorf("%s came back as %+v", w.Word, e)
		}
		if w.Means == "" || w.Word.Retryable() != w.Retry {
			t.Errorf("%s: row is incomplete", w.Word)
		}
	}
	if e := ParseError("WHATEVER it says"); e.Word != ErrGeneric || e.Text != "WHATEVER it says" {
		t.Errorf("unknown word: %+v", e)
	}
}

func TestHostileArguments(t *testing.T) {
	good := (&Commit{Write: write, Idle: KeepIdle, Set: set}).AppendArgs(nil)[1:]
	for name, change := range map[string]func(a [][]byte){
		"sequence with sign":      func(a [][]byte) { a[3] = []byte("+7") },
		"sequence with zero":      func(a [][]byte) { a[3] = []byte("07") },
		"sequence too large":      func(a [][]byte) { a[3] = []byte("18446744073709551616") },
		"low above sequence":      func(a [][]byte) { a[4] = []byte("8") },
		"low zero":                func(a [][]byte) { a[4] = []byte("0") },
		"node zero":               func(a [][]byte) { a[2] = bytes.Repeat([]byte("0"), 32) },
		"node short":              func(a [][]byte) { a[2] = []byte("ab") },
		"token short":             func(a [][]byte) { a[5] = []byte("1.2.3") },
		"token long":              func(a [][]byte) { a[5] = []byte("1.2.3.4.5") },
		"idle of 1000 years":      func(a [][]byte) { a[6] = []byte("31622400000000") },
		"count that would panic":  func(a [][]byte) { a[7] = []byte("9223372036854775807") },
		"count of all that is":    func(a [][]byte) { a[7] = []byte("5") },
		"empty dataset":           func(a [][]byte) { a[0] = nil },
		"key of a megabyte":       func(a [][]byte) { a[1] = make([]byte, 1<<20) },
		"attribute name too long": func(a [][]byte) { a[8] = make([]byte, MaxAttributeName+1) },
	} {
		a := append([][]byte(nil), good...)
		change(a)
		if _, err := ParseCommit(a); !Is(err, ErrBadRequest) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Law: parsing never panics, and what parses is written back as it was.
func FuzzCommands(f *testing.F) {
	c := Commit{write, KeepIdle, set, [][]byte{[]byte("gone")}}
	f.Add(bytes.Join(c.AppendArgs(nil)[1:], []byte(" ")))
	r := Renew{write, []byte("n"), 0, true, []byte("u")}
	f.Add(bytes.Join(r.AppendArgs(nil)[1:], []byte(" ")))
	f.Fuzz(func(t *testing.T, line []byte) {
		a := bytes.Split(line, []byte(" "))
		if c, err := ParseCommit(a); err == nil {
			if back := c.AppendArgs(nil)[1:]; !reflect.DeepEqual(back, a) {
				t.Errorf("%q came back as %q", a, back)
			}
		}
		_, _ = ParseCreate(a)
		_, _ = ParseRenew(a)
		_, _ = ParseLoad(a)
		_, _ = ParseOpen(a)
		_, _ = ParseJoin(a)
		_, _ = ParseLeave(a)
		_, _ = ParseInvalidate(a)
		_, _ = ParseSession(a, nil)
		_, _ = ParseOutcome(a)
		_, _ = ParseUserSessions(a)
	})
}
