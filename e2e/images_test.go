//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/testcontainers/testcontainers-go"

	"github.com/terracotta-go/terracotta/internal/testcluster"
)

func TestEachImageIsOneStaticBinaryWithoutAShell(t *testing.T) {
	needImages(t)
	for _, image := range allImages {
		t.Run(image, func(t *testing.T) {
			info, err := engine.ImageInspect(t.Context(), image)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.1f MB", float64(info.Size)/1e6)
			if info.Size >= 20_000_000 {
				t.Errorf("%d bytes: 20 MB is the most", info.Size)
			}
			if info.Config.User != "65532:65532" {
				t.Errorf("user is %q", info.Config.User)
			}
			if v := info.Config.Labels["org.opencontainers.image.version"]; v != version {
				t.Errorf("version label is %q", v)
			}
			files := exported(t, image)
			programs := 0
			for name, content := range files {
				if strings.Contains(name, "bin/") && (path.Base(name) == "sh" || path.Base(name) == "bash" || path.Base(name) == "busybox") {
					t.Errorf("a shell: %s", name)
				}
				if bytes.HasPrefix(content, []byte("#!")) {
					t.Errorf("a script: %s", name)
				}
				if !bytes.HasPrefix(content, []byte("\x7fELF")) {
					continue
				}
				programs++
				if err := static(content); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if programs != 1 {
				t.Errorf("%d programs, want 1", programs)
			}
		})
	}
}

// static returns an error if the program needs a loader or libraries.
func static(content []byte) error {
	program, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return err
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return errors.New("dynamically linked")
		}
	}
	return nil
}

func TestNoImageHoldsAPrivateKeyOrALicence(t *testing.T) {
	needImages(t)
	secret := regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----\r?\n[A-Za-z0-9+/]{16}`)
	for _, image := range allImages {
		keys := 0
		for name, content := range exported(t, image) {
			if secret.Match(content) {
				t.Errorf("%s: a private key in %s", image, name)
			}
			if path.Base(name) == "license.xml" {
				t.Errorf("%s: a licence, %s", image, name)
			}
			if strings.HasPrefix(name, "etc/terracotta/trusted/") && strings.HasSuffix(name, ".pem") {
				keys++
			}
		}
		if image != cartImage && keys == 0 {
			t.Errorf("%s trusts no key", image)
		}
	}
}

// exported returns the regular files of an image by name.
func exported(t *testing.T, image string) map[string][]byte {
	t.Helper()
	c, err := engine.ContainerCreate(t.Context(), &container.Config{Image: image}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer engine.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{RemoveVolumes: true, Force: true})
	stream, err := engine.ContainerExport(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	files := map[string][]byte{}
	archive := tar.NewReader(stream)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutTheEULANothingRuns(t *testing.T) {
	needImages(t)
	arguments := map[string][]string{toolImage: {"status", "-s", "terracotta"}}
	for _, image := range allImages {
		for _, value := range []string{"", "y", "yes", "Y "} {
			options := []option{testcontainers.WithCmd(arguments[image]...)}
			if value != "" {
				options = append(options, env("ACCEPT_EULA", value))
			}
			code, out := oneShot(t, image, options...)
			if code != 10 {
				t.Errorf("%s with ACCEPT_EULA=%q: exit status %d", image, value, code)
			}
			mustContain(t, out, "ACCEPT_EULA")
			if strings.Contains(out, "accepted (") {
				t.Errorf("%s with ACCEPT_EULA=%q says that it was accepted:\n%s", image, value, out)
			}
		}
	}
	for image, arguments := range map[string][]string{
		serverImage: {"--help"}, toolImage: {"--help"}, cartImage: {"--help"},
	} {
		for _, args := range [][]string{arguments, {"version"}} {
			if code, out := oneShot(t, image, testcontainers.WithCmd(args...)); code != 0 {
				t.Errorf("%s %s without the EULA: exit status %d:\n%s", image, args, code, out)
			}
		}
	}
}

func TestTheLicenceAgreementIsSaidToBeAccepted(t *testing.T) {
	needImages(t)
	c := startServer(t, newNetwork(t))
	mustContain(t, logs(c), "licence agreement was accepted", "has started up as ACTIVE node on 0.0.0.0:9410 successfully, and is now ready for work.")
}

func TestStopIsQuickAndOrderly(t *testing.T) {
	needImages(t)
	nw := newNetwork(t)
	server := startServer(t, nw)
	mustConfigure(t, nw)
	cart := startCart(t, nw, "cart-1")
	newCustomer(t).add(address(t, cart, "8080"), "JSP Book")
	for name, c := range map[string]*testcontainers.DockerContainer{"cart": cart, "server": server} {
		begin := time.Now()
		if out, code := docker(t, root, "stop", c.GetContainerID()); code != 0 {
			t.Fatalf("docker stop: %s", out)
		}
		took := time.Since(begin)
		state, err := c.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The engine kills what is not gone after ten seconds, which is 137. How long it takes for the
		// rest of a stop is its own affair.
		t.Logf("%s: docker stop took %v", name, took)
		if state.ExitCode != 0 {
			t.Errorf("%s: docker stop took %v, exit status %d", name, took, state.ExitCode)
		}
	}
}

// The bar is 300 ms from the start of the process to the first success of
// health. It is reported and not judged: a busy machine proves nothing.
func TestStartToHealth(t *testing.T) {
	needImages(t)
	program := filepath.Join(root, kit, "server/bin/terracotta-server")
	if err := exec.Command(program, "version").Run(); err != nil {
		t.Skipf("the kit is for another kind of machine: %v", err)
	}
	settings := append(os.Environ(), "TC_BIND=127.0.0.1", "TC_TSA_PORT="+testcluster.FreePort(t), "TC_TSA_GROUP_PORT="+testcluster.FreePort(t),
		"TC_MANAGEMENT_PORT="+testcluster.FreePort(t), "TC_DATA_ROOT="+t.TempDir())
	for round := range 3 { // the first one makes its data root, the others read it
		server := exec.CommandContext(t.Context(), program)
		var said bytes.Buffer
		server.Env, server.Stdout, server.Stderr = settings, &said, &said
		begin := time.Now()
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		for {
			health := exec.CommandContext(t.Context(), program, "health")
			health.Env = settings
			err := health.Run()
			if err == nil {
				break
			}
			if time.Since(begin) > time.Minute {
				_ = server.Process.Kill()
				_ = server.Wait()
				t.Fatalf("not healthy: %v\n%s", err, said.String())
			}
		}
		t.Logf("start %d: healthy after %v", round+1, time.Since(begin).Round(time.Millisecond))
		if err := server.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := server.Wait(); err != nil {
			t.Errorf("end: %v\n%s", err, said.String())
		}
	}
}

func TestAnUnwritableVolumeIsNamedWithTheUserAndTheFix(t *testing.T) {
	needImages(t)
	code, out := oneShot(t, serverImage, accept, host(func(h *container.HostConfig) {
		h.Tmpfs = map[string]string{"/data/dataroots": "mode=0755"} // root's
	}))
	if code == 0 {
		t.Error("it ended well")
	}
	mustContain(t, out, `"/data/dataroots`, "65532:65532", "chown")
}

func TestTheServerNeedsNoRightsAndNoWritableRoot(t *testing.T) {
	needImages(t)
	nw := newNetwork(t)
	startServer(t, nw, host(func(h *container.HostConfig) {
		h.ReadonlyRootfs = true
		h.CapDrop = []string{"ALL"}
		h.SecurityOpt = []string{"no-new-privileges"}
	}))
	mustConfigure(t, nw)
}

func TestTheREADMEsBuildCommandWorksInTheKit(t *testing.T) {
	needImages(t)
	dir := filepath.Join(root, "dist")
	for _, image := range allImages {
		name, _, _ := strings.Cut(image, ":")
		before, err := engine.ImageInspect(t.Context(), image)
		if err != nil {
			t.Fatal(err)
		}
		readme, err := os.ReadFile(filepath.Join(root, kit, "docker/images", name, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		lines := regexp.MustCompile(`(?m)^(cd terracotta-db-.*\ndocker build .*)$`).FindString(string(readme))
		if lines == "" {
			t.Fatalf("no build command in the README of %s", name)
		}
		if out, code := command(t, dir, nil, "sh", "-ec", lines); code != 0 {
			t.Fatalf("%s:\n%s", lines, out)
		}
		after, err := engine.ImageInspect(t.Context(), image)
		if err != nil {
			t.Fatal(err)
		}
		if b, a := before.Config.Entrypoint, after.Config.Entrypoint; strings.Join(a, " ") != strings.Join(b, " ") || after.Size != before.Size {
			t.Errorf("%s built by hand differs: %v %d, %v %d", image, a, after.Size, b, before.Size)
		}
	}
}
