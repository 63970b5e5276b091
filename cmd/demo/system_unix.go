//go:build unix

package main

import (
	"os"
	"syscall"
)

// alone is how a process starts that outlives this one and its terminal.
func alone() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// terminate asks a process to end in order.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
