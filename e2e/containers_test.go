//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/go-connections/nat"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

// option changes how a container is started.
type option = testcontainers.ContainerCustomizer

var (
	accept  = testcontainers.WithEnv(map[string]string{"ACCEPT_EULA": "Y"})
	healthy = testcontainers.WithWaitStrategyAndDeadline(3*time.Minute, wait.ForHealthCheck().WithPollInterval(50*time.Millisecond))
	ended   = testcontainers.WithWaitStrategyAndDeadline(3*time.Minute, wait.ForExit().WithPollInterval(50*time.Millisecond))
)

func env(name, value string) option {
	return testcontainers.WithEnv(map[string]string{name: value})
}

func hostname(name string) option {
	return testcontainers.WithConfigModifier(func(c *container.Config) { c.Hostname = name })
}

func host(change func(*container.HostConfig)) option {
	return testcontainers.WithHostConfigModifier(change)
}

func mounted(name, path string) option {
	return testcontainers.WithMounts(testcontainers.VolumeMount(name, testcontainers.ContainerMountTarget(path)))
}

func file(path string, content []byte) option {
	return testcontainers.WithFiles(testcontainers.ContainerFile{Reader: bytes.NewReader(content), ContainerFilePath: path, FileMode: 0o644})
}

// start runs a container until its wait strategy is content. It is removed at
// the end of the test, after its log was shown if the test failed.
func start(t *testing.T, image string, options ...option) *testcontainers.DockerContainer {
	t.Helper()
	c, err := testcontainers.Run(t.Context(), image, options...)
	testcontainers.CleanupContainer(t, c) // before the error check: a container may be there all the same
	t.Cleanup(func() {
		if t.Failed() && c != nil {
			t.Logf("log of %s:\n%s", image, logs(c))
		}
	})
	if err != nil {
		t.Fatalf("start %s: %v", image, err)
	}
	return c
}

// remove ends a container before the test does.
func remove(t *testing.T, c *testcontainers.DockerContainer) {
	t.Helper()
	if t.Failed() {
		t.Logf("log:\n%s", logs(c))
	}
	if err := testcontainers.TerminateContainer(c); err != nil {
		t.Fatal(err)
	}
}

func logs(c *testcontainers.DockerContainer) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	reader, err := c.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer reader.Close()
	text, _ := io.ReadAll(reader)
	return string(text)
}

// oneShot runs a container to its end and returns its exit status and what it said.
func oneShot(t *testing.T, image string, options ...option) (int, string) {
	t.Helper()
	c := start(t, image, append(options, ended)...)
	state, err := c.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state.ExitCode, logs(c)
}

func newNetwork(t *testing.T) *testcontainers.DockerNetwork {
	t.Helper()
	nw, err := network.New(t.Context())
	testcontainers.CleanupNetwork(t, nw)
	if err != nil {
		t.Fatal(err)
	}
	return nw
}

func newVolume(t *testing.T) string {
	t.Helper()
	v, err := engine.VolumeCreate(t.Context(), volume.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.VolumeRemove(context.Background(), v.Name, true); err != nil {
			t.Error(err)
		}
	})
	return v.Name
}

// startServer runs a server that others on the network call terracotta.
func startServer(t *testing.T, nw *testcontainers.DockerNetwork, options ...option) *testcontainers.DockerContainer {
	t.Helper()
	return start(t, serverImage, append([]option{accept, healthy, hostname("terracotta"),
		testcontainers.WithExposedPorts("9410/tcp"), network.WithNetwork([]string{"terracotta"}, nw)}, options...)...)
}

// configure runs the cluster tool against terracotta with a licence.
func configure(t *testing.T, nw *testcontainers.DockerNetwork, doc []byte) (int, string) {
	t.Helper()
	return oneShot(t, toolImage, accept, network.WithNetwork(nil, nw), file("/licenses/license.xml", doc),
		testcontainers.WithCmd("-t", "60000", "configure", "-n", "MyCluster", "-s", "terracotta"))
}

func mustConfigure(t *testing.T, nw *testcontainers.DockerNetwork) {
	t.Helper()
	if code, out := configure(t, nw, mint(t, nil)); code != 0 {
		t.Fatalf("configure ended with %d:\n%s", code, out)
	}
}

const cartOptions = "-Dterracotta.websessions.store.tcstore.uri=terracotta://terracotta:9410/sessions-example " +
	"-Dterracotta.websessions.store.tcstore.offheapResource=offheap-1 -Dterracotta.websessions.store.tcstore.diskResource=dataroot-1"

func startCart(t *testing.T, nw *testcontainers.DockerNetwork, name string) *testcontainers.DockerContainer {
	t.Helper()
	return start(t, cartImage, accept, healthy, hostname(name), testcontainers.WithEnv(map[string]string{"JAVA_OPTS": cartOptions}),
		testcontainers.WithExposedPorts("8080/tcp"), network.WithNetwork([]string{name}, nw))
}

// address returns host:port by which this machine reaches the container's port.
func address(t *testing.T, c *testcontainers.DockerContainer, port string) string {
	t.Helper()
	endpoint, err := c.PortEndpoint(t.Context(), nat.Port(port+"/tcp"), "")
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

// eventually repeats try until it succeeds, and fails the test after a while
// with its last error.
func eventually(t *testing.T, within time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", within, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// docker runs the docker command and returns its output and exit status.
func docker(t *testing.T, dir string, args ...string) (string, int) {
	t.Helper()
	return command(t, dir, nil, "docker", args...)
}

func command(t *testing.T, dir string, env []string, name string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func mustContain(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

func status(url string, want int) func() error {
	return func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
			return fmt.Errorf("%s answers %s: %s", url, resp.Status, text)
		}
		return nil
	}
}
