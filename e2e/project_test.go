//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/terracotta-go/terracotta/internal/testcluster"
)

// composeProgram is one of those that read compose.yaml.
type composeProgram struct {
	command []string
	env     []string
}

// withEachCompose runs test with the old program, whose last release is 1.29,
// and with today's plugin, which `make e2e` builds. They differ in how they read
// a file. One that is missing skips, or fails with E2E_REQUIRED=1.
func withEachCompose(t *testing.T, test func(*testing.T, composeProgram)) {
	t.Helper()
	plugins, err := filepath.Glob(filepath.Join(root, "bin/compose-v*/cli-plugins/docker-compose"))
	if err != nil {
		t.Fatal(err)
	}
	plugin := "/none/compose-v2." // then one of the machine's own is good enough
	if len(plugins) > 0 {
		plugin = filepath.Dir(filepath.Dir(plugins[len(plugins)-1]))
	}
	for _, row := range []struct {
		name, version, hint string
		composeProgram
	}{
		{"docker-compose", "1.29.", "Debian 12 and Ubuntu 24.04 have it: apt install docker-compose", composeProgram{command: []string{"docker-compose"}}},
		{"plugin", strings.TrimPrefix(filepath.Base(plugin), "compose-v"), "make e2e builds it",
			composeProgram{[]string{"docker", "compose"}, []string{"DOCKER_CONFIG=" + plugin}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			version, err := row.release()
			if err != nil || !strings.HasPrefix(strings.TrimPrefix(version, "v"), row.version) {
				missing(t, fmt.Sprintf("%s: want version %s, found %q (%v); %s", row.name, row.version, version, err, row.hint))
			}
			test(t, row.composeProgram)
		})
	}
}

// missing skips a test whose program is not there, or fails it with E2E_REQUIRED=1.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("E2E_REQUIRED") == "1" {
		t.Fatal("E2E_REQUIRED=1, and ", why)
	}
	t.Skip(why)
}

// release asks the program for its version.
func (c composeProgram) release() (string, error) {
	words := slices.Concat(c.command, []string{"version", "--short"})
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// project is one run of compose.yaml beside whatever else runs here.
type project struct {
	name         string
	compose      composeProgram
	env          []string
	cart1, cart2 string // addresses
}

func newProject(t *testing.T, compose composeProgram) project {
	t.Helper()
	p := project{name: fmt.Sprintf("e2e%d", time.Now().UnixNano()), compose: compose}
	p.env = append(p.env, compose.env...)
	p.env = append(p.env, "COMPOSE="+strings.Join(compose.command, " "), "COMPOSE_PROJECT_NAME="+p.name)
	for _, v := range []string{"TERRACOTTA_PORT", "TERRACOTTA2_PORT", "TERRACOTTA3_PORT", "MANAGEMENT_PORT", "MANAGEMENT2_PORT", "MANAGEMENT3_PORT"} {
		p.env = append(p.env, v+"="+testcluster.FreePort(t))
	}
	one, two := testcluster.FreePort(t), testcluster.FreePort(t)
	p.env = append(p.env, "CART1_PORT="+one, "CART2_PORT="+two)
	p.cart1, p.cart2 = net.JoinHostPort("127.0.0.1", one), net.JoinHostPort("127.0.0.1", two)
	t.Cleanup(func() { p.clear(t) })
	return p
}

// run runs compose on the file in dir, the repository's if that is "".
func (p project) run(t *testing.T, dir string, args ...string) (string, int) {
	t.Helper()
	if dir == "" {
		dir = root
	}
	words := slices.Concat(p.compose.command, args)
	return command(t, dir, p.env, words[0], words[1:]...)
}

func (p project) mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, code := p.run(t, "", args...)
	if code != 0 {
		t.Fatalf("compose %v: exit status %d:\n%s", args, code, out)
	}
	return out
}

// mustBeUp waits until both carts serve.
func (p project) mustBeUp(t *testing.T) {
	t.Helper()
	for _, cart := range []string{p.cart1, p.cart2} {
		eventually(t, 2*time.Minute, status("http://"+cart+"/ready", 200))
	}
}

// container returns the one of a service.
func (p project) container(t *testing.T, service string) container.InspectResponse {
	t.Helper()
	filter := p.label()
	filter.Add("label", "com.docker.compose.service="+service)
	list, err := engine.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filter})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d containers of %s (%v)", len(list), service, err)
	}
	info, err := engine.ContainerInspect(t.Context(), list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func (p project) label() filters.Args {
	return filters.NewArgs(filters.Arg("label", "com.docker.compose.project="+p.name))
}

// left lists what is still there of the project.
func (p project) left(ctx context.Context) (list []string, err error) {
	containers, err := engine.ContainerList(ctx, container.ListOptions{All: true, Filters: p.label()})
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		list = append(list, "container "+c.ID)
	}
	volumes, err := engine.VolumeList(ctx, volume.ListOptions{Filters: p.label()})
	if err != nil {
		return nil, err
	}
	for _, v := range volumes.Volumes {
		list = append(list, "volume "+v.Name)
	}
	networks, err := engine.NetworkList(ctx, network.ListOptions{Filters: p.label()})
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		list = append(list, "network "+n.ID)
	}
	return list, nil
}

// mustHaveNamedVolumesOnly: nameless ones are left behind when a container is
// made anew, and nobody knows whose they were.
func (p project) mustHaveNamedVolumesOnly(t *testing.T) {
	t.Helper()
	containers, err := engine.ContainerList(t.Context(), container.ListOptions{All: true, Filters: p.label()})
	if err != nil {
		t.Fatal(err)
	}
	if len(containers) != 4 {
		t.Errorf("%d containers, want 4", len(containers))
	}
	for _, c := range containers {
		for _, m := range c.Mounts {
			if m.Type == "volume" && !strings.HasPrefix(m.Name, p.name+"_") {
				t.Errorf("%s has the nameless volume %s at %s", c.Image, m.Name, m.Destination)
			}
		}
	}
}

// clear shows the logs after a failure and removes what a test left behind.
func (p project) clear(t *testing.T) {
	list, err := p.left(context.Background())
	if err != nil {
		t.Error(err)
	}
	for _, what := range list {
		kind, id, _ := strings.Cut(what, " ")
		if kind == "container" && t.Failed() {
			out, _ := exec.Command("docker", "logs", "--tail", "40", id).CombinedOutput()
			t.Logf("log of %s:\n%s", what, out)
		}
		args := []string{kind, "rm", id}
		if kind == "container" {
			args = []string{"rm", "--force", "--volumes", id}
		}
		if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
			t.Errorf("remove %s: %s", what, out)
		}
	}
}
