package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// exitCode is the exit status of the process.
type exitCode int

const (
	exitSuccess    exitCode = 0
	exitUnhealthy  exitCode = 1
	exitFailure    exitCode = 2
	exitEULA       exitCode = 10
	exitBadRequest exitCode = 40
)

// exitCodes is the table that --help shows.
var exitCodes = []struct {
	code exitCode
	name string
	when string
}{
	{exitSuccess, "SUCCESS", "stopped in order, by a signal or by cluster-tool stop"},
	{exitUnhealthy, "UNHEALTHY", "health: the server does not answer; check: the data root has faults"},
	{exitFailure, "FAILURE", "the server cannot start or go on: data root, port or anything unexpected"},
	{exitEULA, "EULA_NOT_ACCEPTED", "in a container without ACCEPT_EULA=Y"},
	{exitBadRequest, "BAD_REQUEST", "flags, environment or configuration file are wrong"},
}

// failure is an error with the exit status that it ends the process with, and
// what to do about it.
type failure struct {
	code exitCode
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// report writes err as users read it and returns the exit status. An error
// without one comes from cobra: a flag or command that does not exist.
func report(w io.Writer, err error) int {
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{code: exitBadRequest, err: err, hint: "terracotta-server --help shows commands and flags"}
	}
	for _, line := range strings.Split(f.Error(), "\n") { // config joins all faults, one a line
		fmt.Fprintf(w, "Error (%s): %s\n", f.code.name(), line)
	}
	if f.hint != "" {
		fmt.Fprintf(w, "Hint: %s\n", f.hint)
	}
	return int(f.code)
}

func (c exitCode) name() string {
	for _, row := range exitCodes {
		if row.code == c {
			return row.name
		}
	}
	return "INTERNAL_ERROR"
}

func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, row := range exitCodes {
		fmt.Fprintf(&b, "  %-3d %-18s %s\n", row.code, row.name, row.when)
	}
	return b.String()
}
