package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/terracotta-go/terracotta/config"
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

func TestProductVersionIsTheBuilds(t *testing.T) {
	if !strings.HasPrefix(config.Version, productVersion+".") {
		t.Errorf("licences are issued for %q, this is %q", productVersion, config.Version)
	}
}

func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each process of a race build ends a second late
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mode": func(ts *testscript.TestScript, neg bool, args []string) { // mode PATH OCTAL
				info, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				if got := info.Mode().Perm().String(); (got == args[1]) == neg {
					ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
				}
			},
			"holds": func(ts *testscript.TestScript, _ bool, args []string) { // holds FOLDER ALL ITS NAMES
				entries, err := os.ReadDir(ts.MkAbs(args[0]))
				ts.Check(err)
				var names []string
				for _, e := range entries {
					names = append(names, e.Name())
				}
				if !slices.Equal(names, args[1:]) {
					ts.Fatalf("%s holds %q, want %q", args[0], names, args[1:])
				}
			},
		},
	})
}
