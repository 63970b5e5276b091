package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/config"
)

// healthTimeout bounds the whole check: the images ask every second.
const healthTimeout = 2 * time.Second

func healthCommand(environ []string, stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Ask the server on this machine whether it is alive",
		Long: `health succeeds when the server of this configuration is alive and answers on
its client port. An unconfigured server is healthy: it waits for cluster-tool.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, environ)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			addr := healthAddress(cfg)
			if err := ping(ctx, addr); err != nil {
				return &failure{exitUnhealthy, fmt.Errorf("%s: %w", addr, err), "is the server running? its log says why not"}
			}
			_, err = fmt.Fprintf(stdout, "%s: healthy\n", addr)
			return err
		},
	}
}

// healthAddress is where the server listens, by way of this machine.
func healthAddress(cfg config.Server) string {
	host := cfg.Bind
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(cfg.Self.Port))
}

// ping asks for a sign of life. A server that first wants a password, or that
// has too many connections, is alive: a restart would only make it worse.
func ping(ctx context.Context, addr string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 512)).ReadString('\n')
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case strings.HasPrefix(line, "+PONG"), strings.HasPrefix(line, "-NOAUTH"), strings.HasPrefix(line, "-BUSY"):
		return nil
	}
	return fmt.Errorf("unexpected answer %q to PING", strings.TrimSpace(line))
}
