package client

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Writing uses its memory again, also where it may block and a goroutine does it
// for the callers; what one large command took is given back.
func TestWritingKeepsItsMemory(t *testing.T) {
	f := newFake(t, nil)
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"callers write": nil,
		"a goroutine writes": func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, network, addr)
			return struct{ net.Conn }{nc}, err // one that cannot try
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, Options{Hosts: []string{f.addr()}, Dial: dial})
			// kept sends a value and returns the room that is kept for the next ones.
			kept := func(size int) (room int) {
				if _, err := c.Do(within(t, 30*time.Second), true, []byte("X"), make([]byte, size)); err != nil {
					t.Fatal(err)
				}
				until(t, "the writer has left", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					room = cap(c.cn.out) + cap(c.cn.spare)
					return !c.cn.flushing
				})
				return room
			}
			const usual = 100 << 10
			if room := kept(usual); room < usual {
				t.Errorf("after %d bytes were written there is room for %d", usual, room)
			}
			if room := kept(wire.DefaultMaxValue / 2); room > 2*keepBuffer {
				t.Errorf("an idle connection keeps %d bytes", room)
			}
		})
	}
}
