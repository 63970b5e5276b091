package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terracotta-go/terracotta/config"
)

// healthCommand is what the image's HEALTHCHECK runs: images have no shell and no curl.
func healthCommand(environ []string) *cobra.Command {
	ready := false
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask a cart that runs on this machine whether it is alive",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Only the address counts here: faults elsewhere are the start's to report.
			cfg, _ := config.LoadCart(cmd.Flags(), environ)
			path := "/health"
			if ready {
				path = "/ready"
			}
			if err := probe(cmd.Context(), cfg.Listen, path); err != nil {
				return &failure{1, "UNHEALTHY", err, ""}
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return err
		},
	}
	c.Flags().BoolVar(&ready, "ready", false, "ask whether the cluster is reachable, too")
	return c
}

// probe asks the cart that listens on an address such as ":8080".
func probe(ctx context.Context, listen, path string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return err
	}
	// No proxy: this is our own machine.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return errors.New(strings.TrimSpace(string(text)))
	}
	return nil
}
