package server_test

import (
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// One named test per attack that was tried against a running server.

// outputOf returns the bytes of answers that the server holds for the connection
// called name.
func outputOf(t *testing.T, p *peer, name string) int {
	t.Helper()
	m := regexp.MustCompile(` name=` + name + ` .* omem=(\d+)`).FindStringSubmatch(text(p.do("CLIENT", "LIST")))
	if m == nil {
		t.Fatalf("no connection %q", name)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// A hundred short commands made a server hold five gigabytes of answers.
func TestAttackPipelinedLoadsWithoutReading(t *testing.T) {
	const value, most = 2 << 20, 64 << 10
	c, n := carts(t, testcluster.Limits(server.Limits{MaxOutput: most}))
	n.create("k", "ann", "a", strings.Repeat("x", value))
	attacker := join(t, c.Addr(), 7)
	for name, load := range map[string][]string{
		"labelled": {wire.CmdLoad, "carts", "k"},
		"waiting":  {wire.CmdLoad, "carts", "k", attacker.id.String(), "R"},
	} {
		t.Run(name, func(t *testing.T) {
			victim := dial(t, c.Addr())
			attacker.want("OK", "CLIENT", "SETNAME", name)
			<-time.After(50 * time.Millisecond) // not a wait for something: in the silence the stripe's lease runs out
			const loads = 20                    // they arrive together
			attacker.raw(strings.Repeat(command(load...), loads))
			for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
				if held := outputOf(t, victim, name); held > 2*(value+most) {
					t.Fatalf("%d bytes of answers are held for a peer that does not read", held)
				}
			}
			for i := range loads {
				if r := attacker.read(); r.Type == '-' {
					t.Fatalf("answer %d: %s", i, text(r))
				}
			}
		})
	}
}

// Strangers who only connect must not keep out those who know the password.
func TestAttackStrangersTakeAllConnections(t *testing.T) {
	const secret = "a long enough password"
	c := testcluster.Start(t, testcluster.Password(secret), testcluster.Limits(server.Limits{MaxConnections: 20, Handshake: time.Minute}))
	inside := dial(t, c.Addr())
	inside.want("OK", "AUTH", secret)
	for range 60 {
		nc, err := net.Dial("tcp", c.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	for range 5 {
		p := dial(t, c.Addr())
		p.want("OK", "AUTH", secret)
		p.want("PONG", "PING")
	}
	inside.want("PONG", "PING")
}

// Whatever bytes a name has, what a terminal shows of it is text on its line.
func TestAttackNamesWithEscapes(t *testing.T) {
	c, n := carts(t)
	const evil = "x\x1b]0;owned\x07\r\n# Server\r\nversion:666\u009b31m"
	n.open(evil)
	p := dial(t, c.Addr())
	for _, cmd := range [][]string{{"INFO"}, {wire.CmdStatus, "TEXT"}} {
		p.send(cmd...)
		got := text(p.read())
		if strings.ContainsAny(got, "\x1b\x07") || strings.Contains(got, "\u009b") || strings.Contains(got, "\nversion:666") {
			t.Errorf("%s: %q", cmd[0], got)
		}
	}
	for _, args := range [][]string{{wire.CmdLoad, evil + "2", "k"}, {wire.CmdUser, evil + "2", "ann"}} {
		if said := n.refused(wire.ErrNoDataset, args...); strings.ContainsAny(said, "\x1b\x07\r\n") {
			t.Errorf("%s: %q", args[0], said)
		}
	}
}

// A short command must not ask for megabytes of documentation.
func TestAttackDocsOfOneCommandManyTimes(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	args := []string{"COMMAND", "DOCS"}
	for range 10000 {
		args = append(args, "tc.create")
	}
	p := dial(t, c.Addr())
	p.refused(wire.ErrBadRequest, args...)
	p.want("PONG", "PING")
}

// Half commands of many connections must not add up to all memory.
func TestAttackHalfCommandsOnManyConnections(t *testing.T) {
	const value = 1 << 20
	c := testcluster.Start(t, testcluster.Limits(server.Limits{MaxValue: value, MaxInput: 8 << 20, Command: time.Minute}))
	half := "*2\r\n$4\r\nECHO\r\n$" + strconv.Itoa(value) + "\r\n" + strings.Repeat("x", value-1)
	refused := 0
	var held []*peer
	for range 40 {
		p := dial(t, c.Addr())
		p.want("PONG", "PING")
		_, _ = io.WriteString(p.nc, half) // may be cut off
		held = append(held, p)
	}
	for _, p := range held {
		_, _ = io.WriteString(p.nc, "x\r\n") // the end of the command
		b := make([]byte, 5)
		if _, err := io.ReadFull(p.nc, b); err != nil || string(b) == "-BUSY" {
			refused++
		}
		p.nc.Close()
	}
	if refused == 0 || refused == len(held) {
		t.Errorf("%d of %d half commands were refused", refused, len(held))
	}
	p := dial(t, c.Addr())
	p.want("PONG", "PING") // small ones are not concerned
	eventually(t, "room for a large command again", func() bool {
		p := dial(t, c.Addr())
		defer p.nc.Close()
		_, _ = io.WriteString(p.nc, half+"x\r\n")
		b := make([]byte, 5)
		_, err := io.ReadFull(p.nc, b)
		return err == nil && b[0] == '$'
	})
}

// Seven thousand guesses a second were made by one script: only length helps.
func TestAttackGuessingAShortPassword(t *testing.T) {
	for secret, warned := range map[string]bool{"hunter2": true, "correct horse battery staple": false} {
		c := testcluster.Start(t, testcluster.Password(secret))
		p := dial(t, c.Addr())
		p.want("OK", "AUTH", secret)
		said := text(p.do(wire.CmdStatus, "TEXT"))
		if strings.Contains(said, "can be guessed") != warned || strings.Contains(said, secret) {
			t.Errorf("%d characters: %s", len(secret), said)
		}
	}
}

// A token that the cluster cannot have granted yet would let its writer
// overwrite what it has not seen.
func TestAttackTokenFromTheFuture(t *testing.T) {
	_, n := carts(t)
	n.create("k", "ann", "a", "1")
	forged := wire.Token{Term: 1, Counter: 1, Index: 1 << 62}
	w := wire.Commit{Write: n.write("k", forged), Idle: wire.KeepIdle, Set: attrs([]string{"a", "forged"})}
	refusal(t, wire.ErrBadRequest, n.doArgs(w.AppendArgs(nil)))
	if s := n.load("k"); string(s.Attributes[0].Value) != "1" {
		t.Errorf("the value is %q", s.Attributes[0].Value)
	}
}
