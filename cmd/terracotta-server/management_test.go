package main

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/config"
)

// A port that nobody chose is not worth an outage; one that somebody chose is.
func TestManagementPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var said bytes.Buffer
	cfg := config.Server{Bind: "127.0.0.1", ManagementPort: ln.Addr().(*net.TCPAddr).Port}
	m, err := startManagement(cfg, cfg.Logger(&said))
	if err != nil {
		t.Fatalf("by default: %v", err)
	}
	m.Close()
	if got := said.String(); !strings.Contains(got, " WARN  the management port cannot be opened: ") || !strings.Contains(got, "address already in use") {
		t.Errorf("by default it says %q", got)
	}
	cfg.ManagementAsked = true
	var f *failure
	if _, err := startManagement(cfg, cfg.Logger(&said)); !errors.As(err, &f) || f.code != exitFailure {
		t.Errorf("asked for: %v", err)
	}
}
