package server_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestRedisCommandsAtAGlance(t *testing.T) {
	c := testcluster.Start(t)
	p := dial(t, c.Addr())
	p.want("nil", "GET", "k")
	p.want("0", "DBSIZE")
	p.want("OK", "SET", "k", "v")
	p.want("v", "get", "k")
	p.want("string", "TYPE", "k")
	p.want("-1", "TTL", "k")
	p.want("1", "EXPIRE", "k", "100")
	if ttl := p.do("TTL", "k").Int; ttl < 40 || ttl > 100 { // the clock runs
		t.Errorf("%d seconds to live", ttl)
	}
	p.want("2", "HSET", "h", "a", "1", "b", "2")
	p.want("[a 1 b 2]", "HGETALL", "h")
	p.want("[1 nil]", "HMGET", "h", "a", "zz")
	p.want("-WRONGTYPE Operation against a key holding the wrong kind of value", "GET", "h")
	p.want("2", "DBSIZE")
}

// A million fields, a long name, a key of nothing: refused, and nothing is changed.
func TestRedisInputIsBounded(t *testing.T) {
	c := testcluster.Start(t)
	p := dial(t, c.Addr())
	p.refused(wire.ErrBadRequest, "SET", "", "v")
	p.refused(wire.ErrBadRequest, "SET", strings.Repeat("k", 1025), "v")
	p.refused(wire.ErrBadRequest, "HSET", "h", strings.Repeat("f", 1024), "v")
	p.want("1", "HSET", "h", strings.Repeat("f", 1023), "v")
	p.want("nil", "GET", strings.Repeat("k", 1025))
	p.refused(wire.ErrGeneric, "SCAN", "0", "MATCH", strings.Repeat("*a", 513))
	p.want("OK", "SET", strings.Repeat("k", 1024), "v")
	// Neither a huge COUNT nor a pattern that goes back and forth, which would take for ever, takes long.
	for i := range 50 {
		p.want("OK", "SET", strings.Repeat("a", 1000)+strconv.Itoa(i), "v")
	}
	began := time.Now()
	r := p.do("SCAN", "0", "COUNT", "9223372036854775807", "MATCH", strings.Repeat("*a", 400)+"b")
	if len(r.Elems) != 2 || time.Since(began) > time.Minute {
		t.Errorf("%s after %v", text(r), time.Since(began))
	}
	many := []string{"HSET", "million"}
	for i := range 30_000 {
		many = append(many, strconv.Itoa(i), "v")
	}
	p.want("30000", many...)
	p.want("30000", append([]string{"HDEL"}, append([]string{"million"}, every2(many[2:])...)...)...)
	p.want("0", "EXISTS", "million")
}

func every2(list []string) (half []string) {
	for i := 0; i < len(list); i += 2 {
		half = append(half, list[i])
	}
	return half
}

// The licence, the configuration and the end of the server count for these commands too.
func TestRedisCommandsNeedAConfiguredCluster(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	p := dial(t, c.Addr())
	if why := p.refused(wire.ErrUnconfigured, "SET", "k", "v"); !strings.Contains(why, "cluster-tool configure") {
		t.Errorf("no hint: %s", why)
	}
	p.refused(wire.ErrUnconfigured, "SCAN", "0")
	c.Configure()
	p.want("OK", "SET", "k", "v")
}

func TestRedisKeysOutliveTheServer(t *testing.T) {
	c := testcluster.Start(t, testcluster.Dir(t.TempDir()))
	p := dial(t, c.Addr())
	p.want("OK", "SET", "k", "v", "EX", "1000")
	p.want("1", "HSET", "h", "", "empty name")
	c.Kill()
	c.Start()
	p = dial(t, c.Addr())
	p.want("v", "GET", "k")
	p.want("[ empty name]", "HGETALL", "h")
	if ttl := p.do("TTL", "k").Int; ttl < 900 || ttl > 1000 {
		t.Errorf("%d seconds to live", ttl)
	}
	p.want("2", "DBSIZE")
}

// A key whose time is up is removed, and its memory is given back, without anybody asking for it.
func TestRedisKeysExpireByThemselves(t *testing.T) {
	c := testcluster.Start(t)
	p := dial(t, c.Addr())
	p.want("OK", "SET", "k", "v", "PX", "30")
	p.want("1", "HSET", "h", "a", "b")
	p.want("1", "PEXPIRE", "h", "30")
	deadline := time.Now().Add(time.Minute)
	for p.do("DBSIZE").Int != 0 {
		if time.Now().After(deadline) {
			t.Fatal("the keys are still there")
		}
	}
	p.want("[nil]", "MGET", "k")
}

// While the disk cannot be written reads go on, also those that stand behind changes on their
// connection, as those of other callers do where a client library shares one.
func TestRedisReadsGoOnBehindRefusedChanges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	c := testcluster.Start(t, testcluster.Dir(dir))
	p := dial(t, c.Addr())
	p.want("OK", "SET", "k", "v")
	p.want("OK", "SET", "other", "w")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for p.do("SET", "other", "x").Type != '-' {
		if time.Now().After(deadline) {
			t.Fatal("nobody notices that the data root is gone")
		}
	}
	for range 50 {
		p.raw(command("SET", "k", "w") + command("GET", "k") + command("MGET", "k") + command("DBSIZE"))
		refusal(t, wire.ErrReadOnly, p.read())
		for _, want := range []string{"v", "[v]", "2"} {
			if got := text(p.read()); got != want {
				t.Fatalf("%s, not %s", got, want)
			}
		}
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	for p.do("SET", "k", "w").Type == '-' {
		if time.Now().After(deadline) {
			t.Fatal("changes are not taken again")
		}
	}
}

func TestRedisKeysAreNeverEvicted(t *testing.T) {
	c := testcluster.Start(t, testcluster.Offheap(1<<20))
	p := dial(t, c.Addr())
	value := strings.Repeat("x", 10_000)
	n := 0
	for ; n < 1000; n++ {
		if r := p.do("SET", "k"+strconv.Itoa(n), value); r.Type == '-' {
			if why := refusal(t, wire.ErrOutOfOffheap, r); !strings.Contains(why, "offheap-1") {
				t.Errorf("the refusal does not name the resource: %s", why)
			}
			break
		}
	}
	if n < 50 || n > 104 {
		t.Errorf("%d values of 10 kB were taken by 1 MiB", n)
	}
	p.want(strconv.Itoa(n), "DBSIZE")
	p.want("1", "DEL", "k0")
	p.want("OK", "SET", "k0", value)
}

// Sessions are reached by TC.* and keys by Redis commands: neither sees the other.
func TestRedisCommandsSeeNoSessions(t *testing.T) {
	c := testcluster.Start(t)
	n := join(t, c.Addr(), 1)
	n.want("OK", "SET", "k", "v")
	if why := n.refused(wire.ErrConflict, "TC.OPEN", "redis", "", "", "0", "", "none"); !strings.Contains(why, "redis") {
		t.Errorf("no reason: %s", why)
	}
	n.refused(wire.ErrConflict, "TC.LOAD", "redis", "k")
}

// TestPipelinedRedisCommandsTakeEffectInOrder sends reads and changes of the same keys without
// waiting; whether an answer is right depends on every command before it and none behind it.
func TestPipelinedRedisCommandsTakeEffectInOrder(t *testing.T) {
	for _, size := range []int{1, 40 << 10} { // by the log; waiting for the changes
		const n = 300
		var out strings.Builder
		value := func(i int) string { return strings.Repeat("x", size) + strconv.Itoa(i) }
		for i := range n {
			out.WriteString(command("SET", "k", value(i)))
			out.WriteString(command("GET", "k"))
			out.WriteString(command("HSET", "h", "f", strconv.Itoa(i)))
			out.WriteString(command("HGET", "h", "f"))
			out.WriteString(command("DEL", "h"))
			out.WriteString(command("EXISTS", "h", "k"))
			if i%50 == 0 {
				out.WriteString(command("DBSIZE"))
			}
		}
		c := testcluster.Start(t, testcluster.Dir(t.TempDir()))
		p := dial(t, c.Addr()) // the first command is due soon: they are all made before
		go func() { _, _ = p.nc.Write([]byte(out.String())) }()
		for i := range n {
			want := []string{"OK", value(i), "1", strconv.Itoa(i), "1", "1"}
			if i%50 == 0 {
				want = append(want, "1")
			}
			for j, w := range want {
				if got := text(p.read()); got != w {
					t.Fatalf("size %d, round %d, answer %d: %.40q; want %.40q", size, i, j, got, w)
				}
			}
		}
	}
}

var behind = regexp.MustCompile(`name=greedy .* waiting=(\d+) omem=(\d+)`)

// A peer that asks for much behind its changes, and reads nothing, costs a few megabytes and gets all answers
// when it reads at last.
func TestPipelinedRedisReadsDoNotPileUp(t *testing.T) {
	c := testcluster.Start(t, testcluster.Limits(server.Limits{MaxOutput: 64 << 10}))
	p, other := dial(t, c.Addr()), dial(t, c.Addr())
	value := strings.Repeat("x", 60<<10)
	p.want("OK", "SET", "k", value)
	p.want("OK", "CLIENT", "SETNAME", "greedy")
	const n = 500 // 30 MB of answers
	p.raw(strings.Repeat(command("SET", "j", "1")+command("GET", "k"), n))
	held := func() (waiting, bytes int) {
		m := behind.FindStringSubmatch(text(other.do("CLIENT", "LIST")))
		if m == nil {
			t.Fatal("the connection is not listed")
		}
		waiting, _ = strconv.Atoi(m[1])
		bytes, _ = strconv.Atoi(m[2])
		return waiting, bytes
	}
	// The server has stopped when nothing waits for the log any more and the socket takes no more of what is
	// kept, which may be one answer that the reading goroutine itself is writing.
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, since := -1, time.Now()
	for {
		waiting, bytes := held()
		if bytes > 8<<20 {
			t.Fatalf("%d bytes of answers are kept", bytes)
		}
		if waiting > 0 || bytes == 0 || bytes != last {
			last, since = bytes, time.Now()
		} else if time.Since(since) > 200*time.Millisecond {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d commands wait, %d bytes are kept", waiting, bytes)
		}
		<-tick.C
	}
	for range n {
		if got := text(p.read()); got != "OK" {
			t.Fatalf("got %.40q", got)
		}
		if got := p.read(); len(got.Bytes) != len(value) {
			t.Fatalf("got %d bytes", len(got.Bytes))
		}
	}
}

// startRedis starts Redis itself and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	bin := tool(t, "redis-server")
	port := testcluster.FreePort(t)
	cmd := exec.Command(bin, "--bind", "127.0.0.1", "--port", port, "--dir", t.TempDir(), "--save", "", "--appendonly", "no", "--hash-max-listpack-entries", "0")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	addr := net.JoinHostPort("127.0.0.1", port)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			nc.Close()
			return addr
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // until it listens; the deadline is above
	}
}

// drawn makes the random commands of the comparison with Redis.
type drawn struct{ *rand.Rand }

func (d drawn) of(list ...string) string { return list[d.IntN(len(list))] }

func (d drawn) key() string   { return d.of("a", "b", "c", "d", "with space", "\x00\xff", "e") }
func (d drawn) field() string { return d.of("f", "g", "", "h", "\r\n", "ff") }
func (d drawn) value() string {
	return d.of("", "v", "1", "-7", "\x00bin\r\n", strings.Repeat("long", 40), strings.Repeat("L", 5000))
}
func (d drawn) some(f func() string) (list []string) {
	for range 1 + d.IntN(5) {
		list = append(list, f())
	}
	return list
}
func (d drawn) number() string {
	return d.of("0", "-1", d.far(1_000_000), "x", "", "1.5", "9223372036854775807", "99999999999999999999", " 5", "+5", "05", "-9223372036854775808")
}

// far returns a number that is hardly ever drawn twice: which of two ends is later must not depend on
// how the clocks of two servers run.
func (d drawn) far(least int) string { return strconv.Itoa(least + d.IntN(100_000_000)) }

// life returns a time to live that is long, or wrong.
func (d drawn) life() []string {
	switch d.IntN(6) {
	case 0:
		return []string{"EX", d.of("100", "200", "5000")}
	case 1:
		return []string{"px", d.of("100000", "5000000")}
	case 2:
		return []string{"EXAT", d.of("4000000000", "4100000000")}
	case 3:
		return []string{"PXAT", "4000000000000"}
	case 4:
		return []string{d.of("EX", "PX", "EXAT", "PXAT"), d.of("0", "-5", "x", "9223372036854775807", "")}
	}
	return []string{"KEEPTTL"}
}

func (d drawn) command() []string {
	add := func(list []string, more ...string) []string { return append(list, more...) }
	switch d.IntN(34) {
	case 0, 1:
		return []string{"SET", d.key(), d.value()}
	case 2, 3, 4:
		c := []string{"set", d.key(), d.value()}
		for range d.IntN(3) {
			c = add(c, [][]string{{"NX"}, {"xx"}, {"GET"}, d.life(), d.life(), {"bogus"}, {"EX"}}[d.IntN(7)]...)
		}
		return c
	case 5:
		return []string{"GET", d.key()}
	case 6:
		return add([]string{d.of("DEL", "UNLINK")}, d.some(d.key)...)
	case 7:
		return add([]string{"EXISTS"}, d.some(d.key)...)
	case 8, 9:
		c := []string{d.of("EXPIRE", "PEXPIRE"), d.key(), d.of(d.far(100_000), d.far(100_000), "0", "-1", d.number())}
		if d.IntN(2) == 0 {
			c = add(c, d.of("NX", "XX", "gt", "LT", "bogus"))
		}
		if d.IntN(6) == 0 {
			c = add(c, d.of("NX", "XX", "GT", "LT"))
		}
		return c
	case 10:
		return []string{d.of("TTL", "PTTL"), d.key()}
	case 11:
		return []string{"PERSIST", d.key()}
	case 12:
		return []string{"TYPE", d.key()}
	case 13:
		return add([]string{"MGET"}, d.some(d.key)...)
	case 14, 15, 16:
		c := []string{d.of("HSET", "HMSET"), d.key()}
		for range 1 + d.IntN(4) {
			c = add(c, d.field(), d.value())
		}
		if d.IntN(10) == 0 {
			c = add(c, d.field())
		}
		return c
	case 17:
		return []string{"HGET", d.key(), d.field()}
	case 18:
		return add([]string{"HMGET", d.key()}, d.some(d.field)...)
	case 19, 20:
		return []string{d.of("HGETALL", "HKEYS", "HVALS"), d.key()}
	case 21:
		return add([]string{"HDEL", d.key()}, d.some(d.field)...)
	case 22:
		return []string{"HEXISTS", d.key(), d.field()}
	case 23:
		return []string{"HLEN", d.key()}
	case 24:
		return []string{"HSETNX", d.key(), d.field(), d.value()}
	case 25:
		return []string{"DBSIZE"}
	case 26:
		return []string{"STRLEN", d.key()}
	case 27:
		return []string{d.of("SETEX", "PSETEX"), d.key(), d.of("100000", "200000", d.number()), d.value()}
	case 28:
		return []string{d.of("SETNX", "GETSET"), d.key(), d.value()}
	case 29:
		return add([]string{"GETEX", d.key()}, [][]string{{}, {"PERSIST"}, {"EX", "5000"}, {"bogus"}, {"PERSIST", "PERSIST"}, {"KEEPTTL"}, {"EX", "5", "PX", "5"}}[d.IntN(7)]...)
	case 30:
		return []string{"GETDEL", d.key()}
	case 31:
		return []string{d.of("EXPIREAT", "PEXPIREAT"), d.key(), d.of(d.far(4_000_000_000), d.far(4_000_000_000_000), "5", "-5", d.number())}
	case 32:
		c := []string{"SCAN", "0", "COUNT", "1000"}
		return add(c, [][]string{{}, {"MATCH", d.of("*", "[a-c]", "[^a-c]", "?", "*\\x*", "w*sp*", "a\\", "[", "**")}, {"TYPE", d.of("hash", "string", "list")}, {"COUNT", d.of("0", "-1", "x")}, {"bogus"}}[d.IntN(5)]...)
	}
	// Too few, and too many, words.
	c := []string{d.of("GET", "SET", "DEL", "HSET", "HGET", "EXPIRE", "TTL", "DBSIZE", "SCAN", "MGET", "HGETALL", "PERSIST", "SETEX", "GETEX", "HSETNX")}
	for range d.IntN(4) {
		c = add(c, d.of("0", "a"))
	}
	return c
}

// hundredYears is the longest time to live here, in milliseconds.
const hundredYears = 100 * 366 * 24 * 3600 * 1000

// sameTTL reports whether both are times to live, within thirty seconds: clocks run.
func sameTTL(args []string, ours, theirs int64) bool {
	unit := map[string]int64{"TTL": 1000, "PTTL": 1}[strings.ToUpper(args[0])]
	if unit == 0 || ours <= 0 || theirs <= 0 {
		return false
	}
	apart := min(theirs, hundredYears/unit)*unit - ours*unit
	return max(apart, -apart) < 30_000
}

// comparable makes an answer one that both give: the order of fields and keys is nobody's business.
func comparable(args []string, r resp.Reply) string {
	switch name := strings.ToUpper(args[0]); {
	case r.Type == '-':
		return text(r)
	case name == "SCAN" && len(r.Elems) == 2:
		return string(r.Elems[0].Bytes) + " " + sorted(r.Elems[1].Elems, 1)
	case name == "HGETALL":
		return sorted(r.Elems, 2)
	case name == "HKEYS" || name == "HVALS":
		return sorted(r.Elems, 1)
	}
	return string(r.Type) + text(r)
}

func sorted(list []resp.Reply, step int) string {
	var s []string
	for i := 0; i+step <= len(list); i += step {
		s = append(s, fmt.Sprintf("%q", text(resp.Reply{Type: '*', Elems: list[i : i+step]})))
	}
	slices.Sort(s)
	return strings.Join(s, ",")
}

// TestRedisItselfAnswersTheSame sends random commands to us and to Redis, one at a time and pipelined, in
// RESP2 and RESP3, and compares every answer.
func TestRedisItselfAnswersTheSame(t *testing.T) {
	theirs := startRedis(t)
	ours := testcluster.Start(t)
	for _, proto := range []string{"2", "3"} {
		us, them := dial(t, ours.Addr()), dial(t, theirs)
		us.do("HELLO", proto)
		them.do("HELLO", proto)
		seed := rand.Uint64()
		d := drawn{rand.New(rand.NewPCG(seed, 1))}
		past := make(map[string][]string) // key -> commands and our answers
		for sent := 0; sent < 10_000; {
			batch := make([][]string, []int{1, 1, 2, 30}[d.IntN(4)])
			var b bytes.Buffer
			for i := range batch {
				batch[i] = d.command()
				b.WriteString(command(batch[i]...))
			}
			us.raw(b.String())
			them.raw(b.String())
			for _, args := range batch {
				theirs, ours := them.read(), us.read()
				if sameTTL(args, ours.Int, theirs.Int) {
					continue
				}
				want, got := comparable(args, theirs), comparable(args, ours)
				on := args[min(1, len(args)-1)]
				past[on] = append(past[on], fmt.Sprintf("%.60q %.40q", args, got))
				if got != want {
					t.Log(strings.Join(past[on], "\n"))
					t.Fatalf("seed %d, RESP%s, %q:\nours   %.300q\nRedis's %.300q", seed, proto, args, got, want)
				}
			}
			sent += len(batch)
		}
	}
}
