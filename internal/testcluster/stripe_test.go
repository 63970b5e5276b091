package testcluster

import (
	"context"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// A stripe of three, as every test of several servers uses it: configured, one
// active, killed, on with another one, and whole again.
func TestStripeOfThree(t *testing.T) {
	for _, disk := range []bool{false, true} {
		t.Run(map[bool]string{false: "memory", true: "disk"}[disk], func(t *testing.T) {
			t.Parallel()
			var opts []Option
			if disk {
				opts = append(opts, Dir(t.TempDir()))
			}
			s := StartStripe(t, 3, opts...)
			c, err := client.New(client.Options{Hosts: s.Addrs(), Node: true})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := c.Open(ctx, &wire.Open{Dataset: []byte("carts"), LockMode: []byte("none")}); err != nil {
				t.Fatal(err)
			}
			create := func(key string) {
				t.Helper()
				if _, err := c.Create(ctx, &wire.Create{Write: wire.Write{Dataset: []byte("carts"), Key: []byte(key)}, Idle: time.Minute}); err != nil {
					t.Fatalf("create %s: %v", key, err)
				}
			}
			create("first")
			old := s.Active()
			old.Kill()
			create("second")
			if s.Active() == old {
				t.Error("a killed server is active")
			}
			old.Start()
			s.AwaitInService()
			if !disk {
				return // an empty server joined anew; the other two have everything
			}
			s.Active().Stop() // in order: it hands over
			create("third")
			for _, key := range []string{"first", "second", "third"} {
				if _, err := c.Load(ctx, &wire.Load{Dataset: []byte("carts"), Key: []byte(key), Mode: wire.LoadPeek}); err != nil {
					t.Errorf("load %s: %v", key, err)
				}
			}
		})
	}
}
