//go:build unix && !linux

package main

import "syscall"

// child is how a process starts that Ctrl-C must not reach: it goes to the whole
// group of the terminal, and we stop in order.
func child() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
