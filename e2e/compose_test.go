//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/terracotta-go/terracotta/internal/testcluster"
)

// project is one run of compose.yaml beside whatever else runs here.
type project struct {
	name         string
	env          []string
	cart1, cart2 string // addresses
}

func newProject(t *testing.T) project {
	t.Helper()
	p := project{name: fmt.Sprintf("e2e%d", time.Now().UnixNano())}
	p.env = append(p.env, "COMPOSE_PROJECT_NAME="+p.name)
	for _, v := range []string{"TERRACOTTA_PORT", "MANAGEMENT_PORT"} {
		p.env = append(p.env, v+"="+testcluster.FreePort(t))
	}
	one, two := testcluster.FreePort(t), testcluster.FreePort(t)
	p.env = append(p.env, "CART1_PORT="+one, "CART2_PORT="+two)
	p.cart1, p.cart2 = net.JoinHostPort("127.0.0.1", one), net.JoinHostPort("127.0.0.1", two)
	t.Cleanup(func() { p.clear(t) })
	return p
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

func composeCommand(t *testing.T) []string {
	t.Helper()
	for _, c := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if exec.Command(c[0], append(c[1:], "version")...).Run() == nil {
			return c
		}
	}
	if os.Getenv("E2E_REQUIRED") == "1" {
		t.Fatal("E2E_REQUIRED=1, but neither docker compose nor docker-compose is installed")
	}
	t.Skip("neither docker compose nor docker-compose is installed")
	return nil
}

func TestMakeUpTwiceAndDown(t *testing.T) {
	needImages(t)
	composeCommand(t)
	p := newProject(t)
	licence, err := os.ReadFile(filepath.Join(root, ".dev/license.xml"))
	if err != nil {
		t.Fatal(err)
	}
	c := newCustomer(t)
	for round := range 2 {
		begin := time.Now()
		out, code := command(t, root, p.env, "make", "up")
		if code != 0 {
			t.Fatalf("make up, round %d: exit status %d:\n%s", round+1, code, out)
		}
		t.Logf("make up, round %d: %v", round+1, time.Since(begin).Round(100*time.Millisecond))
		mustContain(t, out, "http://localhost:"+port(p.cart1)+"/cart/", "http://localhost:"+port(p.cart2)+"/cart/")
		if round == 0 {
			c.add(p.cart1, "Twin peaks tapes")
		}
		c.sees(p.cart2, "/Cart/", "Twin peaks tapes")
	}
	if again, err := os.ReadFile(filepath.Join(root, ".dev/license.xml")); err != nil || string(again) != string(licence) {
		t.Errorf("the licence was not kept (%v)", err)
	}
	p.mustHaveNamedVolumesOnly(t)
	out, code := command(t, root, p.env, "make", "down")
	if code != 0 {
		t.Fatalf("make down: exit status %d:\n%s", code, out)
	}
	mustContain(t, out, "kept:", ".dev")
	if left, err := p.left(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("make down left %v (%v)", left, err)
	}
}

func TestBareComposeUp(t *testing.T) {
	needImages(t)
	compose := composeCommand(t)
	p := newProject(t)
	run := func(args ...string) string {
		t.Helper()
		out, code := command(t, root, p.env, compose[0], append(compose[1:len(compose):len(compose)], args...)...)
		if code != 0 {
			t.Fatalf("compose %v: exit status %d:\n%s", args, code, out)
		}
		return out
	}
	run("up", "--detach")
	eventually(t, 60*time.Second, status("http://"+p.cart1+"/ready", 200))
	eventually(t, 60*time.Second, status("http://"+p.cart2+"/ready", 200))
	c := newCustomer(t)
	c.add(p.cart1, "Love life")
	c.sees(p.cart2, "/cart/", "Love life")

	// All containers made anew on the same volumes: the cart stays.
	run("up", "--detach", "--force-recreate")
	eventually(t, 60*time.Second, status("http://"+p.cart1+"/ready", 200))
	c.sees(p.cart1, "/cart/", "Love life")
	run("down", "--volumes")
}

func TestMakeUpNamesTakenPorts(t *testing.T) {
	needImages(t)
	composeCommand(t)
	p := newProject(t)
	taken, err := net.Listen("tcp", p.cart1)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	out, code := command(t, root, p.env, "make", "up")
	if code == 0 {
		t.Error("make up succeeded")
	}
	mustContain(t, out, "port "+port(p.cart1)+" of cart-1 is taken", "Choose other ports: CART1_PORT=")
	if left, err := p.left(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
