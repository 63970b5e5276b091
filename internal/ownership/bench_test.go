package ownership

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// BenchmarkLoad reads a session of 1 KiB in 8 attributes.
func BenchmarkLoad(b *testing.B) {
	r := newRig(b, Config{})
	m, _ := r.joined(1, 1)
	set := make([]wire.Attribute, 8)
	for i := range set {
		set[i] = wire.Attribute{Name: fmt.Append(nil, "a", i), Value: bytes.Repeat([]byte("v"), 128)}
	}
	if _, err := wait(func(done func(wire.Outcome, error)) {
		r.Create(m, &wire.Create{Write: r.write(m, "k", wire.Token{}), Idle: time.Hour, Set: set}, done)
	}); err != nil {
		b.Fatal(err)
	}
	l := &wire.Load{Dataset: []byte(dataset), Key: []byte("k"), Node: m.node.id, Mode: wire.LoadRead}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := r.Load(b.Context(), m, l, func(*wire.Session) {}); err != nil {
				b.Error(err)
			}
		}
	})
}
