package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// variety is a store with one of everything that a snapshot holds.
func variety(t testing.TB) *rig {
	r := newRig(t, 1<<20)
	r.ok(r.create(nodeA, "ann-1", "ann", time.Minute, time.Hour, "cart", "book", "", "unnamed"))
	r.ok(r.create(nodeB, "bob-1", "bob", 0, 0, "cart", strings.Repeat("long ", 100)))
	r.ok(r.remove(nodeB, "ann-1", r.ticket("ann-1"), "cart"))
	tok := r.ticket("bob-1")
	for i := range maxStubs + 3 {
		r.ok(r.remove(nodeB, "bob-1", tok, fmt.Sprintf("gone-%d", i)))
	}
	r.dropped(r.set(nodeA, "ann-1", wire.Token{}, "cart", "late"), "cart")
	r.now += 10
	r.ok(r.renew(nodeA, "ann-1", "ann-2", 5*time.Second))
	r.ok(r.create(nodeA, "short", "", 0, 0))
	r.ok(r.invalidate(nodeB, "short", "logout"))
	r.refused(wire.ErrSessionGone, r.set(nodeB, "short", wire.Token{}, "a", "b"))
	return r
}

// The formats of the log and of snapshots are promises to servers of other versions:
// when this fails, either the change was not meant, or the format version has to rise.
func TestFormatsAreWhatTheyWere(t *testing.T) {
	r := &rig{TB: t, Store: newStore(t)}
	log := sha256.New()
	for _, l := range variety(t).log {
		if kind(l.op[0]) == kindConfigure { // its document may gain fields
			document := `{"name":"MyCluster","stripes":[{"offheap-resources":[{"name":"offheap-1","size":1048576}]}],"stripe":0}`
			l.op = appendBytes(appendBytes([]byte{byte(kindConfigure)}, []byte(document)), []byte("<a licence/>"))
		}
		fmt.Fprintf(log, "%d %x\n", l.now, l.op)
		r.Apply(l.now, l.op)
	}
	if got := hex.EncodeToString(log.Sum(nil)); got != goldenLog {
		t.Errorf("the log's bytes are %s", got)
	}
	snapshot := sha256.Sum256(r.snapshot())
	if got := hex.EncodeToString(snapshot[:]); got != goldenSnapshot {
		t.Errorf("the snapshot's bytes are %s", got)
	}
}

const (
	goldenLog      = "7e34a07255e279fb310dd76f1e315ba950e785af8a3bb322730b015c793f5b32"
	goldenSnapshot = "705ac15ada98d945c73ad52ad01977f39c66e782ee485fa6118d651eb2dbb83a"
)

func TestVarietySurvivesARestore(t *testing.T) {
	r := variety(t)
	good := r.snapshot()
	again := newStore(t)
	if err := again.Restore(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshotOf(t, again), good) {
		t.Fatal("the restored store makes another snapshot")
	}
	if again.st.Load().sortedDatasets()[0].record("bob-1").floor.version == 0 {
		t.Fatal("the variety has no floor")
	}
}

func TestEmptyStoreSnapshots(t *testing.T) {
	s, again := newStore(t), newStore(t)
	if err := again.Restore(bytes.NewReader(snapshotOf(t, s))); err != nil {
		t.Fatal(err)
	}
	if again.Cluster() != nil || again.Index() != 0 {
		t.Fatal("something came from nothing")
	}
}

func (r *rig) mustBeEmpty(why string) {
	r.Helper()
	if r.Cluster() != nil || r.Index() != 0 || r.Store.Now() != 0 || len(r.Nodes()) != 0 || r.Datasets() != nil {
		r.Fatalf("%s: a failed restore left something", why)
	}
}

func TestEveryFlippedByteIsAnError(t *testing.T) {
	good := variety(t).snapshot()
	r := &rig{TB: t, Store: newStore(t)}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := r.Restore(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d of %d was flipped, and nobody noticed", i, len(good))
		}
		if VerifySnapshot(bytes.NewReader(bad)) == nil {
			t.Fatalf("byte %d of %d was flipped, and was verified", i, len(good))
		}
		r.mustBeEmpty("flipped byte")
	}
}

func TestEveryCutIsAnError(t *testing.T) {
	good := variety(t).snapshot()
	r := &rig{TB: t, Store: newStore(t)}
	for n := range good {
		if err := r.Restore(bytes.NewReader(good[:n])); !errors.Is(err, errDamaged) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(good), err)
		}
		if err := VerifySnapshot(bytes.NewReader(good[:n])); !errors.Is(err, errDamaged) {
			t.Fatalf("cut to %d of %d bytes, verified: %v", n, len(good), err)
		}
	}
	if err := VerifySnapshot(bytes.NewReader(append(slices.Clone(good), 0))); !errors.Is(err, errDamaged) {
		t.Fatalf("a byte too many, verified: %v", err)
	}
	if err := VerifySnapshot(oneByte{bytes.NewReader(good)}); err != nil {
		t.Fatalf("in single bytes, verified: %v", err)
	}
	if err := r.Restore(bytes.NewReader(append(slices.Clone(good), 0))); !errors.Is(err, errDamaged) {
		t.Fatalf("a byte too many: %v", err)
	}
	r.mustBeEmpty("cut")
	if err := r.Restore(oneByte{bytes.NewReader(good)}); err != nil {
		t.Fatalf("in single bytes: %v", err)
	}
	r.now = 1010
	r.shows("ann-1", "=unnamed")
}

// oneByte hands out one byte at a time, as a slow connection may.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

func TestLaterSnapshotVersionIsNamed(t *testing.T) {
	bad := variety(t).snapshot()
	bad[len(magic)] = 3
	err := newStore(t).Restore(bytes.NewReader(bad))
	if err == nil || !strings.Contains(err.Error(), "version 3") || !strings.Contains(err.Error(), "reads 2") {
		t.Fatal(err)
	}
}

type failingWriter struct{ left int }

var errDiskFull = errors.New("disk full")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errDiskFull
	}
	return len(p), nil
}

func TestSnapshotReportsAFullDisk(t *testing.T) {
	r := variety(t)
	size := len(r.snapshot())
	for _, left := range []int{0, 20, size - 1} {
		n := r.Store.Snapshot()
		if _, err := n.WriteTo(&failingWriter{left}); !errors.Is(err, errDiskFull) {
			t.Fatalf("with %d bytes left: %v", left, err)
		}
		n.Release()
	}
	if err := r.Restore(brokenDisk{}); !errors.Is(err, errDiskFull) || errors.Is(err, errDamaged) {
		t.Fatalf("a disk that cannot be read: %v", err)
	}
}

type brokenDisk struct{}

func (brokenDisk) Read([]byte) (int, error) { return 0, errDiskFull }
