package stripe

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// A backup is one moment of the state, taken while changes go on; a new stripe
// starts from it, and is another one.
func TestABackupStartsANewStripe(t *testing.T) {
	s, _ := start(t, Config{Dir: t.TempDir(), ServerName: "one"}, parts{})
	form(t, s)
	want := numbered("op", 300)
	for _, op := range want {
		must(t, s, op)
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			do(s, "meanwhile")
		}
	}()
	var b bytes.Buffer
	info, err := s.Backup(t.Context(), &b)
	stop.Store(true)
	<-done
	if err != nil || info.Server != "one" || info.Index == 0 || info.Bytes != int64(b.Len()) {
		t.Fatalf("%+v of %d bytes: %v", info, b.Len(), err)
	}
	if again, err := VerifyBackup(bytes.NewReader(b.Bytes())); err != nil || again != info {
		t.Fatalf("verified as %+v: %v", again, err)
	}

	dir := filepath.Join(t.TempDir(), "roots", "stripe")
	if err := RestoreBackup(dir, bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := RestoreBackup(dir, bytes.NewReader(b.Bytes())); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatalf("restored over a data root: %v", err)
	}
	r, l := start(t, Config{Dir: dir}, parts{})
	form(t, r)
	got := l.list()
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) || slices.ContainsFunc(got[len(want):], func(op string) bool { return op != "meanwhile" }) {
		t.Fatalf("restored %d operations", len(got))
	}
	if r.Status().ServerID == s.Status().ServerID {
		t.Error("the new server has the old one's identity")
	}
	_, before := s.Reign()
	if _, after := r.Reign(); after <= before {
		t.Errorf("term %d after term %d", after, before)
	}
	must(t, r, "new life")
}

func TestADamagedBackupIsRefusedAndLeavesNothing(t *testing.T) {
	s, _ := start(t, Config{Dir: t.TempDir()}, parts{})
	if _, err := s.Backup(t.Context(), &bytes.Buffer{}); !wire.Is(err, wire.ErrUnconfigured) {
		t.Fatalf("backup of an unformed stripe: %v", err)
	}
	form(t, s)
	for _, op := range numbered("op", 20) {
		must(t, s, op)
	}
	var b bytes.Buffer
	if _, err := s.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	for i := range b.Len() {
		bad := bytes.Clone(b.Bytes())
		bad[i] ^= 4
		if _, err := VerifyBackup(bytes.NewReader(bad)); err == nil {
			t.Fatalf("a flipped bit in byte %d went unnoticed", i)
		}
		if _, err := VerifyBackup(bytes.NewReader(bad[:i])); err == nil {
			t.Fatalf("the first %d of %d bytes passed", i, len(bad))
		}
	}
	parent := t.TempDir()
	bad := b.Bytes()
	bad[len(bad)/2] ^= 1
	if err := RestoreBackup(filepath.Join(parent, "stripe"), bytes.NewReader(bad)); err == nil {
		t.Fatal("restored a damaged backup")
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("it left %q behind", left[0].Name())
	}
	full, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Backup(full, &b); err == nil {
		t.Error("a backup that was given up succeeded")
	}
}
