package terracotta

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// platforms are the systems that a release is built for.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"}

// programs are what a release holds for each of them.
var programs = []string{"terracotta-server", "cluster-tool", "cart-example", "license-issuer", "demo"}

// Every package, tests too, compiles for every other platform, and each program links for all.
// The first run on a machine takes minutes, the later ones live on Go's cache.
func TestReleasesCrossCompile(t *testing.T) {
	if os.Getenv("CROSS") == "" {
		t.Skip("compiles everything four times: make cross")
	}
	for _, platform := range platforms {
		goos, goarch, _ := strings.Cut(platform, "/")
		t.Run(goos+"-"+goarch, func(t *testing.T) {
			dir := t.TempDir()
			args := []string{"build", "-trimpath", "-buildvcs=false", "-o", dir + string(filepath.Separator)} // as docker/build: compiled once for both
			for _, p := range programs {
				args = append(args, "./cmd/"+p)
			}
			compile(t, goos, goarch, args...)
			for _, p := range programs {
				if goos == "windows" {
					p += ".exe"
				}
				if info, err := os.Stat(filepath.Join(dir, p)); err != nil || info.Size() < 1<<20 {
					t.Errorf("%s: %v, %v", p, info, err)
				}
			}
			// vet type-checks what build leaves out: the tests, and packages without a program.
			// On this platform make check and the tests do that.
			if platform != runtime.GOOS+"/"+runtime.GOARCH {
				compile(t, goos, goarch, "vet", "-trimpath", "./...")
			}
		})
	}
}

func compile(t *testing.T, goos, goarch string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s/%s: go %s: %v\n%s", goos, goarch, strings.Join(args, " "), err, out)
	}
}
