//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/client"
	tclog "github.com/testcontainers/testcontainers-go/log"
)

const (
	version     = "10.4.0-SNAPSHOT"
	serverImage = "terracotta-server:" + version
	toolImage   = "terracotta-cluster-tool:" + version
	cartImage   = "websessions-cart-example:" + version
	kit         = "dist/terracotta-db-" + version
)

var allImages = []string{serverImage, toolImage, cartImage}

var (
	root      string         // of the repository
	engine    *client.Client // nil without one
	engineErr error          // why there is none
)

func TestMain(m *testing.M) {
	// A helper image for cleaning up would have to be pulled; the tests clean up themselves.
	setDefault("TESTCONTAINERS_RYUK_DISABLED", "true")
	if os.Getenv("DOCKER_HOST") == "" {
		// A local engine publishes on this machine, also where its gateway can't be reached.
		setDefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	}
	tclog.SetDefault(quiet{})
	var err error
	if root, err = filepath.Abs(".."); err != nil {
		panic(err)
	}
	engine, engineErr = connect()
	if engineErr != nil && os.Getenv("E2E_REQUIRED") == "1" {
		fmt.Fprintln(os.Stderr, "E2E_REQUIRED=1, but no Docker engine answers:", engineErr)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// quiet keeps testcontainers from telling each of its steps.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

func setDefault(name, value string) {
	if os.Getenv(name) == "" {
		os.Setenv(name, value)
	}
}

func connect() (*client.Client, error) {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = c.Ping(ctx)
	return c, err
}

var buildOnce = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "run", "./docker/build", "images")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return string(out), err
})

// needImages skips without Docker, and else makes sure that the images are
// those of this source. Every test calls it first.
func needImages(t *testing.T) {
	t.Helper()
	if engineErr != nil {
		t.Skipf("no Docker engine answers: %v", engineErr)
	}
	if out, err := buildOnce(); err != nil {
		t.Fatalf("build the images: %v\n%s", err, out)
	}
}
