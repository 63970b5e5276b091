package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

// terracotta is our server's binary with a key and a licence that live as long
// as the bench.
type terracotta struct {
	binary  string
	profile string // file of the server's CPU profile, "" = none
	trusted string // directory of public keys
	license []byte
}

const benchKey = "dev-bench"

func newTerracotta(ctx context.Context, dir, profiles string) (*terracotta, error) {
	binary, profile, err := buildServer(ctx, dir, profiles)
	if err != nil {
		return nil, err
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	t := &terracotta{binary: binary, profile: profile, trusted: filepath.Join(dir, "trusted")}
	if err := os.MkdirAll(t.trusted, 0o755); err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := os.WriteFile(filepath.Join(t.trusted, benchKey+".pem"), block, 0o644); err != nil {
		return nil, err
	}
	draft, err := license.Draft(license.License{
		SerialNumber: "BENCH-1", CustomerID: "1", CustomerName: "The bench", ContractDetails: "none", LicenseTypeDetails: "none",
		Expiration: time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 7), OS: "any", ProductCode: license.Product, ProductName: "Terracotta",
		ProductVersion: "10.4", Usage: "test", Renewal: "none", LicenseType: "trial", OffheapLimit: 100 << 30,
		Flags: map[string]bool{license.FlagWebsessions: true, license.FlagTCStore: true},
	}, benchKey)
	if err != nil {
		return nil, err
	}
	t.license, err = license.Sign(draft, benchKey, private)
	return t, err
}

// server is a running, configured server of ours.
type server struct {
	*process
	t   *terracotta
	env []string
}

// start starts a server with its data in dir and configures it. Durability is
// memory-only, every-second or every-write.
func (t *terracotta) start(ctx context.Context, dir, durability string, env ...string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(addr)
	s := &server{t: t, env: append([]string{
		"TC_DATA_ROOT=" + dir, "TC_TSA_PORT=" + port, "TC_MANAGEMENT_PORT=0", "TC_BIND=" + host, "HOSTNAME=localhost",
		"TC_TRUSTED_KEYS=" + t.trusted, "TC_DURABILITY=" + durability, "OFFHEAP_RESOURCE1_UNIT=GB", "OFFHEAP_RESOURCE1_SIZE=8",
	}, env...)}
	if err := s.begin(ctx, addr); err != nil {
		return nil, err
	}
	if err := s.configure(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("configure: %w\n%s", err, s.log), s.kill())
	}
	return s, nil
}

// begin starts the process, again after it was ended.
func (s *server) begin(ctx context.Context, addr string) (err error) {
	env := s.env
	if s.t.profile != "" {
		env = append(env, profileEnv+"="+s.t.profile)
	}
	if s.process, err = start(addr, env, s.t.binary); err != nil {
		return err
	}
	if err := s.ready(ctx, "+PONG"); err != nil {
		return errors.Join(err, s.kill())
	}
	return nil
}

// stop writes the profile, if there is one, and ends the server in order.
func (s *server) stop() error {
	if s.t.profile != "" {
		_ = s.cmd.Process.Signal(syscall.SIGUSR1)
		awaitProfile(s.t.profile)
	}
	return s.process.stop()
}

func (s *server) configure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := client.New(client.Options{Hosts: []string{s.addr}})
	if err != nil {
		return err
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	_, err = c.Configure(ctx, &wire.ConfigureRequest{
		Cluster: wire.Cluster{Name: "bench", Stripes: []wire.StripeConfig{status.Running}}, License: s.t.license,
	})
	return err
}

// dataset is what the benches keep their sessions in.
var dataset = []byte("bench")

// node returns a client that has joined and opened the dataset.
func (s *server) node(ctx context.Context) (*client.Client, error) {
	c, err := client.New(client.Options{Hosts: []string{s.addr}, Node: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.Open(ctx, &wire.Open{Dataset: dataset, LockMode: []byte("none")}); err != nil {
		return nil, errors.Join(fmt.Errorf("open the dataset: %w\n%s", err, lastLines(s.log.String())), c.Close())
	}
	return c, nil
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
