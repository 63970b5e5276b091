//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
)

// A backup of three servers is written by way of a passive, and shutdown ends all of
// them. What they survive is in compose_triple_test.go and operations_triple_test.go.
func TestBackupAndShutdownOfThree(t *testing.T) {
	needImages(t)
	nw := newNetwork(t)
	config, err := os.ReadFile(filepath.Join(root, "docker/triple.xml"))
	if err != nil {
		t.Fatal(err)
	}
	tool := func(words ...string) string {
		t.Helper()
		code, out := oneShot(t, toolImage, accept, network.WithNetwork(nil, nw), file("/licenses/license.xml", mint(t, nil)),
			testcontainers.WithCmd(append([]string{"-t", "30000"}, words...)...))
		if code != 0 {
			t.Fatalf("cluster-tool %s ended with %d:\n%s", strings.Join(words, " "), code, out)
		}
		return out
	}
	names := []string{"terracotta-1", "terracotta-2", "terracotta-3"}
	servers := map[string]*testcontainers.DockerContainer{}
	for _, name := range names {
		servers[name] = start(t, serverImage, accept, healthy, hostname(name), network.WithNetwork([]string{name}, nw),
			file("/configs/tc-config.xml", config), env("TC_CONFIG", "/configs/tc-config.xml"))
	}
	mustContain(t, tool("configure", "-n", "MyCluster", "-s", names[0], "-s", names[1], "-s", names[2]),
		"Configuration successful", "Command completed successfully.")
	mustContain(t, tool("backup", "-n", "MyCluster", "-s", names[1]),
		"PHASE (1/3): PREPARE_FOR_BACKUP", "PHASE (3/3): START_BACKUP", ".tcbackup, ", "Command completed successfully.")
	out := tool("shutdown", "-n", "MyCluster", "-s", names[1])
	for _, name := range names {
		mustContain(t, out, name+":9410: Shutdown successful")
		state, err := servers[name].State(t.Context())
		if err != nil || state.Running || state.ExitCode != 0 {
			t.Errorf("%s: %+v, %v", name, state, err)
		}
	}
}
