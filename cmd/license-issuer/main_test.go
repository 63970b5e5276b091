package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"license-issuer": func() {
			clock := time.Now
			if day := os.Getenv("TODAY"); day != "" {
				clock = func() time.Time {
					at, err := time.Parse(time.DateOnly, day)
					if err != nil {
						panic(err)
					}
					return at.Add(13 * time.Hour)
				}
			}
			os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr, clock))
		},
	})
}

func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mode": func(ts *testscript.TestScript, neg bool, args []string) { // mode PATH OCTAL
				info, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				if got := info.Mode().Perm().String(); (got == args[1]) == neg {
					ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
				}
			},
		},
	})
}
