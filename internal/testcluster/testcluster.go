// Package testcluster runs a real server in a test's process: store, stripe,
// ownership and server on a port of 127.0.0.1, configured with a throw-away key
// and licence. Nothing is faked, so what a test sees a user sees.
//
//	c := testcluster.Start(t)
//	cl, err := client.New(client.Options{Hosts: []string{c.Addr()}, Node: true})
//
// It is for tests only; a test holds that nothing else imports it.
package testcluster

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/ownership"
	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

// Name is the name under which the cluster is configured.
const Name = "TestCluster"

// Version is the version that the server runs as and that the licence allows.
const Version = "10.4.0-SNAPSHOT"

const keyID = "dev-testcluster"

// options say what to start; the zero options are a configured server in memory.
type options struct {
	unconfigured bool
	dir          string
	password     string
	limits       server.Limits
	offheap      uint64
	window       time.Duration
	logger       *slog.Logger
	now          func() time.Time
	priority     string
	timers       stripe.Timers
	via          func(from, to, addr string) string
	faults       func(name string) *stripe.Faults
	backups      string
}

// Option changes what Start starts.
type Option func(*options)

// Unconfigured leaves out configure: data commands answer UNCONFIGURED.
func Unconfigured() Option { return func(o *options) { o.unconfigured = true } }

// Dir keeps the data in dir, fsynced, so that Restart and Kill find it again.
// Without it the server is memory only, and what a restart starts is empty but
// configured.
func Dir(dir string) Option { return func(o *options) { o.dir = dir } }

// Password sets the shared secret.
func Password(p string) Option { return func(o *options) { o.password = p } }

// Limits replaces the server's limits; zero fields keep their defaults.
func Limits(l server.Limits) Option { return func(o *options) { o.limits = l } }

// Offheap sets the size of each off-heap resource in bytes; default 512 MB.
func Offheap(size uint64) Option { return func(o *options) { o.offheap = size } }

// ReconnectWindow sets how long an absent node is waited for; default that of package wire.
func ReconnectWindow(d time.Duration) Option { return func(o *options) { o.window = d } }

// Clock replaces the wall clock that licences are judged by. It may be called
// from any goroutine.
func Clock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// Faults lets a server's clock or disk go wrong: f says how for the server of that name.
func Faults(f func(name string) *stripe.Faults) Option { return func(o *options) { o.faults = f } }

// Logger replaces the logger, whose end otherwise comes with a failure of the test.
func Logger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// Backups sets the backup location.
func Backups(dir string) Option { return func(o *options) { o.backups = dir } }

// Cluster is one running server. Its methods fail the test instead of
// returning errors; they are for the test's goroutine.
type Cluster struct {
	t       testing.TB
	o       options
	addr    string
	key     ed25519.PrivateKey
	keys    *license.Keys
	license []byte
	files   string // folder with license.xml and trusted/
	log     *slog.Logger

	srv     *server.Server
	own     *ownership.Ownership
	stripe  *stripe.Stripe
	store   *store.Store
	served  chan struct{} // closed when Serve has returned
	stopped chan struct{} // closed when TC.STOP was asked for
	running bool

	name  string     // of this server
	peers []*Cluster // all servers of its stripe, this one included; nil: it is the only one
	group string     // host:port of the group port, with peers
}

// Start starts a server that is closed when the test ends.
func Start(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	c := newCluster(t, "tc1", opts)
	c.addr = net.JoinHostPort("127.0.0.1", FreePort(t)) // its own, while it is down, too
	c.makeLicense()
	c.Start()
	return c
}

// newCluster makes a server that is not started, and is stopped when the test ends.
func newCluster(t testing.TB, name string, opts []Option) *Cluster {
	c := &Cluster{t: t, name: name, o: options{offheap: 512 << 20, priority: stripe.Availability}}
	for _, o := range opts {
		o(&c.o)
	}
	out := &testLog{t: t, name: name}
	c.log = c.o.logger
	if c.log == nil {
		c.log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	t.Cleanup(func() {
		c.Stop()
		out.close()
	})
	return c
}

// makeLicense makes a key, a licence of a hundred GB, and files of both.
func (c *Cluster) makeLicense() {
	c.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	c.check(err)
	c.key = private
	der, err := x509.MarshalPKIXPublicKey(public)
	c.check(err)
	c.files = c.t.TempDir()
	c.check(os.Mkdir(c.TrustedKeys(), 0o755))
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	c.check(os.WriteFile(filepath.Join(c.TrustedKeys(), keyID+".pem"), block, 0o644))
	c.keys, err = license.ReadKeys(os.DirFS(c.TrustedKeys()))
	c.check(err)
	c.license = c.IssueLicense(func(*license.License) {})
	c.check(os.WriteFile(c.LicenseFile(), c.license, 0o644))
}

// IssueLicense makes another licence that this cluster trusts: the usual one
// after change.
func (c *Cluster) IssueLicense(change func(*license.License)) []byte {
	c.t.Helper()
	l := license.License{
		SerialNumber: "TEST-1", CustomerID: "1", CustomerName: "The test", ContractDetails: "none", LicenseTypeDetails: "none",
		Expiration: time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 90), OS: "any", ProductCode: license.Product, ProductName: "Terracotta",
		ProductVersion: "10.4", Usage: "test", Renewal: "none", LicenseType: "trial", OffheapLimit: 100 << 30,
		Flags: map[string]bool{license.FlagWebsessions: true, license.FlagTCStore: true},
	}
	change(&l)
	draft, err := license.Draft(l, keyID)
	c.check(err)
	doc, err := license.Sign(draft, keyID, c.key)
	c.check(err)
	return doc
}

// Start starts the server after a Stop or Kill, on the same port.
func (c *Cluster) Start() {
	c.t.Helper()
	ln, err := listen(c.addr)
	c.check(err)
	c.addr = ln.Addr().String()
	st := store.New()
	c.store = st
	durability := stripe.MemoryOnly
	if c.o.dir != "" {
		durability = stripe.EveryWrite
	}
	running := c.Running()
	self := running.Servers[slices.IndexFunc(running.Servers, func(s wire.ServerConfig) bool { return s.Name == c.name })]
	cfg := stripe.Config{Dir: c.o.dir, Durability: durability, ServerName: self.Name, Logger: c.log}
	if c.o.faults != nil {
		cfg.Faults = c.o.faults(c.name)
	}
	err = c.joinPeers(&cfg, running)
	if err == nil {
		c.stripe, err = stripe.Open(context.Background(), cfg, st)
	}
	if err != nil {
		_ = ln.Close()
	}
	c.check(err)
	c.own = ownership.New(ownership.Config{
		ReconnectWindow: c.o.window, ServerName: self.Name, MaxValue: c.o.limits.MaxValue, Logger: c.log,
	}, c.stripe, st)
	stopped := make(chan struct{})
	c.stopped = stopped
	c.srv = server.New(server.Config{
		Self: self, Running: running, Durability: string(durability), Version: Version, Password: c.o.password,
		Keys: c.keys, Limits: c.o.limits, Stop: func(bool) { close(stopped) }, Now: c.o.now, Logger: c.log,
	}, c.own, c.stripe, st)
	served := make(chan struct{})
	c.served = served
	go func() {
		defer close(served)
		if err := c.srv.Serve(ln); err != nil {
			c.log.Error("serve", "error", err)
		}
	}()
	c.running = true
	if c.peers != nil {
		return // its stripe waits, where it must
	}
	c.waitActive() // an unformed stripe says so at once
	c.srv.LogWarnings()
	if st.Cluster() == nil && !c.o.unconfigured {
		c.Configure()
	}
}

// Configure configures the cluster as cluster-tool does.
func (c *Cluster) Configure() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := c.srv.Configure(ctx, &wire.ConfigureRequest{
		Cluster: wire.Cluster{Name: Name, Stripes: []wire.StripeConfig{c.Running()}}, License: c.license,
	})
	c.check(err)
}

func (c *Cluster) waitActive() {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		st := c.stripe.Status()
		if st.State == wire.StateActive {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("testcluster: still %s after a minute", st.State)
		}
		<-time.After(2 * time.Millisecond) // Changes is for ownership alone
	}
}

// Running is the configuration that the server was started with.
func (c *Cluster) Running() wire.StripeConfig {
	servers := []wire.ServerConfig{c.serverConfig()}
	if c.peers != nil {
		servers = nil
		for _, p := range c.peers {
			servers = append(servers, p.serverConfig())
		}
	}
	return wire.StripeConfig{
		Servers:          servers,
		OffheapResources: []wire.OffheapResource{{Name: "offheap-1", Size: c.o.offheap}, {Name: "offheap-2", Size: c.o.offheap}},
		DataDirectories: []wire.DataDirectory{
			{Name: "PLATFORM", Path: "/data/dataroots/platform", Platform: true},
			{Name: "dataroot-1", Path: "/data/dataroots/dataroot-1"}, {Name: "dataroot-2", Path: "/data/dataroots/dataroot-2"},
		},
		FailoverPriority: c.o.priority, ReconnectWindow: wire.DefaultReconnectWindow, BackupLocation: c.o.backups,
	}
}

// serverConfig is this server in the configuration.
func (c *Cluster) serverConfig() wire.ServerConfig {
	s := wire.ServerConfig{Name: c.name}
	s.Host, s.Port = c.split(c.addr)
	s.GroupPort = s.Port + wire.DefaultGroupPort - wire.DefaultPort
	if c.group != "" {
		_, s.GroupPort = c.split(c.group)
	}
	return s
}

func (c *Cluster) split(addr string) (host string, port int) {
	c.t.Helper()
	host, text, err := net.SplitHostPort(addr)
	c.check(err)
	port, err = strconv.Atoi(text)
	c.check(err)
	return host, port
}

// Addr is the host:port for clients. It stays the same over restarts.
func (c *Cluster) Addr() string { return c.addr }

// URI is the terracotta:// URI of dataset, or of the cluster where dataset is "".
func (c *Cluster) URI(dataset string) string {
	if dataset != "" {
		dataset = "/" + dataset
	}
	return "terracotta://" + c.addr + dataset
}

// License is the document that the cluster is configured with; LicenseFile is
// a file that holds it.
func (c *Cluster) License() []byte     { return c.license }
func (c *Cluster) LicenseFile() string { return filepath.Join(c.files, "license.xml") }

// TrustedKeys is a directory with the public key of the licence.
func (c *Cluster) TrustedKeys() string { return filepath.Join(c.files, "trusted") }

// Status is what TC.STATUS would answer.
func (c *Cluster) Status() wire.Status { return c.srv.Status() }

// StopAsked returns a channel that is closed once a TC.STOP was answered.
// Whoever sent it calls Stop: the process around a real server does.
func (c *Cluster) StopAsked() <-chan struct{} { return c.stopped }

// Stop stops the server in order. Stopping twice does nothing.
func (c *Cluster) Stop() {
	c.t.Helper()
	if c.running && c.peers != nil { // as the process does
		c.stripe.Leave()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		c.own.HandOver(ctx)
		if err := c.stripe.HandOver(ctx); err != nil {
			c.log.Warn("hand over", "error", err)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.stop(ctx)
}

// Kill stops the server without finishing anything: connections break at once,
// answers are lost.
func (c *Cluster) Kill() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.stop(ctx)
}

func (c *Cluster) stop(ctx context.Context) {
	c.t.Helper()
	if !c.running {
		return
	}
	c.running = false
	_ = c.srv.Shutdown(ctx) // its error says that answers were cut off
	<-c.served
	c.own.Close()
	if err := c.stripe.Close(); err != nil {
		c.t.Errorf("testcluster: close the stripe: %v", err)
		return // something may still be applied
	}
	c.store.Close()
}

// Restart stops the server in order and starts it again, with changes to what
// it was started with.
func (c *Cluster) Restart(changes ...Option) {
	c.t.Helper()
	c.Stop()
	for _, o := range changes {
		o(&c.o)
	}
	c.Start()
}

// DistrustLicense takes the licence's key out of the trusted ones, from the
// next Start on.
func (c *Cluster) DistrustLicense() {
	c.t.Helper()
	c.check(os.Remove(filepath.Join(c.TrustedKeys(), keyID+".pem")))
	var err error
	c.keys, err = license.ReadKeys(os.DirFS(c.TrustedKeys()))
	c.check(err)
}

func (c *Cluster) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("testcluster: %v", err)
	}
}

// So much of a server's log a failing test shows; debug lines, most of them Raft's,
// have a bound of their own. TEST_SERVER_LOG=all shows everything, as it comes.
const (
	tailLines = 30
	tailDebug = 10
)

// testLog keeps the end of a server's log, and shows it when the test ends and has
// failed: what the test itself says stays easy to find.
type testLog struct {
	t    testing.TB
	name string

	mu     sync.Mutex // guards what follows, and keeps the test from ending within a Log
	lines  []string
	gone   int // lines that are not kept any more
	closed bool
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch line := string(bytes.TrimRight(p, "\n")); {
	case l.closed:
	case os.Getenv("TEST_SERVER_LOG") == "all":
		l.t.Logf("%s: %s", l.name, line)
	default:
		l.lines = append(l.lines, line)
		kind, most := isDebug(line), tailLines
		if kind {
			most = tailDebug
		}
		oldest, n := 0, 0
		for i := len(l.lines) - 1; i >= 0; i-- {
			if isDebug(l.lines[i]) == kind {
				oldest, n = i, n+1
			}
		}
		if n > most {
			l.lines = slices.Delete(l.lines, oldest, oldest+1)
			l.gone++
		}
	}
	return len(p), nil
}

func isDebug(line string) bool { return strings.Contains(line, " level=DEBUG ") }

// close shows the log of a test that has failed; later lines go nowhere.
func (l *testLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.t.Failed() && len(l.lines) > 0 {
		l.t.Logf("the end of the log of %s, without %d earlier lines (TEST_SERVER_LOG=all shows all):\n%s", l.name, l.gone, strings.Join(l.lines, "\n"))
	}
}
