package main

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

func pairConfig(groupPort int) config.Server {
	cfg := config.Server{GroupBind: "127.0.0.1", Password: "secret"}
	cfg.Self = wire.ServerConfig{Name: "tc1", Host: "outside.example.org", Port: 9410, GroupPort: groupPort}
	cfg.Stripe.Servers = []wire.ServerConfig{{Name: "tc1", Host: "tc1", Port: 9410, GroupPort: groupPort}, {Name: "tc2", Host: "tc2", Port: 9410, GroupPort: 9430}}
	cfg.Stripe.FailoverPriority = stripe.Availability
	return cfg
}

func TestGroupPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := pairConfig(ln.Addr().(*net.TCPAddr).Port)
	var f *failure
	err = joinOthers(&stripe.Config{}, cfg, nil, cfg.Logger(&bytes.Buffer{}))
	if !errors.As(err, &f) || f.code != exitFailure || !strings.HasPrefix(err.Error(), "group port: ") || !strings.Contains(f.hint, "tsa-group-port") {
		t.Errorf("%v", err)
	}
}

// What the other servers and clients are told of this one is its advertised host;
// a failover-priority that can't be kept is said loudly.
func TestJoinOthers(t *testing.T) {
	st := store.New()
	defer st.Close()
	cfg := pairConfig(0)
	var said bytes.Buffer
	var c stripe.Config
	if err := joinOthers(&c, cfg, st, cfg.Logger(&said)); err != nil {
		t.Fatal(err)
	}
	defer c.Listener.Close()
	if c.Self != "tc1" || c.Secret != "secret" || c.Priority != stripe.Availability || c.Agreement != server.Agreement(cfg.Stripe) ||
		c.Members[0].ClientAddr != "outside.example.org:9410" || c.Members[1].ClientAddr != "tc2:9410" || c.Members[1].GroupAddr != "tc2:9430" {
		t.Errorf("%+v", c)
	}
	if err := c.MayJoin("tc2"); !wire.Is(err, wire.ErrUnconfigured) {
		t.Errorf("before configure: %v", err)
	}
	if strings.Contains(said.String(), "FAILOVER PRIORITY") {
		t.Errorf("of a pair it says %s", said.String())
	}
	for want, change := range map[string]func(*wire.StripeConfig){
		"failover-priority availability is for a pair of servers": func(s *wire.StripeConfig) {
			third := s.Servers[1]
			third.Name = "tc3"
			s.Servers = append(s.Servers, third)
		},
		"failover-priority consistency names external voters": func(s *wire.StripeConfig) {
			s.FailoverPriority, s.Voters = stripe.Consistency, 1
		},
	} {
		other := pairConfig(0)
		change(&other.Stripe)
		var said bytes.Buffer
		var c stripe.Config
		if err := joinOthers(&c, other, st, other.Logger(&said)); err != nil {
			t.Fatal(err)
		}
		c.Listener.Close()
		if !strings.Contains(said.String(), "FAILOVER PRIORITY: "+want) {
			t.Errorf("no %q in %s", want, said.String())
		}
	}
	var sole stripe.Config
	cfg.Stripe.Servers = cfg.Stripe.Servers[:1]
	if err := joinOthers(&sole, cfg, st, cfg.Logger(&said)); err != nil || sole.Listener != nil || sole.Members != nil {
		t.Errorf("a single server: %+v, %v", sole, err)
	}
}
