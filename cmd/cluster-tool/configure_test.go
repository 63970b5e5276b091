package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

func TestConfigureAPairOneServerOfWhichIsDown(t *testing.T) {
	l, env, _ := licensed(t)
	a := newFake(t, "tc1")
	down := serverAt("tc2", nowhere(t))
	a.status.Running = running(a.status.Server, down)
	r := runTool(t, env, "configure", "-n", "A", "-l", l, "-s", a.addr, "-s", serverHost(down))
	r.want(t, codeSuccess, "Warning: going on without "+serverHost(down)+": connection refused", "Configuration successful")
	if len(a.asked) != 1 || !reflect.DeepEqual(a.asked[0].Cluster.Stripes, []wire.StripeConfig{a.status.Running}) || a.asked[0].Cluster.Name != "A" {
		t.Errorf("asked %+v", a.asked)
	}
}

// Two servers of one stripe are one stripe, not two.
func TestConfigureBothServersOfAPair(t *testing.T) {
	l, env, _ := licensed(t)
	a, b := pair(t)
	runTool(t, env, "configure", "-n", "A", "-l", l, "-s", a.addr, "-s", b.addr).want(t, codeSuccess, "License installation successful")
	if len(a.asked) != 1 || len(b.asked) != 0 {
		t.Errorf("asked %d and %d times", len(a.asked), len(b.asked))
	}
}

func TestConfigureMismatchesWithinAStripe(t *testing.T) {
	l, env, _ := licensed(t)
	for want, change := range map[string]func(*wire.StripeConfig){
		"Mismatched off-heap resources": func(s *wire.StripeConfig) {
			s.OffheapResources = []wire.OffheapResource{{Name: "offheap-1", Size: 1 << 30}}
		},
		"Mismatched data directories":       func(s *wire.StripeConfig) { s.DataDirectories = nil },
		"Mismatched failover priority":      func(s *wire.StripeConfig) { s.FailoverPriority = "consistency" },
		"Mismatched security configuration": func(s *wire.StripeConfig) { s.Security = true },
	} {
		a, b := pair(t)
		change(&b.status.Running)
		r := runTool(t, env, "configure", "-n", "A", "-l", l, "-s", a.addr, "-s", b.addr)
		r.want(t, codeBadRequest, "Error (BAD_REQUEST): "+want, a.addr, b.addr, "Hint: ")
	}
}

func TestConfigureMismatchesAcrossStripes(t *testing.T) {
	l, env, _ := licensed(t)
	a, b := newFake(t, "tc1"), newFake(t, "tc2")
	b.status.Running.OffheapResources = []wire.OffheapResource{{Name: "offheap-2", Size: 1 << 29}}
	runTool(t, env, "configure", "-n", "A", "-l", l, "-s", a.addr, "-s", b.addr).
		want(t, codeBadRequest, `Mismatched off-heap resources: stripe 1 has "offheap-1" of 512M; stripe 2 has "offheap-2" of 512M`)
}

// The licence is asked first: its MultiStripe is no. Where it is yes, this version says no.
func TestConfigureSeveralStripes(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	env := []string{"TC_TRUSTED_KEYS=" + c.TrustedKeys()}
	a, b := newFake(t, "tc1"), newFake(t, "tc2")
	runTool(t, env, "configure", "-n", "A", "-l", c.LicenseFile(), "-s", a.addr, "-s", b.addr).want(t, codeBadRequest, "MultiStripe")

	file := filepath.Join(t.TempDir(), "license.xml")
	doc := c.IssueLicense(func(l *license.License) { l.Flags[license.FlagMultiStripe] = true })
	if err := os.WriteFile(file, doc, 0o644); err != nil {
		t.Fatal(err)
	}
	runTool(t, env, "configure", "-n", "A", "-l", file, "-s", a.addr, "-s", b.addr).want(t, codeNotImplemented, "2 stripes")
	if len(a.asked)+len(b.asked) > 0 {
		t.Error("a server was asked")
	}
}

func TestConfigureTheSameServerUnderTwoNames(t *testing.T) {
	l, env, _ := licensed(t)
	a := newFake(t, "tc1")
	other := strings.Replace(a.addr, "127.0.0.1", "localhost", 1)
	runTool(t, env, "configure", "-n", "A", "-l", l, "-s", a.addr, "-s", other).
		want(t, codeBadRequest, "Duplicate stripe when creating cluster", "same server")
}

func TestConfigureAlreadyConfigured(t *testing.T) {
	l, env, sum := licensed(t)
	a, b := pair(t)
	join("A", sum, a, b)
	same := func(name string) ran {
		return runTool(t, env, "configure", "-n", name, "-l", l, "-s", a.addr, "-s", b.addr)
	}
	same("A").want(t, codeSuccess, "Identical to previously installed license", "is configured already")
	same("B").want(t, codeConfigured, `Error (ALREADY_CONFIGURED): server `+a.addr+` belongs to the cluster "A" already`, "reconfigure")
	join("A", "another", a, b)
	same("A").want(t, codeConfigured, "another licence (serial number S, expires Unlimited)", "reconfigure")
	join("A", sum, a, b)
	a.status.Cluster.Stripes = append(a.status.Cluster.Stripes, wire.StripeConfig{})
	same("A").want(t, codeConfigured, "with 2 stripes and not 1")
	if len(a.asked)+len(b.asked) > 0 {
		t.Error("a server was asked")
	}
}

// Between the look and the deed another run may have configured the cluster.
func TestConfigureOvertakenByAnotherRun(t *testing.T) {
	l, env, _ := licensed(t)
	a := newFake(t, "tc1")
	a.configure = wire.ConfigureAnswer{License: "identical", Reason: "same"}
	runTool(t, env, "configure", "-n", "A", "-l", l, "-s", a.addr).want(t, codeSuccess, "Identical", "Command completed successfully.")
}

func TestConfigureServerRefuses(t *testing.T) {
	for refusal, c := range map[string]code{
		"LICENSE the licence is not this one's": codeBadRequest, "CONFIGURED by another run": codeConfigured,
		"CONFLICT off-heap": codeConflict, "ERR no such command": codeInternal,
	} {
		a := newFake(t, "tc1")
		a.refuse = refusal
		tl := &tool{timeoutMillis: 60_000}
		_, err := tl.sendConfigure(t.Context(), &stripe{answers: []answer{{host: a.addr}}}, "", &wire.ConfigureRequest{})
		e := asToolError(err)
		if _, text, _ := strings.Cut(refusal, " "); e.Code != c || e.Message != "server "+a.addr+": "+text {
			t.Errorf("%s: %s: %s", refusal, e.Code.Name, e.Message)
		}
	}
}

// The connection ends while the server configures: nobody knows, and repeating is safe.
func TestConfigureServerVanishes(t *testing.T) {
	tl := &tool{timeoutMillis: 60_000}
	_, err := tl.sendConfigure(t.Context(), &stripe{answers: []answer{{host: nowhere(t)}}}, "", &wire.ConfigureRequest{})
	if e := asToolError(err); e.Code != codeBadGateway || !strings.Contains(e.Message, "connection refused") || !strings.Contains(e.Hint, "repeated") {
		t.Errorf("%s: %s (%s)", e.Code.Name, e.Message, e.Hint)
	}
}

func tcConfig(t *testing.T, offheap, failover string, servers ...wire.ServerConfig) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `<tc-config xmlns="http://www.terracotta.org/config" xmlns:ohr="http://www.terracotta.org/config/offheap-resource"
  xmlns:data="http://www.terracottatech.com/config/data-roots">
 <plugins>
  <config><ohr:offheap-resources><ohr:resource name="offheap-1" unit="MB">%s</ohr:resource></ohr:offheap-resources></config>
  <config><data:data-directories><data:directory name="PLATFORM" use-for-platform="true">%%H/data</data:directory></data:data-directories></config>
 </plugins>
 <servers>
`, offheap)
	for _, s := range servers {
		fmt.Fprintf(&b, "  <server host=%q name=%q><tsa-port>%d</tsa-port><tsa-group-port>%d</tsa-group-port></server>\n", s.Host, s.Name, s.Port, s.GroupPort)
	}
	fmt.Fprintf(&b, " </servers>\n <failover-priority><%s/></failover-priority>\n</tc-config>\n", failover)
	name := filepath.Join(t.TempDir(), "tc-config.xml")
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestConfigureByFile(t *testing.T) {
	l, env, _ := licensed(t)
	a, b := pair(t)
	file := tcConfig(t, "512", "availability", a.status.Server, b.status.Server)
	runTool(t, env, "configure", "-n", "A", "-l", l, file).want(t, codeSuccess, "Configuration successful")
	if len(a.asked) != 1 || !reflect.DeepEqual(a.asked[0].Cluster.Stripes[0], a.status.Running) {
		t.Errorf("asked %+v", a.asked)
	}
	runTool(t, env, "configure", "-n", "A", "-l", l, tcConfig(t, "1024", "availability", a.status.Server, b.status.Server)).
		want(t, codeBadRequest, "Mismatched off-heap resources: tc-config ", `"offheap-1" of 1G`, `"offheap-1" of 512M`)
	runTool(t, env, "configure", "-n", "A", "-l", l, tcConfig(t, "512", "consistency", a.status.Server, b.status.Server)).
		want(t, codeBadRequest, "Mismatched failover priority", "availability", "consistency")
	runTool(t, env, "configure", "-n", "A", "-l", l, tcConfig(t, "512", "availability", a.status.Server)).
		want(t, codeBadRequest, "Mismatched servers")
	runTool(t, env, "configure", "-n", "A", "-l", l, file, file).
		want(t, codeBadRequest, "Duplicate stripe when creating cluster")
}

func TestConfigureByFileOfOneServerDown(t *testing.T) {
	l, env, _ := licensed(t)
	a := newFake(t, "tc1")
	down := serverAt("tc2", nowhere(t))
	a.status.Running = running(a.status.Server, down)
	runTool(t, env, "configure", "-n", "A", "-l", l, tcConfig(t, "512", "availability", a.status.Server, down)).
		want(t, codeSuccess, "Warning: going on without", "Configuration successful")
}

func TestConfigureByBadFile(t *testing.T) {
	l, env, _ := licensed(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.xml")
	if err := os.WriteFile(bad, []byte("<tc-config>\n<oops>"), 0o644); err != nil {
		t.Fatal(err)
	}
	runTool(t, env, "configure", "-n", "A", "-l", l, bad).want(t, codeBadRequest, "bad.xml")
	runTool(t, env, "configure", "-n", "A", "-l", l, dir).want(t, codeBadRequest, "not a regular file")
	runTool(t, env, "configure", "-n", "A", "-l", l, filepath.Join(dir, "none.xml")).want(t, codeNotFound, "none.xml")
	here := serverAt("tc1", "127.0.0.1:9410")
	here.Host = "%h"
	runTool(t, env, "configure", "-n", "A", "-l", l, tcConfig(t, "512", "availability", here)).
		want(t, codeBadRequest, `host "%h"`, "depends on where the file is read")
}
