package testcluster

import (
	"fmt"
	"strings"
	"testing"
)

// heard is a test that has failed, or not, and notes what is logged.
type heard struct {
	testing.TB
	failed bool
	said   []string
}

func (h *heard) Failed() bool               { return h.failed }
func (h *heard) Logf(f string, args ...any) { h.said = append(h.said, fmt.Sprintf(f, args...)) }

// A test that passes shows nothing of its servers; one that fails shows the end of what
// they said.
func TestOnlyAFailureShowsTheLog(t *testing.T) {
	t.Setenv("TEST_SERVER_LOG", "")
	for _, failed := range []bool{false, true} {
		h := &heard{failed: failed}
		l := &testLog{t: h, name: "tc1"}
		for i := range 100 {
			fmt.Fprintf(l, "level=INFO msg=info-%d\n", i)
			for j := range 10 {
				fmt.Fprintf(l, "time=x level=DEBUG msg=debug-%d-%d\n", i, j)
			}
		}
		fmt.Fprintf(l, "level=INFO msg=last\n")
		if len(h.said) > 0 {
			t.Errorf("it says %d things before the end", len(h.said))
		}
		l.close()
		fmt.Fprintf(l, "level=INFO msg=late\n")
		said := strings.Join(h.said, "\n")
		if !failed {
			if said != "" {
				t.Errorf("a passing test says %s", said)
			}
			continue
		}
		for _, want := range []string{"log of tc1, without 1061 earlier lines", "=info-71\n", "=debug-99-0\n", "=debug-99-9\n", "=last"} {
			if !strings.Contains(said, want) {
				t.Errorf("a failing test doesn't say %q: %s", want, said)
			}
		}
		if strings.Contains(said, "=info-70\n") || strings.Contains(said, "=debug-98-9\n") || strings.Contains(said, "late") || len(h.said) != 1 {
			t.Errorf("too much: %s", said)
		}
	}
}
