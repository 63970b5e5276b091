package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/websessions"
)

// Times of an orderly stop: together under the two seconds after which an
// impatient operator kills.
const (
	finishRequests = 1200 * time.Millisecond
	closeSessions  = 300 * time.Millisecond
)

// serve runs the shop until ctx ends.
func serve(ctx context.Context, cfg config.Cart, log *slog.Logger) error {
	for _, note := range cfg.Notes {
		log.Warn(note)
	}
	sh := &shop{cfg: cfg, log: log}
	cfg.Sessions.Logger = log
	cfg.Sessions.ErrorPage = sh.sorry
	cfg.Sessions.Hooks = sh.hooks()
	sessions, err := websessions.New(cfg.Sessions)
	if err != nil {
		return &failure{exitConfig, "BAD_REQUEST", err, ""}
	}
	sh.sessions = sessions
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return errors.Join(&failure{exitFailure, "FAILURE", err, "is another program using the port? choose one with CART_LISTEN=:8081"},
			closeWithin(sessions, closeSessions))
	}
	return sh.serveOn(ctx, ln)
}

// serveOn serves on ln, and closes it and the sessions, until ctx ends.
func (sh *shop) serveOn(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           sh.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(sh.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	sh.log.Info("the shop is open", "url", sh.url(ln.Addr()), "server", sh.cfg.Name, "color", sh.cfg.Color, "version", config.Version)

	var err error
	select {
	case err = <-served:
		err = &failure{exitFailure, "FAILURE", err, ""}
	case <-ctx.Done():
		// Requests first: they still need their sessions.
		wait, done := context.WithTimeout(context.WithoutCancel(ctx), finishRequests)
		if server.Shutdown(wait) != nil {
			sh.log.Warn("some requests did not finish in time and were cut off")
			_ = server.Close()
		}
		done()
	}
	if closing := closeWithin(sh.sessions, closeSessions); closing != nil {
		sh.log.Warn("sessions closed in haste", "error", closing)
	}
	sh.log.Info("the shop is closed")
	return err
}

func closeWithin(sessions *websessions.Sessions, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return sessions.Close(ctx)
}

// url is where a browser on this machine finds the shop.
func (sh *shop) url(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return fmt.Sprintf("http://%s%s/", net.JoinHostPort(host, port), sh.cfg.Contexts[0])
}

// hooks lets `docker logs -f sessions` show what happens, by public ids.
func (sh *shop) hooks() websessions.Hooks {
	return websessions.Hooks{
		Created: func(_ context.Context, id string) { sh.log.Info("session created", "session", id) },
		Ended: func(_ context.Context, id, reason string) {
			sh.log.Info("session ended", "session", id, "reason", reason)
		},
		Changed: func(_ context.Context, id string, attributes []string) {
			sh.log.Debug("session changed", "session", id, "attributes", attributes)
		},
	}
}
