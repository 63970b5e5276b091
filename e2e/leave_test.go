//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
)

// Operators see at once that a cart was stopped, not after its reconnect window.
func TestAStoppedCartLeavesTheCluster(t *testing.T) {
	needImages(t)
	nw := newNetwork(t)
	server := startServer(t, nw)
	mustConfigure(t, nw)
	one, two := startCart(t, nw, "cart-1"), startCart(t, nw, "cart-2")
	newCustomer(t).add(address(t, one, "8080"), "JSP Book")
	c, err := client.New(client.Options{Hosts: []string{address(t, server, "9410")}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	nodes := func(want int) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s, err := c.Status(ctx)
			if err == nil && s.Nodes != want {
				err = fmt.Errorf("%d nodes have joined, not %d", s.Nodes, want)
			}
			return err
		}
	}
	eventually(t, 2*time.Minute, nodes(2))
	if out, code := docker(t, root, "stop", two.GetContainerID()); code != 0 {
		t.Fatalf("docker stop: %s", out)
	}
	eventually(t, time.Minute, nodes(1)) // one that only went away is counted for two
	// One that was killed may come back.
	if out, code := docker(t, root, "kill", one.GetContainerID()); code != 0 {
		t.Fatalf("docker kill: %s", out)
	}
	if err := nodes(1)(); err != nil {
		t.Error(err)
	}
}
