package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// profileEnv names the file that the server's profile goes to.
const profileEnv = "BENCH_PROFILE"

// profiler is laid over our server's sources where a profile is wanted, so that
// the server itself needs no door for that.
//
//go:embed profiler.go.txt
var profiler []byte

// collector is laid over our server's sources where its collections are counted.
//
//go:embed collector.go.txt
var collector []byte

// buildServer compiles our server. With a directory for profiles it is one that
// writes its profile there, to the file that is returned.
func buildServer(ctx context.Context, dir, profiles string) (binary, profile string, err error) {
	if profiles == "" {
		binary, err = buildWith(ctx, dir, "", nil)
		return binary, "", err
	}
	if profiles, err = filepath.Abs(profiles); err != nil {
		return "", "", err
	}
	binary, err = buildWith(ctx, dir, "profiler", profiler)
	return binary, filepath.Join(profiles, "server.pprof"), err
}

// buildWith compiles our server with one more file of its package main; with no
// name it is the server that users have.
func buildWith(ctx context.Context, dir, name string, source []byte) (binary string, err error) {
	binary = filepath.Join(dir, "terracotta-server"+name)
	args := []string{"build", "-o", binary}
	if name != "" {
		overlay, err := writeOverlay(dir, name+".go", source)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/terracotta-server")...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return binary, nil
}

func writeOverlay(dir, name string, content []byte) (string, error) {
	target, err := filepath.Abs(filepath.Join("../cmd/terracotta-server", name))
	if err != nil {
		return "", err
	}
	source, overlay := filepath.Join(dir, name), filepath.Join(dir, name+".json")
	doc, err := json.Marshal(map[string]map[string]string{"Replace": {target: source}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(source, content, 0o644), os.WriteFile(overlay, doc, 0o644))
}

// awaitProfile waits until the server has written its profile, or has had time to.
func awaitProfile(file string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); <-tick.C {
		if info, err := os.Stat(file); err == nil && info.Size() > 0 {
			return
		}
	}
}

// profileSelf profiles this process: load generator, our client, the peers' clients.
func profileSelf(dir string) (end func(), err error) {
	f, err := os.Create(filepath.Join(dir, "bench.pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}
