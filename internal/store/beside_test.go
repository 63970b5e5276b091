package store

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// The race detector watches: whatever is applied meanwhile, a snapshot that is
// being written and readers that are looking see whole sessions of one moment.
func TestSnapshotsAndReadersBesideWrites(t *testing.T) {
	r := newRig(t, 1<<24)
	const sessions = 300
	for i := range sessions {
		r.ok(r.create(nodeA, fmt.Sprint("s", i), "ann", time.Minute, 0, "x", "0", "y", "0"))
	}
	want := r.snapshot()
	point := r.Store.Snapshot()
	stop, draining := make(chan struct{}), make(chan *Snapshot)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20 {
			var buf bytes.Buffer
			if _, err := point.WriteTo(&buf); err != nil || !bytes.Equal(buf.Bytes(), want) {
				t.Errorf("the snapshot changed while it was written (%v)", err)
			}
		}
		point.Release()
	})
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				_ = r.View(shop, fmt.Append(nil, "s", i%sessions), func(rec *Record) {
					if a := rec.Attributes(); !bytes.Equal(a[0].Value, a[1].Value) {
						t.Errorf("half a commit is seen: %q, %q", a[0].Value, a[1].Value)
					}
				})
				if i%50 == 0 {
					r.Due(1<<40, 10)
					_, _ = r.UserSessions(shop, []byte("ann"), 5)
					r.Datasets()
					r.Nodes()
				}
			}
		})
	}
	wg.Go(func() { // what is drained is let go of under the writes
		for n := range draining {
			var buf bytes.Buffer
			if _, err := n.Drain(&buf); err != nil || VerifySnapshot(&buf) != nil {
				t.Errorf("a snapshot was not drained: %v", err)
			}
			n.Release()
		}
	})
	for i := range 3000 {
		if i%100 == 50 {
			draining <- r.Store.Snapshot()
		}
		key := fmt.Sprint("s", i*7%sessions)
		switch v := fmt.Sprint(i); i % 10 {
		default:
			_ = r.set(nodeA, key, wire.Token{Term: 1, Counter: 1, Index: r.Index()}, "x", v, "y", v)
		case 7:
			r.now += 20
			r.ok(r.apply(AppendTouch(nil, shop, []Touch{{[]byte(key), r.now}})))
		case 8:
			_ = r.renew(nodeA, key, key+"-"+v, time.Second)
		case 9:
			_ = r.invalidate(nodeA, key, "logout")
		}
		if i%1000 == 999 { // a passive that gets a snapshot is read as well
			n := r.Store.Snapshot()
			pr, pw := io.Pipe()
			wg.Go(func() {
				_, err := n.Drain(pw)
				pw.CloseWithError(err)
			})
			if err := r.Restore(pr); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	close(draining)
	wg.Wait()
}
