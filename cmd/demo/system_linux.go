package main

import "syscall"

// child is how a process starts that Ctrl-C must not reach (it goes to the whole
// group of the terminal, and we stop in order), and that ends when we are killed.
func child() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
