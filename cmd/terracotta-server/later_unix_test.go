//go:build unix

package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// A log with an operation that only a later version knows ends the server with a
// clear word, and is not skipped.
func TestALaterOperationEndsTheServer(t *testing.T) {
	root := t.TempDir()
	p := launch(t, root, root)
	p.until("this server belongs to no cluster yet")
	p.terminate()
	found, err := filepath.Glob(filepath.Join(root, "data", "*", "stripe", "identity.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q, %v", found, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	st := store.New()
	defer st.Close()
	s, err := stripe.Open(ctx, stripe.Config{Dir: filepath.Dir(found[0]), Durability: stripe.EveryWrite, ServerName: "box"}, st)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Form(ctx); err != nil {
		t.Fatal(err)
	}
	changes := s.Changes()
	s.Propose([]byte{200}, func(wire.Outcome, error) {})
	for !s.Status().Later {
		select {
		case <-changes:
		case <-ctx.Done():
			t.Fatalf("%+v", s.Status())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p = launch(t, root, root)
	rest, _ := io.ReadAll(p.out)
	err = p.cmd.Wait()
	if err == nil || p.cmd.ProcessState.ExitCode() != int(exitFailure) || !strings.Contains(p.errs.String(), "this version is too old for the data") ||
		!strings.Contains(p.errs.String(), "written by a later version of this software") || strings.Contains(string(rest), "is now ready for work") {
		t.Errorf("%v\n%s%s", err, rest, p.errs.String())
	}
}
