//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/testcontainers/testcontainers-go"
)

// The defaults promise 1024 MB. A container that has less is refused, and what
// the hint says works.
func TestASmallContainerIsRefusedWithNumbersThatFit(t *testing.T) {
	needImages(t)
	small := host(func(h *container.HostConfig) { h.Memory = 256 << 20 })
	code, out := oneShot(t, serverImage, accept, small)
	if code != 40 {
		t.Errorf("exit status %d", code)
	}
	mustContain(t, out, "offheap-1 512 MB, offheap-2 512 MB), and this container has 256 MB of memory", "docker run --memory 1428m", "TC_MEMORY_CHECK=warn")
	advice := regexp.MustCompile(`(OFFHEAP_\w+)=(\w+)`).FindAllStringSubmatch(out, -1)
	if len(advice) != 3 {
		t.Fatalf("the hint sets %v", advice)
	}
	options := []option{accept, healthy, small}
	for _, a := range advice {
		options = append(options, env(a[1], a[2]))
	}
	if said := logs(start(t, serverImage, options...)); strings.Contains(said, "leave little memory") {
		t.Errorf("what the hint says is warned of:\n%s", said)
	}
	mustContain(t, logs(start(t, serverImage, accept, healthy, small, env("TC_MEMORY_CHECK", "warn"))), "WARN", "the kernel will end this server")
}

func TestVolumesThatCannotBeUsed(t *testing.T) {
	needImages(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	user := testcontainers.WithConfigModifier(func(c *container.Config) { c.User = "1234" })
	for _, row := range []struct {
		name    string
		options []option
		says    []string
	}{
		{"of another user", []option{user, mounted(newVolume(t), "/data/dataroots")}, []string{`"/data/dataroots" cannot be written by user 1234:0`, "chown -R 1234:0"}},
		{"a file", []option{host(func(h *container.HostConfig) { h.Binds = []string{file + ":/data/dataroots/dataroot-1"} })},
			[]string{`"/data/dataroots/dataroot-1" is a file, and a folder is needed`, "mount a folder"}},
		{"read-only", []option{host(func(h *container.HostConfig) { h.Binds = []string{newVolume(t) + ":/data/dataroots:ro"} })},
			[]string{"is on a read-only file system", "mount a writable folder"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			code, out := oneShot(t, serverImage, append(row.options, accept)...)
			if code != 2 {
				t.Errorf("exit status %d", code)
			}
			mustContain(t, out, append(row.says, "Error (FAILURE): data directory ")...)
		})
	}
}

// Any user, no rights, nothing writable but the volume, a far time zone and a
// language in which i is no I: a server runs, and its log is in UTC.
func TestAnyUserTimeZoneAndLanguage(t *testing.T) {
	needImages(t)
	nw := newNetwork(t)
	server := startServer(t, nw, env("TZ", "Pacific/Kiritimati"), env("LANG", "tr_TR.UTF-8"), env("LC_ALL", "tr_TR.UTF-8"),
		testcontainers.WithConfigModifier(func(c *container.Config) { c.User = "1234" }),
		host(func(h *container.HostConfig) {
			h.ReadonlyRootfs = true
			h.CapDrop = []string{"ALL"}
			h.SecurityOpt = []string{"no-new-privileges"}
			h.Tmpfs = map[string]string{"/data/dataroots": "uid=1234,mode=0700"}
		}))
	mustConfigure(t, nw)
	line := regexp.MustCompile(`(?m)(\S+)Z INFO  Terracotta Server instance has started up as ACTIVE node on 0\.0\.0\.0:9410 successfully, and is now ready for work\.\r?$`).FindStringSubmatch(logs(server))
	if line == nil {
		t.Fatalf("no ready line that ends its line:\n%s", logs(server))
	}
	at, err := time.Parse("2006-01-02T15:04:05.000", line[1][strings.LastIndex(line[1], "20"):])
	if err == nil && time.Since(at).Abs() > 10*time.Minute {
		t.Errorf("the log's clock says %v", at)
	}
}

// docs/operations.md: stop, copy the volume, start. The copy is the server.
func TestABackupIsACopyOfTheStoppedVolume(t *testing.T) {
	needImages(t)
	nw, data := newNetwork(t), newVolume(t)
	server := startServer(t, nw, mounted(data, "/data/dataroots"))
	mustConfigure(t, nw)
	shop := address(t, startCart(t, nw, "cart-1"), "8080")
	c := newCustomer(t)
	first := c.add(shop, "JSP Book")
	if out, code := docker(t, root, "stop", server.GetContainerID()); code != 0 {
		t.Fatalf("docker stop: %s", out)
	}
	backup := new(bytes.Buffer)
	pipe(t, nil, backup, "docker", "cp", server.GetContainerID()+":/data/dataroots", "-")
	if out, code := docker(t, root, "start", server.GetContainerID()); code != 0 {
		t.Fatalf("docker start: %s", out)
	}
	c.sees(shop, "/cart/", "JSP Book")
	c.add(shop, "NIN CD") // after the backup
	remove(t, server)

	// The disk is lost; a new volume is filled before its server first starts.
	restored := newVolume(t)
	out, code := docker(t, root, "create", "-v", restored+":/data/dataroots", serverImage)
	if code != 0 {
		t.Fatalf("docker create: %s", out)
	}
	filler := strings.TrimSpace(out)
	defer docker(t, root, "rm", "-v", filler)
	pipe(t, backup, io.Discard, "docker", "cp", "-", filler+":/data")
	startServer(t, nw, mounted(restored, "/data/dataroots"))
	if seen := c.sees(shop, "/cart/", "JSP Book"); seen.Session.ID != first.Session.ID {
		t.Errorf("session was %q, now %q", first.Session.ID, seen.Session.ID)
	}
}

// pipe runs a command from in to out.
func pipe(t *testing.T, in io.Reader, out io.Writer, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, said.String())
	}
}

func TestProbesAndMetricsOfTheImage(t *testing.T) {
	needImages(t)
	nw := newNetwork(t)
	server := startServer(t, nw, testcontainers.WithExposedPorts("9410/tcp", "9540/tcp"))
	url := "http://" + address(t, server, "9540")
	eventually(t, 2*time.Minute, status(url+"/health", http.StatusOK))
	eventually(t, 2*time.Minute, status(url+"/ready", http.StatusServiceUnavailable))
	mustConfigure(t, nw)
	eventually(t, 2*time.Minute, status(url+"/ready", http.StatusOK))
	newCustomer(t).add(address(t, startCart(t, nw, "cart-1"), "8080"), "JSP Book")
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, string(page), "terracotta_ready 1\n", `terracotta_sessions{dataset="sessions-example",resource="offheap-1"} 1`,
		`terracotta_offheap_size_bytes{resource="offheap-1"} 5.36870912e+08`, "terracotta_nodes 1\n", "terracotta_license_expiry_seconds ")
}
