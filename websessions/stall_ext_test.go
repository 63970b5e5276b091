package websessions_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/websessions"
)

// A server that is silent is left after stallTimeout, and not before: here the
// active one of three, which this node's own network cuts off.
func TestStallTimeoutSaysWhenASilentServerIsLeft(t *testing.T) {
	t.Parallel()
	c := testcluster.StartStripe(t, 3, testcluster.Calm(), testcluster.Logger(slog.New(slog.DiscardHandler)))
	n := testcluster.NewNetwork(t)
	var doors []string
	for _, s := range c.Servers {
		n.Host(s.Addr(), s.Name())
		door, err := n.Via("node", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		doors = append(doors, door)
	}
	uri := "terracotta://" + strings.Join(doors, ",") + "/shop"
	quick := node(t, websessions.Config{URI: uri, StallTimeout: websessions.MinStallTimeout, NonStopTimeout: time.Minute})
	patient := node(t, websessions.Config{URI: uri, StallTimeout: time.Hour, NonStopTimeout: 2500 * time.Millisecond})
	if err := patient.Ready(long(t)); err != nil {
		t.Fatal(err)
	}
	q, p := visit(quick, counter, nil), visit(patient, counter, nil)
	expect(t, q, 200, "1")
	expect(t, p, 200, "1")
	active := c.Active().Name()
	n.Cut("node", active)
	n.Cut(active, "node")
	expect(t, visit(quick, counter, q), 200, "2") // by the redirect of another server
	expect(t, visit(patient, counter, p), 503, "")
}

func TestAStallTimeoutThatIsTooShortIsRefused(t *testing.T) {
	for _, d := range []time.Duration{-time.Second, time.Nanosecond, websessions.MinStallTimeout - 1} {
		if err := (websessions.Config{StallTimeout: d}).Validate(); err == nil || !strings.Contains(err.Error(), "stallTimeout") {
			t.Errorf("%v: %v", d, err)
		}
	}
	for _, d := range []time.Duration{0, websessions.MinStallTimeout, time.Hour} {
		if err := (websessions.Config{StallTimeout: d}).Validate(); err != nil {
			t.Errorf("%v: %v", d, err)
		}
	}
}
