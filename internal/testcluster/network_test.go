package testcluster

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// echo answers what it is sent.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// ask sends b and waits for its echo.
func ask(c net.Conn, b string, wait time.Duration) error {
	_ = c.SetWriteDeadline(time.Now().Add(time.Minute)) // it is sent in any case
	if _, err := c.Write([]byte(b)); err != nil {
		return err
	}
	return hear(c, b, wait)
}

func hear(c net.Conn, b string, wait time.Duration) error {
	_ = c.SetDeadline(time.Now().Add(wait))
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != b {
		return errors.New("got " + string(got))
	}
	return nil
}

func TestNetworkCutsDelaysAndBreaks(t *testing.T) {
	addr := echo(t)
	n := NewNetwork(t)
	n.Host(addr, "server")
	dial := n.Dialer("client")
	c, err := dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	const short, long = 50 * time.Millisecond, time.Minute
	if err := ask(c, "hello", long); err != nil {
		t.Fatal(err)
	}
	for _, d := range []direction{{"client", "server"}, {"server", "client"}} {
		n.Cut(d.from, d.to)
		var late net.Error
		if err := ask(c, "cut", short); !errors.As(err, &late) || !late.Timeout() {
			t.Errorf("%v is cut: %v", d, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), short)
		if _, err := dial(ctx, "tcp", addr); err == nil {
			t.Errorf("%v is cut, and yet it can be dialled", d)
		}
		cancel()
		n.Mend(d.from, d.to)
		if err := hear(c, "cut", long); err != nil {
			t.Errorf("%v is mended: %v", d, err)
		}
	}
	n.Delay("server", "client", short, short)
	began := time.Now()
	if err := ask(c, "late", long); err != nil || time.Since(began) < short {
		t.Errorf("came after %v: %v", time.Since(began), err)
	}
	n.MendAll()
	other, err := n.Dialer("other")(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	door, err := n.Via("other", addr)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.Via("other", addr); again != door || err != nil {
		t.Errorf("the same way is %s, then %s: %v", door, again, err)
	}
	via, err := net.Dial("tcp", door)
	if err != nil {
		t.Fatal(err)
	}
	defer via.Close()
	if err := ask(via, "through the door", long); err != nil {
		t.Error(err)
	}
	n.Cut("other", "server")
	if err := ask(via, "cut", short); err == nil {
		t.Error("a door leads past the cut")
	}
	n.MendAll()
	n.Break(func(from, _ string) bool { return from == "client" })
	if err := ask(c, "broken", long); err == nil {
		t.Error("the connection outlived Break")
	}
	if err := ask(other, "whole", long); err != nil {
		t.Errorf("another host's connection: %v", err)
	}
	n.Close()
	if err := ask(other, "closed", long); err == nil {
		t.Error("the connection outlived the network")
	}
}
