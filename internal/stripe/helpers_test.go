package stripe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// ledger is a machine that remembers every operation: what a lost or doubled
// one would show in.
type ledger struct {
	mu    sync.Mutex
	now   store.Time
	back  bool // log time went back
	newer bool // it knows "later"
	ops   []string
}

func (l *ledger) Apply(now store.Time, op []byte) wire.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.back = l.back || now < l.now
	l.now = now
	l.ops = append(l.ops, string(op))
	return wire.Outcome{Version: uint64(len(l.ops))}
}

func (l *ledger) Knows(op []byte) bool { return l.newer || string(op) != "later" }

// Forgotten takes "delete k" for the deletion of k.
func (l *ledger) Forgotten() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if key, ok := strings.CutPrefix(l.ops[len(l.ops)-1], "delete "); ok {
		return [][]byte{[]byte(key)}
	}
	return nil
}

func (l *ledger) Crowded() bool    { return false }
func (l *ledger) Hurried() bool    { return false }
func (l *ledger) GiveUp(int64) int { return 0 }

func (l *ledger) Asked(op []byte) bool { return !strings.HasPrefix(string(op), "own ") }

func (l *ledger) Now() store.Time { l.mu.Lock(); defer l.mu.Unlock(); return l.now }

func (l *ledger) list() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.ops...)
}

func (l *ledger) Index() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return uint64(len(l.ops)) }

func (l *ledger) Changes(since uint64, _ store.Time, f func(store.Change) error) error {
	for i, op := range l.list() {
		if uint64(i) < since {
			continue
		}
		if err := f(store.Change{Key: []byte(op), Version: uint64(i) + 1}); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) Snapshot() view { return &ledgerView{now: l.now, ops: l.list()} }

func (l *ledger) Verify(r io.Reader) error { return new(ledger).Restore(r) }

func (l *ledger) Restore(r io.Reader) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := io.ReadAll(r)
	if err != nil || len(b) < 8 {
		return errors.Join(errors.New("short snapshot"), err)
	}
	l.now, l.ops = store.Time(binary.BigEndian.Uint64(b)), nil
	for b = b[8:]; len(b) > 0; {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return errors.New("damaged snapshot")
		}
		l.ops = append(l.ops, string(b[k:k+int(n)]))
		b = b[k+int(n):]
	}
	return nil
}

type ledgerView struct {
	now store.Time
	ops []string
}

func (v *ledgerView) Drain(w io.Writer) (int64, error) { return v.WriteTo(w) }

func (v *ledgerView) WriteTo(w io.Writer) (int64, error) {
	head := binary.BigEndian.AppendUint64(nil, uint64(v.now))
	n, err := w.Write(head)
	for _, op := range v.ops {
		if err == nil {
			var k int
			k, err = w.Write(append(binary.AppendUvarint(nil, uint64(len(op))), op...))
			n += k
		}
	}
	return int64(n), err
}

func (v *ledgerView) Release() {}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// start opens a stripe on a ledger and closes it at the end of the test.
func start(t testing.TB, cfg Config, p parts) (*Stripe, *ledger) {
	t.Helper()
	l := &ledger{}
	s := startOn(t, cfg, p, l)
	return s, l
}

func startOn(t testing.TB, cfg Config, p parts, m machine) *Stripe {
	t.Helper()
	if cfg.Durability == "" {
		cfg.Durability = EveryWrite
	}
	if cfg.Logger == nil {
		cfg.Logger = testLog(t)
	}
	s, err := open(cfg, m, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// form forms the stripe, or waits until it is active.
func form(t testing.TB, s *Stripe) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Form(ctx); err != nil {
		t.Fatal(err)
	}
}

// do proposes op and waits for what becomes of it.
func do(s *Stripe, op string) (wire.Outcome, error) {
	type answer struct {
		o   wire.Outcome
		err error
	}
	c := make(chan answer, 1)
	s.Propose([]byte(op), func(o wire.Outcome, err error) { c <- answer{o, err} })
	select {
	case a := <-c:
		return a.o, a.err
	case <-time.After(time.Minute):
		return wire.Outcome{}, errors.New("no answer")
	}
}

func must(t testing.TB, s *Stripe, op string) {
	t.Helper()
	if _, err := do(s, op); err != nil {
		t.Fatalf("propose: %v", err)
	}
}

// eventually polls until ok, and fails the test when that takes too long.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !within(time.Minute, ok) {
		t.Fatalf("not within a minute: %s", what)
	}
}

func numbered(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return list
}
