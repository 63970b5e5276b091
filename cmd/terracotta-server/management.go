package main

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/management"
)

// startManagement opens the management port before anything that may take long,
// so that probes can tell a server that restores its state from a dead one.
// Sessions are more important than their figures: where nobody chose the port
// and it is taken, the server runs without.
func startManagement(cfg config.Server, log *slog.Logger) (*management.Server, error) {
	m := management.New(log)
	if cfg.ManagementPort == config.NoManagement {
		return m, nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(cfg.Bind, strconv.Itoa(cfg.ManagementPort)))
	if err != nil {
		if cfg.ManagementAsked {
			return nil, &failure{exitFailure, fmt.Errorf("management port: %w", err), "set TC_MANAGEMENT_PORT to a free port, or to off"}
		}
		log.Warn("the management port cannot be opened: this server has no /health, /ready and /metrics; set TC_MANAGEMENT_PORT to a free port, or to off", "error", err)
		return m, nil
	}
	log.Info("health and metrics are served", "url", "http://"+shown(ln.Addr())+"/")
	go func() {
		if err := m.Serve(ln); err != nil {
			log.Error("the management port has broken; sessions are still served", "error", err)
		}
	}()
	return m, nil
}
