package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/redis/rueidis"

	"github.com/terracotta-go/terracotta/internal/resp"
)

// Our codec against those of go-redis and rueidis, over a pipe: commands that they
// write are read by ours as they were meant, and replies that ours writes are
// read by them, and by ours, as they were meant.
func FuzzCodecAgainstTheirs(f *testing.F) {
	seeds := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		seed := make([]byte, 4+n)
		for i := range seed {
			seed[i] = byte(seeds.Uint32())
		}
		f.Add(seed)
	}
	f.Add([]byte(nil))
	s := &scriptedServer{}
	foreigners := []foreigner{newGoRedis(f, s), newRueidis(f, s)}
	f.Fuzz(func(t *testing.T, in []byte) {
		g := &generator{rest: in}
		want := g.value(0)
		wire := encode(nil, want)
		if again := resp.AppendReply(nil, want); !bytes.Equal(wire, again) {
			t.Errorf("AppendReply writes %q, the functions for each type %q", again, wire)
		}
		ours, err := resp.NewReader(bytes.NewReader(wire), resp.Limits{}).ReadReply()
		if err != nil || meant(ours, false) != meant(want, false) {
			t.Errorf("%q: ours reads %s, %v; meant was %s", wire, meant(ours, false), err, meant(want, false))
		}
		args := []string{scriptedCommand}
		for range 1 + int(g.byte())%4 {
			args = append(args, g.text())
		}
		for _, c := range foreigners {
			s.prepare(wire)
			if got, want := c.do(args), meant(want, c.verbatim); got != want {
				t.Errorf("%q: %s reads %s; meant was %s", wire, c.name, got, want)
			}
			if got := s.received(); !slices.Equal(got, args) {
				t.Errorf("%s wrote %q, ours reads %q", c.name, args, got)
			}
		}
	})
}

// generator makes values out of what a fuzzer sends; at its end, it makes small ones.
type generator struct{ rest []byte }

func (g *generator) byte() byte {
	if len(g.rest) == 0 {
		return 0
	}
	b := g.rest[0]
	g.rest = g.rest[1:]
	return b
}

func (g *generator) text() string {
	n := int(g.byte())
	if n > 250 {
		n = (n - 250) * 40_000 // beyond all usual buffers
		return strings.Repeat(string(rune('a'+n%26)), n)
	}
	n = min(n, len(g.rest))
	s := string(g.rest[:n])
	g.rest = g.rest[n:]
	return s
}

// line is text without line ends, as a simple string is, and as long as one may be.
func (g *generator) line() string {
	s := g.text()
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(s[:min(len(s), 60_000)])
}

func (g *generator) int64() int64 {
	var b [8]byte
	g.rest = g.rest[copy(b[:], g.rest):]
	return int64(binary.BigEndian.Uint64(b[:]))
}

const nesting = 6

func (g *generator) value(depth int) resp.Reply {
	kinds := "$+:_#,(=-!*~%"
	if depth == nesting {
		kinds = kinds[:10]
	}
	r := resp.Reply{Type: kinds[int(g.byte())%len(kinds)]}
	switch r.Type {
	case '$':
		r.Bytes = []byte(g.text())
	case '+':
		r.Bytes = []byte(g.line())
	case ':':
		r.Int = g.int64()
	case '#':
		r.Int = int64(g.byte() & 1)
	case ',':
		r.Bytes = doubleText(math.Float64frombits(uint64(g.int64())))
	case '(':
		digits := g.text()
		n := new(big.Int).SetBytes([]byte(digits[:min(len(digits), 1000)]))
		if g.byte()&1 == 1 {
			n.Neg(n)
		}
		r.Bytes = []byte(n.String())
	case '=':
		r.Bytes = []byte("txt:" + g.text())
	case '-':
		r.Bytes = []byte("BADREQUEST " + g.line())
	case '!':
		r.Bytes = []byte("BADREQUEST " + g.text())
	case '*', '~':
		for range g.byte() % 12 {
			r.Elems = append(r.Elems, g.value(depth+1))
		}
	case '%':
		for i := range g.byte() % 12 {
			key := resp.Reply{Type: '$', Bytes: []byte(fmt.Sprint(i, g.text()))} // each once
			r.Elems = append(r.Elems, key, g.value(depth+1))
		}
	}
	return r
}

func doubleText(f float64) []byte {
	switch {
	case math.IsInf(f, 0):
		return []byte(strings.TrimPrefix(strings.ToLower(fmt.Sprint(f)), "+"))
	case math.IsNaN(f):
		return []byte("nan")
	}
	return strconv.AppendFloat(nil, f, 'g', -1, 64)
}

// encode writes r with the function for its type, where there is one.
func encode(dst []byte, r resp.Reply) []byte {
	switch r.Type {
	case '$':
		return resp.AppendBulk(dst, r.Bytes)
	case '+':
		return resp.AppendSimple(dst, string(r.Bytes))
	case '-':
		return resp.AppendError(dst, string(r.Bytes))
	case '=':
		return resp.AppendVerbatim(dst, 3, string(r.Bytes[len("txt:"):]))
	case '_':
		return resp.AppendNull(dst, 3)
	case '*':
		dst = resp.AppendArrayHeader(dst, len(r.Elems))
	case '~':
		dst = resp.AppendSetHeader(dst, 3, len(r.Elems))
	case '%':
		dst = resp.AppendMapHeader(dst, 3, len(r.Elems)/2)
	default: // : # , ( !
		return resp.AppendReply(dst, r)
	}
	for _, e := range r.Elems {
		dst = encode(dst, e)
	}
	return dst
}

// meant writes a value down as shown does what a foreign client returns.
// With verbatim, a verbatim string keeps the name of its format.
func meant(r resp.Reply, verbatim bool) string {
	switch r.Type {
	case '-', '!':
		return fmt.Sprintf("error %q", r.Bytes)
	case ':':
		return fmt.Sprintf("integer %d", r.Int)
	case '#':
		return fmt.Sprintf("boolean %t", r.Int != 0)
	case '_':
		return "null"
	case ',':
		f, _ := strconv.ParseFloat(string(r.Bytes), 64)
		return fmt.Sprintf("double %v", f)
	case '=':
		if !verbatim {
			return fmt.Sprintf("string %q", r.Bytes[len("txt:"):])
		}
	case '*', '~':
		var list []string
		for _, e := range r.Elems {
			list = append(list, meant(e, verbatim))
		}
		return fmt.Sprintf("list %q", list)
	case '%':
		m := map[string]string{}
		for i := 0; i < len(r.Elems); i += 2 {
			m[string(r.Elems[i].Bytes)] = meant(r.Elems[i+1], verbatim)
		}
		return shownMap(m)
	}
	return fmt.Sprintf("string %q", r.Bytes)
}

func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case error:
		return fmt.Sprintf("error %q", v.Error())
	case string:
		return fmt.Sprintf("string %q", v)
	case *big.Int: // rueidis leaves it a string
		return fmt.Sprintf("string %q", v.String())
	case int64:
		return fmt.Sprintf("integer %d", v)
	case bool:
		return fmt.Sprintf("boolean %t", v)
	case float64:
		return fmt.Sprintf("double %v", v)
	case []any:
		var list []string
		for _, e := range v {
			list = append(list, shown(e))
		}
		return fmt.Sprintf("list %q", list)
	case map[string]any:
		m := map[string]string{}
		for k, e := range v {
			m[k] = shown(e)
		}
		return shownMap(m)
	case map[any]any:
		m := map[string]string{}
		for k, e := range v {
			m[fmt.Sprint(k)] = shown(e)
		}
		return shownMap(m)
	}
	return fmt.Sprintf("%T", v)
}

func shownMap(m map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k, m[k])
	}
	return fmt.Sprintf("map %q", list)
}

// scriptedCommand is what is answered with the bytes that the test prepares.
const scriptedCommand = "SCRIPTED"

// scriptedServer reads with our codec what foreign clients write.
type scriptedServer struct {
	mu     sync.Mutex
	answer []byte
	got    []string
}

func (s *scriptedServer) prepare(answer []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.got = answer, nil
}

func (s *scriptedServer) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

// dial returns the client's end of a new connection.
func (s *scriptedServer) dial() net.Conn {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		r := resp.NewReader(there, resp.Limits{})
		for {
			args, err := r.ReadCommand()
			if err != nil {
				return
			}
			if _, err := there.Write(s.reply(args)); err != nil {
				return
			}
		}
	}()
	return here
}

func (s *scriptedServer) reply(args [][]byte) []byte {
	switch name := strings.ToUpper(string(args[0])); name {
	case scriptedCommand:
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, a := range args {
			s.got = append(s.got, string(a))
		}
		return s.answer
	case "HELLO":
		b := resp.AppendMapHeader(nil, 3, 4)
		for _, word := range []string{"server", "redis", "version", "7.2.0", "mode", "standalone"} {
			b = resp.AppendBulkString(b, word)
		}
		return resp.AppendInt(resp.AppendBulkString(b, "proto"), 3)
	case "PING":
		return resp.AppendSimple(nil, "PONG")
	default:
		return resp.AppendSimple(nil, "OK")
	}
}

// foreigner is a client that is not ours. do sends a command and shows the answer.
type foreigner struct {
	name     string
	verbatim bool // keeps the format of a verbatim string
	do       func(args []string) string
}

func newGoRedis(f *testing.F, s *scriptedServer) foreigner {
	c := redis.NewClient(&redis.Options{
		Addr: "pipe:1", Protocol: 3, MaxRetries: -1, PoolSize: 1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return s.dial(), nil },
	})
	f.Cleanup(func() { c.Close() })
	return foreigner{name: "go-redis", do: func(args []string) string {
		list := make([]any, len(args))
		for i, a := range args {
			list[i] = a
		}
		v, err := c.Do(context.Background(), list...).Result()
		if errors.Is(err, redis.Nil) {
			return shown(nil)
		}
		if err != nil {
			return shown(err)
		}
		return shown(v)
	}}
}

func newRueidis(f *testing.F, s *scriptedServer) foreigner {
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{"pipe:1"}, DisableCache: true, ForceSingleClient: true, DisableRetry: true, ClientSetInfo: rueidis.DisableClientSetInfo,
		DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) { return s.dial(), nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	return foreigner{name: "rueidis", verbatim: true, do: func(args []string) string {
		v, err := c.Do(context.Background(), c.B().Arbitrary(args...).Build()).ToAny()
		if rueidis.IsRedisNil(err) {
			return shown(nil)
		}
		if err != nil {
			return shown(err)
		}
		return shown(v)
	}}
}
