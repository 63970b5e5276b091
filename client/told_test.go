package client_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/testcluster"
)

// lines hands out what is logged.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default: // the test has seen enough
	}
	return len(p), nil
}

// That no server is there yet is told, with what was tried: the program itself
// goes on waiting.
func TestNoServerYetIsTold(t *testing.T) {
	said := make(lines, 16)
	host := "127.0.0.1:" + testcluster.FreePort(t)
	c, err := client.New(client.Options{Hosts: []string{host}, Node: true, Logger: slog.New(slog.NewTextHandler(said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	line := <-said
	for _, want := range []string{"no terracotta server can be used yet; trying again until one can", host, "connection refused"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q does not say %q", line, want)
		}
	}
}
