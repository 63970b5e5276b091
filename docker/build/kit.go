package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/terracotta-go/terracotta/license"
)

const (
	module  = "github.com/terracotta-go/terracotta"
	devDir  = ".dev"
	trusted = "license/trusted"
)

// binaries says where the kit keeps each command.
var binaries = map[string]string{ // package below cmd/ -> folder in the kit
	"terracotta-server": "server/bin",
	"cluster-tool":      "cluster-tool/bin",
	"cart-example":      "sessions/code-samples/cart/bin",
	"demo":              "sessions/code-samples/cart/bin",
}

// scripts are the names that users of the original type, for whoever runs the
// kit without Docker (docs/operations.md).
var scripts = map[string]string{ // path in the kit -> program beside it, and its command
	"server/bin/start-tc-server.sh":                         "terracotta-server",
	"cluster-tool/bin/cluster-tool.sh":                      "cluster-tool",
	"sessions/code-samples/cart/bin/start-sample-server.sh": "demo server",
	"sessions/code-samples/cart/bin/start-sample.sh":        "demo carts",
	"sessions/code-samples/cart/bin/stop-sample-server.sh":  "demo stop",
}

// images are the images' names, which are also their folders in docker/images.
var images = []string{"terracotta-server", "terracotta-cluster-tool", "websessions-cart-example"}

// folders are the empty directories that each image's user owns. An image
// without a shell can't make them, so they are copied.
var folders = map[string][]string{ // image -> folders below its root
	"terracotta-server":        {"configs", "data/backups", "data/dataroots", "tmp"},
	"terracotta-cluster-tool":  {"configs", "licenses", "tmp"},
	"websessions-cart-example": {"tmp"},
}

const (
	passwd = "root:x:0:0:root:/:/sbin/nologin\nterracotta:x:65532:65532:terracotta:/tmp:/sbin/nologin\n"
	group  = "root:x:0:\nterracotta:x:65532:\n"
)

// kitDir returns the kit's folder. Its name is the one users know from the
// original's distribution.
func kitDir(o options) string { return filepath.Join(o.dist, "terracotta-db-"+o.version) }

// makeKit makes the kit and returns its folder. What is up to date is left
// alone, what doesn't belong there is removed.
func makeKit(ctx context.Context, o options) (string, error) {
	if _, err := os.Stat("go.mod"); err != nil {
		return "", errors.New("run it in the repository's root")
	}
	if o.arch == "" {
		o.arch = runtime.GOARCH
	}
	if !o.release {
		if err := command(ctx, o, nil, "go", "run", "./cmd/license-issuer", "dev", "--dir", o.dev); err != nil {
			return "", fmt.Errorf("make the development key and licence: %w", err)
		}
	}
	t := tree{}
	for _, add := range []func(tree, options) error{addTexts, addScripts, addImages, addSkeleton, addTrusted} {
		if err := add(t, o); err != nil {
			return "", err
		}
	}
	fmt.Fprintf(o.out, "kit: compiling for linux/%s\n", o.arch)
	compiled, err := compile(ctx, o)
	if err != nil {
		return "", err
	}
	for name, folder := range binaries {
		if err := t.addFrom(filepath.Join(compiled, name), folder+"/"+name, 0o755); err != nil {
			return "", err
		}
	}
	if err := t.refusePrivateKeys(o.dev); err != nil {
		return "", err
	}
	dir := kitDir(o)
	changed, err := t.writeTo(dir)
	if err != nil {
		return "", err
	}
	if _, err := license.ReadKeys(os.DirFS(filepath.Join(dir, trusted))); err != nil {
		return "", err
	}
	fmt.Fprintf(o.out, "kit: %s (%d files, %d changed)\n", dir, len(t), changed)
	return dir, nil
}

// compile builds all commands in one go and returns the folder they are in.
func compile(ctx context.Context, o options) (string, error) {
	dir := filepath.Join(o.dist, "bin", "linux-"+o.arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	flags := fmt.Sprintf("-s -w -X %[1]s/config.Version=%[2]s -X %[1]s/config.Commit=%[3]s", module, o.version, commit(ctx))
	// Without the path of this machine and the time of day, so that the same
	// source gives the same bytes.
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", dir + string(filepath.Separator)}
	for name := range binaries {
		args = append(args, "./cmd/"+name)
	}
	slices.Sort(args[len(args)-len(binaries):])
	if err := command(ctx, o, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + o.arch}, "go", args...); err != nil {
		return "", fmt.Errorf("compile: %w", err)
	}
	return dir, nil
}

// commit names the source: the commit, with -dirty if there is more than it
// holds, or "" outside of a clone.
func commit(ctx context.Context) string {
	id, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return ""
	}
	dirty, err := exec.CommandContext(ctx, "git", "status", "--porcelain").Output()
	if err != nil || len(dirty) > 0 {
		return strings.TrimSpace(string(id)) + "-dirty"
	}
	return strings.TrimSpace(string(id))
}

// command runs a program and shows what it says. When ctx ends, the program is
// asked to end and gets a while for it: compose killed in the middle leaves
// containers under makeshift names behind.
func command(ctx context.Context, o options, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = o.out, o.errOut
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 15 * time.Second
	return cmd.Run()
}

func addTexts(t tree, _ options) error {
	names := []string{"LICENSE", "EULA", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
	for _, pattern := range []string{"docs/*.md", "docs/decisions/*.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		names = append(names, pages...)
	}
	for _, name := range names {
		if err := t.addFrom(name, filepath.ToSlash(name), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func addScripts(t tree, _ options) error {
	for path, line := range scripts {
		program, command, _ := strings.Cut(line, " ")
		text := "#!/bin/sh\nexec \"$(dirname -- \"$0\")/" + program + "\""
		if command != "" {
			text += " " + command
		}
		t[path] = entry{mode: 0o755, data: []byte(text + " \"$@\"\n")}
	}
	return nil
}

// addImages adds each image's Dockerfile and README, with this build's version
// in the place of the source's.
func addImages(t tree, o options) error {
	for _, image := range images {
		for _, name := range []string{"Dockerfile", "README.md"} {
			path := "docker/images/" + image + "/" + name
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			t[path] = entry{mode: 0o644, data: bytes.ReplaceAll(text, []byte(sourceVersion), []byte(o.version))}
		}
	}
	return nil
}

func addSkeleton(t tree, _ options) error {
	const base = "docker/skeleton/base/"
	t[base+"etc/passwd"] = entry{mode: 0o644, data: []byte(passwd)}
	t[base+"etc/group"] = entry{mode: 0o644, data: []byte(group)}
	t[base+"etc/ssl/certs/ca-certificates.crt"] = entry{mode: 0o644, data: certificates()}
	for image, list := range folders {
		for _, folder := range list {
			mode := fs.FileMode(0o755)
			if folder == "tmp" {
				mode = 0o777 | fs.ModeSticky
			}
			t["docker/skeleton/"+image+"/"+folder] = entry{mode: fs.ModeDir | mode}
		}
	}
	return nil
}

// certificates returns the roots that browsers trust, as PEM. Those that are
// trusted only under conditions are left out: a PEM file can't tell these.
func certificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // to memory: can't fail
		}
	}
	return b.Bytes()
}

// addTrusted adds the public keys whose licences the images accept: those of
// the repository, and this clone's development key unless it is a release.
func addTrusted(t tree, o options) error {
	dirs := []string{trusted}
	if !o.release {
		dirs = append(dirs, filepath.Join(o.dev, "trusted"))
	}
	keys := 0
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			id, isKey := strings.CutSuffix(e.Name(), ".pem")
			if !isKey && e.Name() != "revoked" {
				continue
			}
			if isKey && o.release && license.Development(id) {
				return fmt.Errorf("%s is a development key: a release must not trust it", filepath.Join(dir, e.Name()))
			}
			if isKey {
				keys++
			}
			to := trusted + "/" + e.Name()
			if _, twice := t[to]; twice {
				return fmt.Errorf("%s is there twice", e.Name())
			}
			if err := t.addFrom(filepath.Join(dir, e.Name()), to, 0o644); err != nil {
				return err
			}
		}
	}
	if keys == 0 {
		return fmt.Errorf("no public key in %s: nobody could license this release (see its README.md)", trusted)
	}
	return nil
}
