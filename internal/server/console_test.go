package server_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestConsoleCommands(t *testing.T) {
	c := testcluster.Start(t)
	p := dial(t, c.Addr())
	p.want("PONG", "ping")
	p.want("hi", "PING", "hi")
	p.want("hello", "Echo", "hello")
	p.want("OK", "SELECT", "0")
	p.refused(wire.ErrGeneric, "SELECT", "1")
	p.want("nil", "CLIENT", "GETNAME")
	p.want("OK", "CLIENT", "SETNAME", "shell")
	p.want("shell", "CLIENT", "GETNAME")
	p.refused(wire.ErrBadRequest, "CLIENT", "SETNAME", "two words")
	p.want("OK", "CLIENT", "SETINFO", "LIB-NAME", "test")
	p.refused(wire.ErrBadRequest, "CLIENT", "SETINFO", "LIB-COLOUR", "red")
	p.want("OK", "CLIENT", "NO-EVICT", "on")
	p.refused(wire.ErrGeneric, "CLIENT", "KILL", "1.2.3.4:5")
	p.refused(wire.ErrGeneric, "CLIENT", "TRACKING", "ON")
	if got := text(p.do("CLIENT", "LIST")); !strings.Contains(got, "name=shell") || !strings.Contains(got, "lib-name=test") {
		t.Errorf("CLIENT LIST: %s", got)
	}
	if got := text(p.do("CLIENT", "INFO")); !strings.HasPrefix(got, "id="+text(p.do("CLIENT", "ID"))+" ") {
		t.Errorf("CLIENT INFO: %s", got)
	}
	p.refused(wire.ErrBadRequest, "ECHO")
	p.refused(wire.ErrBadRequest, "PING", "a", "b")
	if why := p.refused(wire.ErrGeneric, "TC.LAOD", "x"); !strings.Contains(why, "TC.LOAD") {
		t.Errorf("no hint: %s", why)
	}
	if got := text(p.do("INFO", "stripe")); !strings.HasPrefix(got, "# Stripe") || strings.Contains(got, "# Server") {
		t.Errorf("INFO stripe: %s", got)
	}
	p.want("[]", "COMMAND", "DOCS", "nosuch")
	if got := p.do("COMMAND", "INFO", "ping", "nosuch"); len(got.Elems) != 2 || got.Elems[1].Type != '_' {
		t.Errorf("COMMAND INFO: %s", text(got))
	}
	count := p.do("COMMAND", "COUNT").Int
	if help := p.do("TC.HELP"); int64(len(help.Elems)) != count {
		t.Errorf("TC.HELP has %d lines for %d commands", len(help.Elems), count)
	}
	p.refused(wire.ErrBadRequest, "HELLO", "3", "SETNAME")
	if r := p.do("HELLO", "4"); !strings.HasPrefix(text(r), "-NOPROTO ") {
		t.Errorf("HELLO 4: %s", text(r))
	}
	if r := p.do("HELLO", "3"); r.Type != '%' {
		t.Errorf("HELLO 3 answers a %c", r.Type)
	}
	if r := p.do(wire.CmdStatus); r.Type != '$' || r.Bytes[0] != '{' {
		t.Errorf("RESP3 gets status %s", text(r))
	}
	p.want("OK", "QUIT")
	p.closed()
}

// Lines typed into telnet or nc, without a word of RESP.
func TestInlineCommands(t *testing.T) {
	c := testcluster.Start(t)
	p := dial(t, c.Addr())
	p.raw("PING\r\n\r\nECHO \"two words\"\nQUIT\r\n")
	if got := p.closed(); got != "+PONG\r\n$9\r\ntwo words\r\n+OK\r\n" {
		t.Errorf("got %q", got)
	}
}

// A peer that closes its half after the last command still gets every answer.
func TestHalfClosedPeerGetsItsAnswers(t *testing.T) {
	_, n := carts(t)
	w := wire.Create{Write: n.write("k", wire.Token{})}
	n.raw("PING\r\n" + command(strs(w.AppendArgs(nil))...) + "PING\r\n")
	if err := n.nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := n.closed(); !strings.HasPrefix(got, "+PONG\r\n*1\r\n") || !strings.HasSuffix(got, "+PONG\r\n") {
		t.Errorf("got %q", got)
	}
}

// tool skips without the program, or fails where the tools are promised.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("TOOLS_REQUIRED") == "1" {
		t.Fatalf("%s is not installed (apt-get install redis-tools)", name)
	}
	t.Skipf("%s is not installed; TOOLS_REQUIRED=1 makes this a failure", name)
	return ""
}

func TestRedisCLI(t *testing.T) {
	cli := tool(t, "redis-cli")
	c, n := carts(t)
	n.create("abc.1", "ann", "cart", "book")
	run := func(stdin string, args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		host, port, _ := net.SplitHostPort(c.Addr())
		cmd := exec.CommandContext(ctx, cli, append([]string{"-h", host, "-p", port}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("redis-cli %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, row := range []struct{ want, args string }{
		{"PONG", "PING"},
		{"terracotta_version:" + testcluster.Version, "INFO"},
		{"cluster:     " + testcluster.Name, "TC.STATUS"},
		{`"state":"ACTIVE"`, "TC.STATUS JSON"},
		{"dataset:     carts: 1 sessions", "-3 TC.STATUS TEXT"},
		{`15) "attribute cart"` + "\n" + `16) "book"`, "--no-raw TC.LOAD carts abc.1"},
		{`"key" => "abc.1"`, "--no-raw -3 TC.LOAD carts abc.1"},
		{"TC.LOAD dataset key", "TC.HELP"},
		{"did you mean TC.STATUS", "TC.STATS"},
		{"proto 3", "-3 HELLO 3"},
	} {
		if got := run("", strings.Fields(row.args)...); !strings.Contains(got, row.want) {
			t.Errorf("redis-cli %s: no %q in\n%s", row.args, row.want, got)
		}
	}
	if got := run("PING\nTC.USER carts ann\nQUIT\n"); !strings.HasPrefix(got, "PONG\n1\nabc.1\n") {
		t.Errorf("a script: %q", got)
	}
}

// A foreign client with all its habits: HELLO 3, CLIENT SETINFO, pipelining.
func TestRueidis(t *testing.T) {
	c := testcluster.Start(t, testcluster.Password("secret"))
	cl, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{c.Addr()}, Password: "secret", ClientName: "rueidis-test", DisableCache: true, ForceSingleClient: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := cl.B().Arbitrary(wire.CmdOpen, "carts", "", "", "0", "", "none").Build()
	if err := cl.Do(ctx, open).Error(); err != nil {
		t.Fatal(err)
	}
	var list rueidis.Commands
	for i := range 100 {
		list = append(list, cl.B().Arbitrary("ECHO").Args(fmt.Sprint(i)).Build())
	}
	for i, r := range cl.DoMulti(ctx, list...) {
		if got, err := r.ToString(); err != nil || got != fmt.Sprint(i) {
			t.Fatalf("ECHO %d: %q, %v", i, got, err)
		}
	}
	if got, err := cl.Do(ctx, cl.B().ClientGetname().Build()).ToString(); err != nil || got != "rueidis-test" {
		t.Errorf("name: %q, %v", got, err)
	}
	if err := cl.Do(ctx, cl.B().Arbitrary("TC.LOAD", "carts", "nobody").Build()).Error(); err == nil || !strings.HasPrefix(err.Error(), "SESSIONUNKNOWN") {
		t.Errorf("an error came back as %v", err)
	}
}

// The session on the protocol page happens as it stands there. … is any text.
func TestSessionOfTheProtocolPage(t *testing.T) {
	cli := tool(t, "redis-cli")
	page, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, session, _ := strings.Cut(string(page), "```redis-cli\n")
	session, _, found := strings.Cut(session, "```")
	if !found {
		t.Fatal("the page has no session")
	}
	var input, want []string
	for _, line := range strings.Split(strings.TrimSuffix(session, "\n"), "\n") {
		if cmd, ok := strings.CutPrefix(line, "127.0.0.1:9410> "); ok {
			input = append(input, cmd)
		} else {
			want = append(want, strings.ReplaceAll(line, "MyCluster", testcluster.Name))
		}
	}
	c := testcluster.Start(t)
	host, port, _ := net.SplitHostPort(c.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, cli, "--no-raw", "-h", host, "-p", port)
	cmd.Stdin = strings.NewReader(strings.Join(input, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			got = append(got, line)
		}
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !matches(want[i], got[i]) {
			t.Fatalf("line %d differs; redis-cli wrote\n%s", i+1, out)
		}
	}
}

// counter is the part of a token that differs from run to run.
var counter = regexp.MustCompile(`\b0\.2\.\d+\.`)

func matches(want, got string) bool {
	want, got = counter.ReplaceAllString(want, "token."), counter.ReplaceAllString(got, "token.")
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*")
	return regexp.MustCompile("^" + pattern + "$").MatchString(got)
}
