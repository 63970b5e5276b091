package websessions_test

import (
	"log/slog"
	"testing"

	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/websessions"
)

func init() {
	websessions.StartCluster = func(t testing.TB) string {
		return testcluster.Start(t, testcluster.Logger(slog.New(slog.DiscardHandler))).URI("sessions")
	}
}
