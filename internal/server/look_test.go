package server_test

import (
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// A node that speaks alone for a while, and then in other ways, is always heard:
// with several commands at once, with half a command, and after silence.
func TestNodeThatSpeaksAloneIsHeard(t *testing.T) {
	_, n := carts(t)
	n.create("k", "", "a", "1")
	ping := command("PING")
	for range 30 {
		for range 40 { // from some of these on the server looks for the next
			if n.load("k").Version == 0 {
				t.Fatal("the load brings no session")
			}
		}
		n.raw(strings.Repeat(ping, 3)) // the next read is no look
		for range 3 {
			if r := n.read(); text(r) != "PONG" {
				t.Fatalf("PING: %q", text(r))
			}
		}
		n.want("PONG", "PING")
		n.raw(ping[:5])
		n.raw(ping[5:] + ping[:3])
		if r := n.read(); text(r) != "PONG" {
			t.Fatalf("PING in two halves: %q", text(r))
		}
		n.raw(ping[3:])
		if r := n.read(); text(r) != "PONG" {
			t.Fatalf("PING behind another: %q", text(r))
		}
	}
	n.refused(wire.ErrBadRequest, "TC.LOAD")
}
