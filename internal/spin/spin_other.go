//go:build !(linux && (amd64 || arm64))

package spin

import (
	"net"
	"time"
)

// Conn is never made here.
type Conn struct{}

// New returns nil: here nobody looks.
func New(net.Conn) *Conn { return nil }

// Look is never called, as all that follows.
func (*Conn) Look([]byte) (int, time.Duration) { return 0, 0 }

// Peek is for Linux.
func (*Conn) Peek([]byte) (int, time.Duration) { return 0, 0 }

// Drop is for Linux.
func (*Conn) Drop([]byte) error { return nil }

// Rest is for Linux.
func (*Conn) Rest() {}

// Read is for Linux.
func (*Conn) Read([]byte, Turn) (int, error) { return 0, nil }
