//go:build e2e

package e2e

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

// docs/operations.md installs three servers, restarts and replaces each, and
// replaces a lost disk; a shopper shops all the time, and no request fails.
func TestTheOperationsPagesThreeServers(t *testing.T) {
	needImages(t)
	servers := []string{"terracotta-1", "terracotta-2", "terracotta-3"}
	mustBeFree(t, []string{"9541", "9542", "9543"}, servers)
	t.Cleanup(func() {
		for _, n := range []string{"1", "2", "3"} {
			for _, volume := range []string{"terracotta-" + n, "backups-" + n} {
				if err := engine.VolumeRemove(context.Background(), volume, true); err != nil {
					t.Error(err)
				}
			}
		}
		if err := engine.NetworkRemove(context.Background(), "stripe"); err != nil {
			t.Error(err)
		}
	})
	sweep(t)
	_ = engine.NetworkRemove(t.Context(), "stripe") // of a run that was broken off
	var blocks []string
	for _, block := range commands(t, "docs/operations.md") {
		if strings.Contains(block, "docker network create stripe") || len(blocks) > 0 && strings.Contains(block, "ready") {
			blocks = append(blocks, block)
		}
	}
	if len(blocks) != 4 {
		t.Fatalf("the page has %d blocks about three servers, want 4: %q", len(blocks), blocks)
	}
	functions := regexp.MustCompile(`(?ms)^\w+\(\) \{\n.*?^\}\n`).FindAllString(blocks[0], -1)
	if len(functions) != 2 {
		t.Fatalf("the page defines %q", functions)
	}
	run := func(block string) {
		t.Helper()
		begin := time.Now()
		if out, code := command(t, root, nil, "timeout", "600", "sh", "-ec", strings.Join(functions, "")+block); code != 0 {
			t.Fatalf("%s\nexit status %d:\n%s", block, code, out)
		}
		line, _, _ := strings.Cut(block, "\n")
		t.Logf("%s ...: %v", line, time.Since(begin).Round(100*time.Millisecond))
	}
	inspect := func(name string) container.InspectResponse {
		t.Helper()
		info, err := engine.ContainerInspect(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	address := func(name string) string { return inspect(name).NetworkSettings.Networks["stripe"].IPAddress }
	tool := func(args ...string) string {
		t.Helper()
		out, code := docker(t, root, append([]string{"run", "--rm", "--network", "stripe", "-e", "ACCEPT_EULA=Y", toolImage}, args...)...)
		if code != 0 {
			t.Fatalf("%v: exit status %d:\n%s", args, code, out)
		}
		return out
	}
	identity := func(name string) string {
		t.Helper()
		m := regexp.MustCompile(`\(this server\), id (\S+)`).FindStringSubmatch(tool("dump", "-o", "text", "-s", name))
		if m == nil {
			t.Fatalf("%s does not tell its identity", name)
		}
		return m[1]
	}
	cart := func(name string) string {
		t.Helper()
		out, code := docker(t, root, "run", "-d", "--network", "stripe", "--hostname", name, "-e", "ACCEPT_EULA=Y", "-p", "127.0.0.1::8080",
			"-e", "JAVA_OPTS="+strings.Replace(cartOptions, "//terracotta:9410/", "//terracotta-1,terracotta-2,terracotta-3/", 1), cartImage)
		if code != 0 {
			t.Fatalf("docker run: %s", out)
		}
		bound := inspect(strings.TrimSpace(out)).NetworkSettings.Ports["8080/tcp"][0]
		shop := "127.0.0.1:" + bound.HostPort
		eventually(t, 2*time.Minute, status("http://"+shop+"/ready", 200))
		return shop
	}

	install, restart, replace, lost := blocks[0], blocks[1], blocks[2], blocks[3]
	for _, f := range functions {
		install = strings.Replace(install, f, "", 1)
	}
	run(install)
	s := goShopping(t, cart("cart-1"), cart("cart-2"))
	s.goesOn()
	run(restart)
	t.Logf("the longest request took %v", s.goesOn())

	// What takes an address is not on the page: it makes each new container have another one.
	before := map[string]string{}
	for _, name := range servers {
		before[name] = address(name)
	}
	id := identity("terracotta-3")
	run(strings.Replace(replace, "  server $n\n", "  docker run -d --network stripe -e ACCEPT_EULA=Y "+serverImage+"\n  server $n\n", 1))
	t.Logf("the longest request took %v", s.goesOn())
	for _, name := range servers {
		if address(name) == before[name] {
			t.Errorf("%s has the address %s as before: nothing is shown", name, before[name])
		}
	}
	if now := identity("terracotta-3"); now != id {
		t.Errorf("on its volume, terracotta-3 was %s and is %s", id, now)
	}

	run(lost)
	t.Logf("the longest request took %v", s.goesOn())
	if now := identity("terracotta-3"); now == id {
		t.Errorf("on an empty volume, terracotta-3 is still %s", id)
	}
	if out := tool("status", "-n", "MyCluster", "-s", "terracotta-3"); strings.Count(out, " PASSIVE ") != 2 || strings.Count(out, " ACTIVE ") != 1 {
		t.Errorf("one is not active, or two are not passive:\n%s", out)
	}
	s.end()
}
