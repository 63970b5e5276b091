package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/ownership"
	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

const (
	// activeTimeout bounds how long a single server may take to become active
	// after its state was read: nobody else has a vote.
	activeTimeout = 30 * time.Second
	// drainTimeout bounds how long running commands may take to finish at the
	// stop: docker stop is done within two seconds.
	drainTimeout = time.Second
	// handOverTimeout bounds, before that, the handing over to a passive server.
	handOverTimeout = 700 * time.Millisecond
)

// serve runs the server until ctx ends or TC.STOP comes.
func serve(ctx context.Context, cfg config.Server, stdout io.Writer) error {
	for {
		if err := serveOnce(ctx, cfg, stdout); !errors.Is(err, errStartAgain) {
			return err
		}
	}
}

// serveOnce starts the server, runs it until ctx ends or TC.STOP comes, and stops
// it. The order of the start: refuse what needs no resources, then open the
// state (it locks the data root, so that a second process changes nothing), then
// the rooms above it, then the port. So whoever can connect is served. The
// management port alone opens early: it tells how far the start is. The stop
// goes the other way, so that no room loses what it stands on.
func serveOnce(ctx context.Context, cfg config.Server, stdout io.Writer) error {
	log := cfg.Logger(stdout)
	if err := mayStart(cfg, stdout); err != nil {
		return err
	}
	log.Info("terracotta-server starts", "version", config.Version, "server", cfg.Self.Name, "pid", os.Getpid())
	for _, note := range cfg.Notes {
		log.Info(note)
	}
	limits := server.Limits{MaxConnections: cfg.MaxConnections, MaxValue: cfg.MaxValue}
	if limit, ok := findMemoryLimit(os.DirFS("/")); ok {
		if err := checkMemory(cfg, limit, log); err != nil {
			return err
		}
		limitHeap(cfg, limit, &limits)
	}
	keys := trustedKeys(cfg.TrustedKeys, log)
	manage, err := startManagement(cfg, log)
	if err != nil {
		return err
	}
	defer manage.Close()

	if err := tryPort(cfg); err != nil {
		return err
	}
	st := store.New()
	sp, err := openStripe(ctx, cfg, st, log)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		log.Info("terracotta-server has stopped", "during", "start")
		return nil
	}
	if err != nil {
		return err
	}
	own := ownership.New(ownership.Config{
		Lease: cfg.Stripe.LeaseLength, ReconnectWindow: cfg.Stripe.ReconnectWindow,
		ServerName: cfg.Self.Name, MaxValue: cfg.MaxValue, Logger: log,
	}, sp, st)
	closeRooms := func() error {
		own.Close()
		if err := sp.Close(); err != nil {
			return err // something may still be applied
		}
		st.Close()
		return nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(cfg.Bind, strconv.Itoa(cfg.Self.Port)))
	if err != nil {
		_ = closeRooms()
		return portTaken(cfg, err)
	}
	choosePort(&cfg, ln.Addr())
	stopAsked, stop := context.WithCancel(ctx)
	defer stop()
	var again atomic.Bool // this server's data is to be set aside by the next start
	go func() {
		select {
		case <-sp.Lost():
			again.Store(true)
			stop()
		case <-stopAsked.Done():
		}
	}()
	var whole atomic.Bool // all servers of the stripe stop
	srv := server.New(server.Config{
		Self: cfg.Self, Running: cfg.Stripe, Durability: cfg.Durability, Version: config.Version,
		Password: cfg.Password, Keys: keys, Logger: log, Settings: shownSettings(cfg),
		Stop:   func(all bool) { whole.Store(all); stop() },
		Limits: limits,
	}, own, sp, st)
	warn(cfg, log)
	manage.Attach(srv.Status, sp.Status, srv.Memory)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()

	starting, giveUp := context.WithCancel(stopAsked)
	defer giveUp()
	unfit := watchUnfit(stopAsked, sp, giveUp)
	err = ready(starting, cfg, sp, srv, ln.Addr(), log)
	if err == nil {
		select {
		case err = <-unfit:
		case err = <-failed: // only a listener that broke: nobody has asked to stop
			err = fmt.Errorf("accept connections: %w", err)
		case <-stopAsked.Done():
		}
	}

	manage.Detach()
	if err == nil && !whole.Load() {
		handOver(own, sp, log)
	}
	if err := stopServing(srv, closeRooms, err, log); err != nil || !again.Load() || ctx.Err() != nil {
		return err
	}
	return errStartAgain
}

// errStartAgain says that the server has stopped to start anew: after a split brain,
// or because its data was not the active server's.
var errStartAgain = errors.New("start again")

// handOver makes a passive server the active one, if this one is active and there
// is one: its clients find the other before this one is gone.
func handOver(own *ownership.Ownership, sp *stripe.Stripe, log *slog.Logger) {
	if !sp.Serves() {
		return
	}
	sp.Leave()
	ctx, cancel := context.WithTimeout(context.Background(), handOverTimeout)
	defer cancel()
	own.HandOver(ctx)
	began := time.Now()
	if err := sp.HandOver(ctx); err != nil {
		log.Warn("no other server could take over before this one stops", "error", err)
	} else if name, _, ok := sp.Active(); ok && !sp.Serves() {
		log.Info("another server has taken over", "name", name, "took", time.Since(began).Round(time.Millisecond))
	}
}

// stopServing ends what serve has started, in order. cause is why it stops, nil
// where somebody asked for it.
func stopServing(srv *server.Server, closeRooms func() error, cause error, log *slog.Logger) error {
	began := time.Now()
	log.Info("terracotta-server stops")
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if cut := srv.Shutdown(drain); cut != nil {
		log.Warn("some commands were cut off: they did not finish in time", "limit", drainTimeout)
	}
	closed := closeRooms()
	var told *failure
	if errors.As(cause, &told) && closed == nil {
		return told
	}
	if err := errors.Join(cause, closed); err != nil {
		return &failure{exitFailure, err, ""}
	}
	log.Info("terracotta-server has stopped", "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// tryPort refuses a port that is taken before the state is read, which may take
// long. Nobody is let in yet, so the port is closed again.
func tryPort(cfg config.Server) error {
	ln, err := net.Listen("tcp", net.JoinHostPort(cfg.Bind, strconv.Itoa(cfg.Self.Port)))
	if err != nil {
		return portTaken(cfg, err)
	}
	return ln.Close()
}

func portTaken(cfg config.Server, err error) error {
	return &failure{exitFailure, err, fmt.Sprintf("is another server running? set another port for this one (now %d)", cfg.Self.Port)}
}

// choosePort writes the port that the system chose where port 0 was asked for.
func choosePort(cfg *config.Server, addr net.Addr) {
	tcp, ok := addr.(*net.TCPAddr)
	if cfg.Self.Port != 0 || !ok {
		return
	}
	cfg.Self.Port = tcp.Port
	cfg.Stripe.Servers = slices.Clone(cfg.Stripe.Servers)
	for i := range cfg.Stripe.Servers {
		if cfg.Stripe.Servers[i].Name == cfg.Self.Name {
			cfg.Stripe.Servers[i].Port = tcp.Port
		}
	}
}

// mayStart refuses what can be refused before anything is touched.
func mayStart(cfg config.Server, stdout io.Writer) error {
	if cfg.InContainer {
		if !cfg.EULA {
			return &failure{exitEULA, errors.New("the licence agreement is not accepted"),
				"to accept it: docker run -e ACCEPT_EULA=Y ...; it stands in the kit's file EULA, in the image at /usr/share/doc/terracotta/EULA"}
		}
		fmt.Fprintln(stdout, "The licence agreement was accepted (ACCEPT_EULA=Y).")
	}
	return nil
}

// trustedKeys reads the keys that licences are verified with. Without them the
// server still runs: sessions are never lost because of a licence.
func trustedKeys(dir string, log *slog.Logger) *license.Keys {
	keys, err := license.ReadKeys(os.DirFS(dir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		log.Warn("there is no directory of trusted keys: no licence will verify", "directory", dir)
	case err != nil:
		log.Error("the trusted keys cannot be read: no licence will verify", "directory", dir, "error", err)
	case len(keys.IDs()) == 0:
		log.Warn("there are no trusted keys: no licence will verify", "directory", dir)
	}
	return keys
}

// openStripe opens the state in the platform data directory, or in memory.
func openStripe(ctx context.Context, cfg config.Server, st *store.Store, log *slog.Logger) (*stripe.Stripe, error) {
	// In memory only, nothing is ever written.
	if cfg.Durability != config.MemoryOnly {
		if err := makeDirectories(cfg.Stripe.DataDirectories); err != nil {
			return nil, err
		}
	}
	c := stripe.Config{Durability: stripe.Durability(cfg.Durability), ServerName: cfg.Self.Name, Logger: log}
	if c.Durability != stripe.MemoryOnly {
		c.Dir = stateFolder(cfg)
		log.Info("opening the data root", "directory", c.Dir, "durability", cfg.Durability)
	}
	if err := joinOthers(&c, cfg, st, log); err != nil {
		return nil, err
	}
	sp, err := stripe.Open(ctx, c, st)
	if err != nil {
		return nil, &failure{exitFailure, err, ""}
	}
	return sp, nil
}

// warn says loudly what an operator may not have meant.
func warn(cfg config.Server, log *slog.Logger) {
	if cfg.Durability == string(stripe.MemoryOnly) {
		log.Warn("MEMORY ONLY: there is no data root, and a stop of this server loses every session and the configuration")
	}
	if ip := net.ParseIP(cfg.Bind); cfg.Password == "" && cfg.Bind != "localhost" && (ip == nil || !ip.IsLoopback()) {
		log.Warn("NO PASSWORD IS SET: whoever reaches the port can read and change every session; set TC_PASSWORD_FILE, or keep the port on a private network",
			"bind", cfg.Bind, "port", cfg.Self.Port)
	}
}

// ready waits until a configured server is in service and writes the last line
// of the start. One of several may wait for the others, as long as that takes.
func ready(ctx context.Context, cfg config.Server, sp *stripe.Stripe, srv *server.Server, addr net.Addr, log *slog.Logger) error {
	several := len(cfg.Stripe.Servers) > 1
	if !sp.Status().Formed {
		log.Info("this server belongs to no cluster yet: configure one and install its licence with cluster-tool",
			"command", fmt.Sprintf("cluster-tool configure -n NAME -l LICENSE -s %s:%d", cfg.Self.Host, cfg.Self.Port))
	} else if err := becomeReady(ctx, several, sp, srv); err != nil {
		return err
	}
	srv.LogWarnings()
	if ctx.Err() == nil {
		state := wire.StateActive
		if several && !sp.Serves() {
			state = srv.Status().State
		}
		log.Info(fmt.Sprintf("Terracotta Server instance has started up as %s node on %s successfully, and is now ready for work.", state, shown(addr)))
	}
	return nil
}

// shown writes the address as the original does: the wildcard is 0.0.0.0.
func shown(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("0.0.0.0", strconv.Itoa(tcp.Port))
	}
	return addr.String()
}

// becomeReady returns when the server is active or, as one of several, has all that
// the active one has.
func becomeReady(ctx context.Context, several bool, sp *stripe.Stripe, srv *server.Server) error {
	changes := sp.Changes()
	var limit <-chan time.Time
	if !several {
		limit = time.After(activeTimeout)
	}
	tick := time.NewTicker(time.Second) // a passive may be in step without a change of its role
	defer tick.Stop()
	for !wire.InService(srv.Status().State) {
		select {
		case <-changes:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		case <-limit:
			return fmt.Errorf("the server is still %s after %v", sp.Status().State, activeTimeout)
		}
	}
	return nil
}
