package server

import (
	"log/slog"
	"sync"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Limits bound what peers can cost this server. Zero fields mean the defaults,
// which are those of DefaultLimits.
type Limits struct {
	MaxConnections int           // open at once; one more gets BUSY
	MaxValue       int           // bytes of one argument after AUTH
	MaxCommand     int           // bytes of one command after AUTH
	MaxInput       int           // bytes of large commands that are being read, of all connections together
	MaxArgs        int           // arguments of one command after AUTH
	Window         int           // commands of one connection that wait for the stripe
	MaxOutput      int           // bytes of answers a connection may be behind before it is no longer read
	MaxBehind      int           // bytes of answers that all connections together may be behind before those more than 64 KiB behind are cut off
	Handshake      time.Duration // for the first command, and for AUTH where a password is set
	Command        time.Duration // from the first byte of a command to its last
	Idle           time.Duration // between commands, on a connection that has not joined
	Write          time.Duration // for a peer to take the next 256 KiB: one that never reads is cut off
	AuthDelay      time.Duration // before the answer to a wrong password
	Drain          time.Duration // for commands that still run when a connection ends
}

// DefaultLimits returns the limits of a server that says nothing about them.
func DefaultLimits() Limits {
	return Limits{
		MaxConnections: 10_000,
		MaxValue:       wire.DefaultMaxValue,
		MaxInput:       256 << 20,
		MaxArgs:        64 << 10,
		Window:         1024,
		MaxOutput:      1 << 20,
		MaxBehind:      256 << 20,
		Handshake:      5 * time.Second,
		Command:        30 * time.Second,
		Idle:           10 * time.Minute,
		Write:          15 * time.Second,
		AuthDelay:      200 * time.Millisecond,
		Drain:          time.Second,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	or(&l.MaxConnections, d.MaxConnections)
	or(&l.MaxValue, d.MaxValue)
	or(&l.MaxCommand, 2*l.MaxValue)
	or(&l.MaxInput, max(d.MaxInput, 2*l.MaxCommand))
	or(&l.MaxArgs, d.MaxArgs)
	or(&l.Window, d.Window)
	or(&l.MaxOutput, d.MaxOutput)
	or(&l.MaxBehind, d.MaxBehind)
	or(&l.Handshake, d.Handshake)
	or(&l.Command, d.Command)
	or(&l.Idle, d.Idle)
	or(&l.Write, d.Write)
	or(&l.AuthDelay, d.AuthDelay)
	or(&l.Drain, d.Drain)
	return l
}

func or[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// strangers are the limits of input before AUTH: enough for HELLO with a
// password, and nothing to fill a memory with.
var strangers = resp.Limits{MaxArgs: 16, MaxBulk: 1 << 10, MaxCommand: 4 << 10}

// input are the limits of input after AUTH.
func (l Limits) input() resp.Limits {
	return resp.Limits{MaxArgs: l.MaxArgs, MaxBulk: l.MaxValue, MaxCommand: l.MaxCommand}
}

// maxAuthFailures cuts a connection off that guesses.
const maxAuthFailures = 3

// shortPassword is the length from which a secret is not guessed: somebody with
// many connections makes thousands of guesses a second.
const shortPassword = 16

func (s *Server) weakPassword() []string {
	if n := len(s.cfg.Password); n == 0 || n >= shortPassword {
		return nil
	}
	return []string{"the password is short and can be guessed: use at least 16 random characters, e.g. of openssl rand -hex 16"}
}

// rateLimited writes log lines that strangers can cause: at most one a second,
// and then says how many it kept back.
type rateLimited struct {
	log *slog.Logger

	mu   sync.Mutex // guards last, kept
	last time.Time
	kept int
}

func (r *rateLimited) warn(msg string, args ...any) {
	r.mu.Lock()
	now := time.Now()
	if now.Sub(r.last) < time.Second {
		r.kept++
		r.mu.Unlock()
		return
	}
	kept := r.kept
	r.last, r.kept = now, 0
	r.mu.Unlock()
	if kept > 0 {
		args = append(args, "lines-left-out", kept)
	}
	r.log.Warn(msg, args...)
}
