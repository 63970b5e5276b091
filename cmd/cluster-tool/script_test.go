package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/license"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cluster-tool": main})
}

// scripted is what a script has started.
type scripted struct {
	t       testing.TB
	servers map[string]*testcluster.Cluster
}

// The scripts run the tool as users do, against real servers in this process:
//
//	server NAME [unconfigured] [password=P] [offheap=2GB]   starts one; $NAME is its host:port
//	stopped NAME                              waits until it was asked to stop, and stops it
//	issue NAME FILE [expired|small|other]     makes a licence that NAME's keys verify
//	https NAME                                serves the script's folder; $NAME is the URL, LICENSE_CA is set
//	noaddress NAME                            $NAME is a host:port where nobody listens
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values["scripted"] = &scripted{env.T().(testing.TB), map[string]*testcluster.Cluster{}}
			env.Setenv("LICENSE_FILE", filepath.Join(env.WorkDir, "licenses", "license.xml"))
			env.Setenv("HOSTNAME", "script")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each process of a race build ends a second late
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": func(ts *testscript.TestScript, _ bool, args []string) { of(ts).start(ts, args) },
			"stopped": func(ts *testscript.TestScript, _ bool, args []string) {
				c := of(ts).server(ts, args[0])
				select {
				case <-c.StopAsked():
				case <-time.After(time.Minute):
					ts.Fatalf("%s was not asked to stop", args[0])
				}
				c.Stop()
			},
			"issue": func(ts *testscript.TestScript, _ bool, args []string) { of(ts).issue(ts, args) },
			"https": func(ts *testscript.TestScript, _ bool, args []string) {
				srv := httptest.NewUnstartedServer(http.FileServer(http.Dir(ts.Getenv("WORK"))))
				srv.Config.ErrorLog = quiet(nil)
				srv.StartTLS()
				ts.Defer(srv.Close)
				ts.Setenv(args[0], srv.URL)
				ts.Setenv("LICENSE_CA", certificateFile(of(ts).t, srv.Certificate().Raw))
			},
			"noaddress": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], nowhere(of(ts).t))
			},
		},
	})
}

func of(ts *testscript.TestScript) *scripted { return ts.Value("scripted").(*scripted) }

func (s *scripted) server(ts *testscript.TestScript, name string) *testcluster.Cluster {
	c := s.servers[name]
	if c == nil {
		ts.Fatalf("there is no server %s", name)
	}
	return c
}

func (s *scripted) start(ts *testscript.TestScript, args []string) {
	var opts []testcluster.Option
	for _, a := range args[1:] {
		password, is := strings.CutPrefix(a, "password=")
		switch {
		case a == "unconfigured":
			opts = append(opts, testcluster.Unconfigured())
		case is:
			opts = append(opts, testcluster.Password(password))
		case a == "offheap=2GB":
			opts = append(opts, testcluster.Offheap(1<<30)) // each of two
		default:
			ts.Fatalf("server: %q", a)
		}
	}
	c := testcluster.Start(s.t, opts...)
	s.servers[args[0]] = c
	ts.Setenv(args[0], c.Addr())
	ts.Setenv("TC_TRUSTED_KEYS", c.TrustedKeys())
	ts.Check(os.WriteFile(ts.MkAbs("license.xml"), c.License(), 0o644))
}

func (s *scripted) issue(ts *testscript.TestScript, args []string) {
	kind := "other"
	if len(args) > 2 {
		kind = args[2]
	}
	doc := s.server(ts, args[0]).IssueLicense(func(l *license.License) {
		switch kind {
		case "expired":
			l.Expiration = time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC)
		case "small":
			l.OffheapLimit = 1 << 30
		case "other":
			l.SerialNumber = "TEST-2"
		default:
			ts.Fatalf("issue: %q", kind)
		}
	})
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), doc, 0o644))
}

// An interrupted wait ends at once and says so.
func TestInterruptedWhileWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := testcluster.Start(t, testcluster.Unconfigured())
	addr := c.Addr()
	c.Stop()
	var out, errs testcluster.Output
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"configure", "-n", "A", "-l", c.LicenseFile(), "-s", addr},
			[]string{"TC_TRUSTED_KEYS=" + c.TrustedKeys()}, strings.NewReader(""), &out, &errs)
	}()
	until(t, func() bool { return strings.Contains(errs.String(), "waiting for "+addr+": connection refused") })
	cancel()
	if got := <-done; got != codeFailure.Number || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit %d: %s", got, errs.String())
	}
}

// Configure started before the server is what a one-shot job does.
func TestConfigureWaitsForTheServer(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	c.Stop()
	var out, errs testcluster.Output
	done := make(chan int)
	go func() {
		done <- run(t.Context(), []string{"configure", "-n", "A", "-l", c.LicenseFile(), "-s", c.Addr()},
			[]string{"TC_TRUSTED_KEYS=" + c.TrustedKeys()}, strings.NewReader(""), &out, &errs)
	}()
	until(t, func() bool { return strings.Contains(errs.String(), "connection refused") })
	c.Start()
	if got := <-done; got != 0 || !strings.Contains(out.String(), "Configuration successful\nCommand completed successfully.\n") {
		t.Errorf("exit %d: %s%s", got, out.String(), errs.String())
	}
}

// Interrupted while it waits for a server to be gone, stop says so.
func TestInterruptedWhileStopping(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := testcluster.Start(t)
	var out, errs testcluster.Output
	done := make(chan int)
	go func() { done <- run(ctx, []string{"stop", c.Addr()}, nil, strings.NewReader(""), &out, &errs) }()
	until(t, func() bool { return strings.Contains(errs.String(), "waiting for "+c.Addr()+" to stop") })
	cancel()
	if got := <-done; got != codeFailure.Number || !strings.Contains(errs.String(), "Error (FAILURE): interrupted") {
		t.Errorf("exit %d: %s", got, errs.String())
	}
}
