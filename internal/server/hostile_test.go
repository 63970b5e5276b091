package server_test

import (
	"bytes"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// logBook keeps the log for tests that look at it.
type logBook struct{ testcluster.Output }

func (l *logBook) contains(s string) bool { return strings.Contains(l.String(), s) }

func (l *logBook) option() testcluster.Option {
	return testcluster.Logger(slog.New(slog.NewTextHandler(l, nil)))
}

func TestBrowserRequestsCloseTheConnection(t *testing.T) {
	for name, request := range map[string]string{
		"POST":       "POST / HTTP/1.1\r\nHost: x\r\n\r\nTC.STOP\r\n",
		"GET":        "GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"Host first": "Host: localhost:9410\r\nTC.STOP\r\n",
		"lower case": "post /x HTTP/1.0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var log logBook
			c := testcluster.Start(t, testcluster.Unconfigured(), log.option())
			p := dial(t, c.Addr())
			p.raw(request)
			if got := p.closed(); got != "" {
				t.Errorf("answered %q", got)
			}
			if !log.contains("HTTP request") {
				t.Error("the log says nothing")
			}
			select {
			case <-c.StopAsked():
				t.Error("a command in the body was executed")
			default:
			}
		})
	}
}

func TestTLSIsRecognised(t *testing.T) {
	var log logBook
	c := testcluster.Start(t, testcluster.Unconfigured(), log.option())
	p := dial(t, c.Addr())
	p.raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	p.closed()
	eventually(t, "a log line about TLS", func() bool { return log.contains("TLS") })
}

func TestMalformedInputIsAnsweredAndClosed(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	for name, input := range map[string]string{
		"a million arguments announced": "*1000000000\r\n",
		"negative bulk":                 "*1\r\n$-5\r\n",
		"nested array":                  "*1\r\n*1\r\n$4\r\nPING\r\n",
		"bulk without end":              "*1\r\n$4\r\nPINGxx",
		"huge bulk announced":           "*2\r\n$4\r\nECHO\r\n$999999999\r\n",
		"number with letters":           "*1x\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, c.Addr())
			p.raw(command("PING") + input)
			if got := p.closed(); !strings.HasPrefix(got, "+PONG\r\n-ERR protocol error") {
				t.Errorf("got %.100q", got)
			}
		})
	}
	dial(t, c.Addr()).want("PONG", "PING")
}

// shortLimits let the time-outs happen within a test.
var shortLimits = server.Limits{
	Handshake: 150 * time.Millisecond, Command: 150 * time.Millisecond, Idle: 300 * time.Millisecond,
	Write: 200 * time.Millisecond, AuthDelay: time.Millisecond, MaxOutput: 64 << 10,
}

func TestTimeouts(t *testing.T) {
	c := testcluster.Start(t, testcluster.Limits(shortLimits))
	for name, begin := range map[string]func(p *peer){
		"silent stranger": func(*peer) {},
		"half a first command": func(p *peer) {
			p.raw("*1\r\n$4\r\nPI")
		},
		"half a later command": func(p *peer) {
			*p = *greeted(t, c.Addr())
			p.raw("*1\r\n$4\r\nPI")
		},
		"idle after a command": func(p *peer) { *p = *greeted(t, c.Addr()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eventually(t, "it is closed soon", func() bool { // more than once on a busy machine only
				p := dial(t, c.Addr())
				began := time.Now()
				begin(p)
				p.closed()
				return time.Since(began) < 2*time.Second
			})
		})
	}
	t.Run("slow loris", func(t *testing.T) {
		t.Parallel()
		p := greeted(t, c.Addr())
		stop := make(chan struct{})
		var drip sync.WaitGroup
		drip.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					_, _ = p.nc.Write([]byte("x"))
				}
			}
		})
		_, _ = io.Copy(io.Discard, p.nc)
		close(stop)
		drip.Wait()
	})
	t.Run("a joined node may be idle", func(t *testing.T) {
		t.Parallel()
		n := &node{peer: greeted(t, c.Addr()), id: wire.NodeID{9}}
		j := wire.Join{Node: n.id, Generation: 1, Low: 1, Label: []byte("test")}
		for generation := uint64(1); ; generation++ {
			j.Generation = generation
			if _, err := n.nc.Write(resp.AppendCommand(nil, j.AppendArgs(nil)...)); err == nil {
				if r, err := n.rd.ReadReply(); err == nil && r.Type == '*' {
					break
				}
			}
			if generation == 100 {
				t.Fatal("no join is in time")
			}
			n.peer = greeted(t, c.Addr())
		}
		<-time.After(2 * shortLimits.Idle) // not a wait for something: the silence is the test
		n.want("PONG", "PING")
	})
}

// A peer that sends and never reads is cut off, and costs little meanwhile.
func TestPeerThatNeverReads(t *testing.T) {
	c := testcluster.Start(t, testcluster.Limits(shortLimits))
	p := dial(t, c.Addr())
	big := command("ECHO", strings.Repeat("x", 256<<10))
	for range 4000 { // a gigabyte, if nobody stops it
		if _, err := io.WriteString(p.nc, big); err != nil {
			greeted(t, c.Addr())
			return
		}
	}
	t.Error("a gigabyte of answers was taken for a peer that does not read")
}

func TestTooManyConnections(t *testing.T) {
	c := testcluster.Start(t, testcluster.Limits(server.Limits{MaxConnections: 3}))
	var inside []*peer
	for range 3 {
		p := dial(t, c.Addr())
		p.want("PONG", "PING")
		inside = append(inside, p)
	}
	if got := dial(t, c.Addr()).closed(); !strings.HasPrefix(got, "-BUSY too many connections; try again later") {
		t.Errorf("the fourth connection got %q", got)
	}
	inside[0].want("OK", "QUIT")
	inside[0].closed()
	eventually(t, "room for another connection", func() bool {
		p := dial(t, c.Addr())
		defer p.nc.Close()
		_, _ = io.WriteString(p.nc, "PING\r\n")
		b := make([]byte, 7)
		_, err := io.ReadFull(p.nc, b)
		return err == nil && string(b) == "+PONG\r\n"
	})
}

func TestPassword(t *testing.T) {
	const secret = "correct horse"
	var log logBook
	c := testcluster.Start(t, testcluster.Password(secret), testcluster.Limits(server.Limits{Handshake: time.Hour, AuthDelay: time.Millisecond}), log.option())
	t.Run("nothing without it", func(t *testing.T) {
		p := dial(t, c.Addr())
		for _, cmd := range []string{"PING", "INFO", wire.CmdStatus, wire.CmdStop, "NOSUCH", "COMMAND"} {
			if why := p.refused(wire.ErrNoAuth, cmd); why != "this server wants a password: AUTH or HELLO 3 AUTH default PASSWORD first" {
				t.Errorf("%s: %q", cmd, why)
			}
		}
		p.refused(wire.ErrNoAuth, "HELLO", "3")
		p.want("OK", "AUTH", secret)
		large := strings.Repeat("x", 1<<20)
		p.want(large, "ECHO", large)
	})
	t.Run("ways in", func(t *testing.T) {
		dial(t, c.Addr()).want("OK", "AUTH", "default", secret)
		if r := dial(t, c.Addr()).do("HELLO", "3", "AUTH", "default", secret, "SETNAME", "me"); r.Type != '%' {
			t.Errorf("HELLO AUTH: %s", text(r))
		}
	})
	t.Run("guessing", func(t *testing.T) {
		patient := testcluster.Limits(server.Limits{Handshake: time.Hour, AuthDelay: time.Millisecond})
		p := dial(t, testcluster.Start(t, testcluster.Unconfigured(), testcluster.Password(secret), patient).Addr())
		if why := p.refused(wire.ErrWrongPass, "AUTH", "a"); !strings.HasPrefix(why, "the user name or password is not this cluster's") {
			t.Error(why)
		}
		p.refused(wire.ErrWrongPass, "HELLO", "3", "AUTH", "default", "b")
		p.refused(wire.ErrWrongPass, "AUTH", "root", secret)
		p.closed()
	})
	t.Run("small limits before it", func(t *testing.T) {
		for _, input := range []string{
			"*2\r\n$4\r\nAUTH\r\n$5000\r\n", "*100\r\n", strings.Repeat("x", 5000),
		} {
			p := dial(t, c.Addr())
			p.raw(input)
			if got := p.closed(); !strings.HasPrefix(got, "-ERR ") {
				t.Errorf("%.20q: got %.80q", input, got)
			}
		}
	})
	t.Run("handshake time runs on without it", func(t *testing.T) {
		c := testcluster.Start(t, testcluster.Unconfigured(), testcluster.Password(secret), testcluster.Limits(shortLimits), log.option())
		eventually(t, "a command in time", func() bool {
			p := dial(t, c.Addr())
			p.send("PING")
			return strings.HasPrefix(p.closed(), "-"+string(wire.ErrNoAuth)+" ")
		})
	})
	if log.contains(secret) {
		t.Error("the password is in the log")
	}
}

func TestAuthWithoutAPasswordSet(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	dial(t, c.Addr()).refused(wire.ErrWrongPass, "AUTH", "x")
}

// After a stop nothing of the server runs on, whatever its clients were doing.
func TestNoGoroutineIsLeft(t *testing.T) {
	c, n := carts(t)
	n.create("k", "")
	for range 20 {
		p := dial(t, c.Addr())
		p.send("PING")
		p.raw("*1\r\n$4\r\nPI")
	}
	w := wire.Commit{Write: n.write("k", wire.Token{}), Idle: wire.KeepIdle}
	n.raw(strings.Repeat(command(strs(w.AppendArgs(nil))...), 100))
	began := time.Now()
	c.Stop()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the stop took %v", took)
	}
	eventually(t, "no goroutine of the server", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !bytes.Contains(stacks, []byte("internal/server.(*"))
	})
}

func TestStop(t *testing.T) {
	c, _ := carts(t)
	p := dial(t, c.Addr())
	p.want("OK", wire.CmdStop)
	p.closed()
	select {
	case <-c.StopAsked():
	case <-time.After(time.Minute):
		t.Error("the process was not told")
	}
	dial(t, c.Addr()).want("OK", wire.CmdStop) // asking twice does no harm
}
