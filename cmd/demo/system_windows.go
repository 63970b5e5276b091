package main

import (
	"os"
	"syscall"
)

// detachedProcess is DETACHED_PROCESS, which package syscall lacks.
const detachedProcess = 0x8

var ctrlEvent = syscall.NewLazyDLL("kernel32.dll").NewProc("GenerateConsoleCtrlEvent")

// child is how a process starts that Ctrl-C must not reach: it goes to the whole
// console, and we stop in order.
func child() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// alone is how a process starts that outlives this one and its console.
func alone() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP | detachedProcess}
}

// terminate sends Ctrl-Break to the process's group; Go programs take it as an interrupt.
func terminate(p *os.Process) error {
	if ok, _, err := ctrlEvent.Call(syscall.CTRL_BREAK_EVENT, uintptr(p.Pid)); ok == 0 {
		return err
	}
	return nil
}
