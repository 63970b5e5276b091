//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// The commands that users of the original know. Our README shows them as they
// stand here; it may add --name sessions, which the last one needs.
const (
	startCommand     = `docker run -e ACCEPT_EULA=Y -d -p 9410:9410 --name terracotta terracotta-server:10.4.0-SNAPSHOT`
	configureCommand = `docker run -e ACCEPT_EULA=Y --link terracotta:terracotta -e "LICENSE_URL=https://server/license.xml" terracotta-cluster-tool:10.4.0-SNAPSHOT configure -n MyCluster -s terracotta`
	shopCommand      = `docker run -e JAVA_OPTS="-Dterracotta.websessions.store.tcstore.uri=terracotta://terracotta:9410/sessions-example -Dterracotta.websessions.store.tcstore.offheapResource=offheap-1 -Dterracotta.websessions.store.tcstore.diskResource=dataroot-1"  \
 -e ACCEPT_EULA=Y \
 --link terracotta:terracotta \
 -p 8080:8080 \
 -d websessions-cart-example:10.4.0-SNAPSHOT`
	logsCommand = `docker logs -f sessions`
	nameOption  = " --name sessions \\\n"
)

// commands returns the shell commands of a README, one per block.
func commands(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)\n```").FindAllStringSubmatch(string(text), -1) {
		list = append(list, block[1])
	}
	return list
}

func TestTheREADMEShowsTheKnownCommands(t *testing.T) {
	var shown string
	for _, c := range commands(t, "docker/images/websessions-cart-example/README.md") {
		shown += strings.Replace(c, nameOption, "", 1) + "\n"
	}
	mustContain(t, shown, startCommand+"\n", configureCommand+"\n", shopCommand+"\n", logsCommand+"\n")
}

func TestQuickstartVerbatim(t *testing.T) {
	needImages(t)
	mustBeFree(t, []string{"8080", "9410"}, []string{"terracotta", "sessions", "license"})
	sweep(t)
	ca := startLicenseServer(t, mint(t, nil))
	shell := func(line string) string {
		t.Helper()
		out, code := command(t, root, nil, "sh", "-ec", line)
		if code != 0 {
			t.Fatalf("%s\nexit status %d:\n%s", line, code, out)
		}
		return out
	}
	var ran []string
	for _, line := range commands(t, "docker/images/websessions-cart-example/README.md") {
		switch plain := strings.Replace(line, nameOption, "", 1); plain {
		case startCommand, shopCommand:
			shell(line)
		case configureCommand:
			// What this test may add: the way to the test's own web server, and its CA.
			linked := strings.Replace(line, "docker run ", "docker run --link license:server ", 1)
			out, code := command(t, root, nil, "sh", "-ec", linked)
			if code != 48 {
				t.Errorf("a certificate that nobody vouches for: exit status %d", code)
			}
			mustContain(t, out, "Error (HANDSHAKE_OR_SECURITY_ERROR): ", "LICENSE_CA")
			out = shell(strings.Replace(linked, "docker run ", "docker run -v "+ca+":/ca.pem:ro -e LICENSE_CA=/ca.pem ", 1))
			mustContain(t, out, "License installation successful", "Configuration successful", "Command completed successfully.")
		case logsCommand:
			follow(t, line)
		default:
			continue
		}
		ran = append(ran, line)
	}
	if len(ran) != 4 {
		t.Fatalf("ran %d commands of the quickstart, want 4: %q", len(ran), ran)
	}
	out, code := docker(t, root, "run", "--rm", "-e", "ACCEPT_EULA=Y", "--link", "terracotta:terracotta", toolImage, "status", "-n", "MyCluster", "-s", "terracotta")
	if code != 0 {
		t.Errorf("status: exit status %d", code)
	}
	mustContain(t, out, "MyCluster", "ACTIVE")
	c := newCustomer(t)
	for _, deed := range []string{"", "stop terracotta", "kill --signal KILL terracotta"} {
		if deed != "" {
			shell("docker " + deed + " && docker start terracotta")
		}
		if deed == "" {
			eventually(t, 2*time.Minute, status("http://127.0.0.1:8080/ready", 200))
			c.add("127.0.0.1:8080", "Concert tickets")
		}
		c.sees("127.0.0.1:8080", "/cart/", "Concert tickets")
	}
}

func TestQuickstartWithoutAWebServer(t *testing.T) {
	needImages(t)
	mustBeFree(t, []string{"9410"}, []string{"terracotta"})
	sweep(t)
	for _, line := range commands(t, "docker/images/websessions-cart-example/README.md") {
		if line != startCommand && !strings.Contains(line, "/.dev/licenses:/licenses") {
			continue
		}
		if out, code := command(t, root, nil, "sh", "-ec", line); code != 0 {
			t.Fatalf("%s\nexit status %d:\n%s", line, code, out)
		}
	}
	out, code := docker(t, root, "run", "--rm", "-e", "ACCEPT_EULA=Y", "--link", "terracotta:terracotta", toolImage, "status", "-n", "MyCluster", "-s", "terracotta")
	if code != 0 {
		t.Errorf("status: exit status %d:\n%s", code, out)
	}
}

// mustBeFree fails with what is in the way of commands that name ports and containers.
func mustBeFree(t *testing.T, ports, names []string) {
	t.Helper()
	for _, port := range ports {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			t.Fatalf("port %s is taken, the quickstart needs it: %v", port, err)
		}
		l.Close()
	}
	for _, name := range names {
		if c, err := engine.ContainerInspect(t.Context(), name); err == nil {
			t.Fatalf("there is a container %q (%s), the quickstart needs the name: docker rm it", name, c.State.Status)
		}
	}
}

// sweep removes, at the end, the containers that the docker command has made
// of our images meanwhile; the quickstart gives most of them no name.
func sweep(t *testing.T) {
	t.Helper()
	ours := func() map[string]container.Summary {
		list, err := engine.ContainerList(context.Background(), container.ListOptions{All: true})
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]container.Summary{}
		for _, c := range list {
			for _, image := range allImages {
				if c.Image == image {
					found[c.ID] = c
				}
			}
		}
		return found
	}
	before := ours()
	t.Cleanup(func() {
		for id, c := range ours() {
			if _, old := before[id]; old || c.Labels["com.docker.compose.project"] != "" || c.Labels["org.testcontainers.sessionId"] != "" {
				continue
			}
			if t.Failed() {
				out, _ := exec.Command("docker", "logs", "--tail", "60", id).CombinedOutput()
				t.Logf("log of %s:\n%s", c.Image, out)
			}
			if err := engine.ContainerRemove(context.Background(), id, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
				t.Error(err)
			}
		}
	})
}

// follow runs docker logs -f until it has shown that the shop is up.
func follow(t *testing.T, line string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", "exec "+line)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	var said []byte
	chunk := make([]byte, 4096)
	for !bytes.Contains(said, []byte("licence agreement was accepted")) || !bytes.Contains(said, []byte("8080")) {
		n, err := reader.Read(chunk)
		if err != nil {
			t.Errorf("%s ended (%v) with:\n%s", line, err, said)
			break
		}
		said = append(said, chunk[:n]...)
	}
	cancel()
	_ = cmd.Wait() // it was ended by us
}

// startLicenseServer runs an HTTPS server in a container of its own, called
// license, that serves doc as https://server/license.xml. It returns the file
// with its certification authority.
func startLicenseServer(t *testing.T, doc []byte) (ca string) {
	t.Helper()
	info, err := engine.ServerVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "licenseserver")
	if out, code := command(t, root, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + info.Arch}, "go", "build", "-o", program, "./e2e/licenseserver"); code != 0 {
		t.Fatal(out)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	authority, cert, key := certificates(t, "server")
	ca = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, authority, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the image's user reads it, not this one
		t.Fatal(err)
	}
	var buildContext bytes.Buffer
	archive := tar.NewWriter(&buildContext)
	for name, content := range map[string][]byte{
		"Dockerfile":      []byte("FROM scratch\nCOPY licenseserver /\nCOPY tls/ /tls/\nCOPY www/ /www/\nENTRYPOINT [\"/licenseserver\"]\n"),
		"licenseserver":   binary,
		"tls/cert.pem":    cert,
		"tls/key.pem":     key,
		"www/license.xml": doc,
	} {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	tag := fmt.Sprintf("e2e-license-server:%d", time.Now().UnixNano())
	repo, version, _ := strings.Cut(tag, ":")
	t.Cleanup(func() {
		if _, err := engine.ImageRemove(context.Background(), tag, image.RemoveOptions{PruneChildren: true}); err != nil {
			t.Error(err)
		}
	})
	start(t, "",
		testcontainers.WithDockerfile(testcontainers.FromDockerfile{
			ContextArchive: bytes.NewReader(buildContext.Bytes()), Dockerfile: "Dockerfile", Repo: repo, Tag: version, KeepImage: true,
		}),
		testcontainers.WithName("license"),
		testcontainers.WithWaitStrategyAndDeadline(3*time.Minute, wait.ForLog("serving")))
	return ca
}

// certificates returns a certification authority and a certificate of it for
// host with its key, all PEM, valid for an hour.
func certificates(t *testing.T, host string) (authority, cert, key []byte) {
	t.Helper()
	now := time.Now()
	issue := func(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, parentKey = template, private
		}
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed, private, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	ca, caKey, authority := issue(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e CA"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	_, private, cert := issue(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return authority, cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
