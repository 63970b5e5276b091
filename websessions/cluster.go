package websessions

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// backend is where sessions live. A refusal comes back as *wire.Error.
type backend interface {
	load(ctx context.Context, l *wire.Load) (wire.Session, error)
	create(ctx context.Context, w *wire.Create) (wire.Outcome, error)
	commit(ctx context.Context, w *wire.Commit) (wire.Outcome, error)
	invalidate(ctx context.Context, w *wire.Invalidate) (wire.Outcome, error)
	renew(ctx context.Context, w *wire.Renew) (wire.Outcome, error)
	userSessions(ctx context.Context, user string) ([]wire.UserSession, error)
	ready(ctx context.Context) error // nil: sessions can be read now; else what is missing
	close() error
}

// How long an attempt to open the dataset may take, and the pause after one that
// failed: both start at the first value and double up to the second, so that the
// reason is soon known to who waits, and a slow network has its time. quietly is
// how long nothing is logged: clusters and applications often start together.
const (
	firstAttempt, lastAttempt = 100 * time.Millisecond, 2 * time.Second
	firstPause, lastPause     = 50 * time.Millisecond, time.Second
	quietly                   = time.Second
)

// unconfiguredPatience is how long a request waits for a cluster of which a
// server says that nobody has configured it: long enough for a start of
// everything together, short enough for whoever looks at an empty page.
const unconfiguredPatience = 2 * time.Second

const forever = time.Duration(math.MaxInt64)

// cluster is the backend of New: it opens the dataset in the background, so
// that an application may start before its cluster.
type cluster struct {
	c            *client.Client
	open         wire.Open
	unconfigured time.Duration // patience of requests with an unconfigured cluster

	stop   context.CancelFunc // ends opening
	ended  chan struct{}      // closed when opening has ended
	opened chan struct{}      // closed when the dataset is open

	mu      sync.Mutex
	lastErr error         // why the last attempt failed
	refused bool          // lastErr is a refusal that waiting does not cure
	tried   chan struct{} // closed after the attempt that is under way
}

// parseURI reads the URI of a cluster and a dataset in it.
func parseURI(text string) (client.URI, error) {
	uri, err := client.ParseURI(text)
	if err == nil && uri.Dataset == "" {
		err = fmt.Errorf("terracotta URI %q names no dataset; example: terracotta://server:9410/sessions", text)
	}
	return uri, err
}

func newCluster(cfg Config) (*cluster, error) {
	uri, err := cfg.uri()
	if err != nil { // a URI Validate has looked at
		return nil, err
	}
	cfg.URI = uri.String()
	c, err := client.New(client.Options{Hosts: uri.Hosts, Password: cfg.Password, Node: true,
		Label: cfg.Label, Logger: cfg.Logger, StallTimeout: cfg.StallTimeout})
	if err != nil {
		return nil, fmt.Errorf("connect to %q: %w", cfg.URI, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &cluster{c: c, stop: cancel, unconfigured: unconfiguredPatience, ended: make(chan struct{}), opened: make(chan struct{}),
		tried: make(chan struct{}), open: wire.Open{
			Dataset: []byte(uri.Dataset), Offheap: []byte(cfg.OffheapResource), Disk: []byte(cfg.DiskResource),
			Concurrency: cfg.Concurrency, Tags: []byte(strings.Join(cfg.Tags, ",")), LockMode: []byte("none")}}
	if cfg.NonStopTimeout < 0 {
		b.unconfigured = forever
	}
	go b.openUntilDone(ctx, cfg)
	return b, nil
}

// openUntilDone runs until the dataset is open or the backend is closed.
func (b *cluster) openUntilDone(ctx context.Context, cfg Config) {
	defer close(b.ended)
	said, began := "", time.Now()
	for wait, pause := firstAttempt, firstPause; ; wait, pause = min(2*wait, lastAttempt), min(2*pause, lastPause) {
		attempt, cancel := context.WithTimeout(ctx, wait)
		err := b.c.Open(attempt, &b.open)
		cancel()
		if err == nil {
			cfg.Logger.Info("sessions are ready", "uri", cfg.URI)
			close(b.opened)
			return
		}
		if ctx.Err() != nil {
			return
		}
		refused := b.failed(err)
		if said != err.Error() && (refused || time.Since(began) > quietly) { // once per reason, not once per attempt
			said = err.Error()
			cfg.Logger.Warn("sessions are not ready yet; trying on", "uri", cfg.URI, "reason", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// failed notes why an attempt failed, wakes who waits for it, and reports
// whether waiting is of no use.
func (b *cluster) failed(err error) bool {
	var refusal *wire.Error
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lastErr = err
	b.refused = errors.As(err, &refusal) && !refusal.Word.Retryable()
	close(b.tried)
	b.tried = make(chan struct{})
	return b.refused
}

// await waits until the dataset is open, ctx ends, an attempt was refused for a
// reason that waiting does not cure, or the cluster turns out to be unconfigured
// and patience has passed.
func (b *cluster) await(ctx context.Context, patience time.Duration) error {
	select {
	case <-b.opened:
		return nil
	default:
	}
	enough := time.NewTimer(patience)
	defer enough.Stop()
	over := false
	for {
		b.mu.Lock()
		err, refused, tried := b.lastErr, b.refused, b.tried
		b.mu.Unlock()
		if refused || over && wire.Is(err, wire.ErrUnconfigured) {
			return err
		}
		select {
		case <-b.opened:
			return nil
		case <-tried:
		case <-enough.C:
			over = true
		case <-b.ended:
			select {
			case <-b.opened: // which ends the opening, too
				return nil
			default:
				return ErrClosed
			}
		case <-ctx.Done():
			if err == nil {
				err = errors.New("no server has answered yet")
			}
			if !errors.Is(err, ctx.Err()) {
				err = fmt.Errorf("%w (%w)", err, ctx.Err())
			}
			return err
		}
	}
}

// run runs op on the open dataset. Should a server lose it (one that keeps it in
// memory only and was restarted), the client opens it again.
func run[T any](ctx context.Context, b *cluster, op func() (T, error)) (T, error) {
	if err := b.await(ctx, b.unconfigured); err != nil {
		var zero T
		return zero, err
	}
	return op()
}

// outcome gives a refusal the same shape whichever way it came.
func outcome(o wire.Outcome, err error) (wire.Outcome, error) {
	if err == nil && o.Err != nil {
		err = o.Err
	}
	return o, err
}

func (b *cluster) load(ctx context.Context, l *wire.Load) (wire.Session, error) {
	l.Dataset = b.open.Dataset
	return run(ctx, b, func() (wire.Session, error) { return b.c.Load(ctx, l) })
}

func (b *cluster) create(ctx context.Context, w *wire.Create) (wire.Outcome, error) {
	w.Dataset = b.open.Dataset
	return run(ctx, b, func() (wire.Outcome, error) { return outcome(b.c.Create(ctx, w)) })
}

func (b *cluster) commit(ctx context.Context, w *wire.Commit) (wire.Outcome, error) {
	w.Dataset = b.open.Dataset
	return run(ctx, b, func() (wire.Outcome, error) { return outcome(b.c.Commit(ctx, w)) })
}

func (b *cluster) invalidate(ctx context.Context, w *wire.Invalidate) (wire.Outcome, error) {
	w.Dataset = b.open.Dataset
	return run(ctx, b, func() (wire.Outcome, error) { return outcome(b.c.Invalidate(ctx, w)) })
}

func (b *cluster) renew(ctx context.Context, w *wire.Renew) (wire.Outcome, error) {
	w.Dataset = b.open.Dataset
	return run(ctx, b, func() (wire.Outcome, error) { return outcome(b.c.Renew(ctx, w)) })
}

func (b *cluster) userSessions(ctx context.Context, user string) ([]wire.UserSession, error) {
	return run(ctx, b, func() ([]wire.UserSession, error) {
		return b.c.UserSessions(ctx, string(b.open.Dataset), user)
	})
}

// ready looks for a session that cannot exist: the answer has come the whole
// way that a request's session comes.
func (b *cluster) ready(ctx context.Context) error {
	if err := b.await(ctx, forever); err != nil {
		return err
	}
	_, err := b.load(ctx, &wire.Load{Key: []byte("ready?"), Mode: wire.LoadPeek})
	if ended(err) {
		return nil
	}
	return err
}

func (b *cluster) close() error {
	b.stop()
	<-b.ended
	return b.c.Close()
}
