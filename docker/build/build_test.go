package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/terracotta-go/terracotta/config"
)

func TestVersionIsTheSources(t *testing.T) {
	if sourceVersion != config.Version {
		t.Errorf("sourceVersion is %q, config.Version is %q", sourceVersion, config.Version)
	}
}

func sample() tree {
	return tree{
		"a/b/file": {mode: 0o644, data: []byte("text")},
		"a/run":    {mode: 0o755, data: []byte("program")},
		"empty":    {mode: fs.ModeDir | 0o755},
		"x/tmp":    {mode: fs.ModeDir | 0o777 | fs.ModeSticky},
	}
}

func TestTreeIsWrittenExactlyAndOnlyWhereItDiffers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kit")
	write := func(want int) {
		t.Helper()
		changed, err := sample().writeTo(dir)
		if err != nil || changed != want {
			t.Fatalf("%d changed, want %d (%v)", changed, want, err)
		}
		for name, e := range sample() {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode() != e.mode {
				t.Fatalf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	}
	write(4)
	write(0)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(dir, "a/run"), []byte("grogram"), 0o755))
	must(os.Chmod(filepath.Join(dir, "a/b/file"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "stale"), nil, 0o644))
	must(os.MkdirAll(filepath.Join(dir, "old/deep"), 0o755))
	must(os.Remove(filepath.Join(dir, "empty")))
	write(5)
	for _, gone := range []string{"stale", "old"} {
		if _, err := os.Stat(filepath.Join(dir, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
}

func TestTheSameKitGivesTheSameContext(t *testing.T) {
	var contexts [2]bytes.Buffer
	for i := range contexts {
		dir := t.TempDir()
		if _, err := sample().writeTo(dir); err != nil {
			t.Fatal(err)
		}
		if err := writeContext(&contexts[i], dir); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(contexts[0].Bytes(), contexts[1].Bytes()) {
		t.Error("two contexts of the same content differ")
	}
}

func newKey(t *testing.T) (private, public []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err = x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err = x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
}

func TestNoPrivateKeyGetsIntoAKit(t *testing.T) {
	dev := t.TempDir()
	private, public := newKey(t)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := os.Mkdir(filepath.Join(dev, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dev, "private", "dev-1.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	foreign, _ := newKey(t)
	for name, data := range map[string][]byte{
		"our key":              text,
		"our key's bytes":      append([]byte("\x7fELF..."), private...),
		"our secret alone":     private[len(private)-32:],
		"our key in base64":    []byte("key=" + base64.StdEncoding.EncodeToString(private)),
		"another key":          pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: foreign}),
		"an old form":          []byte("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMHcCAQEEIIrYSSNQFaA2Hwf1d\n-----END"),
		"Windows line ends":    []byte("x-----BEGIN OPENSSH PRIVATE KEY-----\r\nb3BlbnNzaC1rZXktdjEAAAAA\r\n"),
		"an encrypted new one": []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFHDBOBgkqhkiG9w0BBQ0wQ\n"),
	} {
		if err := (tree{"file": {data: data}}).refusePrivateKeys(dev); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	innocent := tree{"key.pem": {data: public}, "program": {data: []byte("-----BEGIN PRIVATE KEY-----\x00-----BEGIN %s-----")}}
	if err := innocent.refusePrivateKeys(dev); err != nil {
		t.Errorf("refused without reason: %v", err)
	}
}

func TestTrustedKeysOfAReleaseAndOfAClone(t *testing.T) {
	_, vendor := newKey(t)
	_, dev := newKey(t)
	for _, c := range []struct {
		name    string
		files   []string
		release bool
		want    string // of the error, or the keys in the kit
	}{
		{"clone", []string{trusted + "/acme.pem", trusted + "/revoked", ".dev/trusted/dev-1.pem"}, false, "acme.pem dev-1.pem revoked"},
		{"release", []string{trusted + "/acme.pem", ".dev/trusted/dev-1.pem"}, true, "acme.pem"},
		{"release with a development key", []string{trusted + "/acme.pem", trusted + "/dev-1.pem"}, true, "a release must not trust it"},
		{"release without a key", []string{trusted + "/README.md"}, true, "nobody could license this release"},
		{"release with a revocation only", []string{trusted + "/revoked"}, true, "nobody could license this release"},
		{"one id twice", []string{trusted + "/dev-1.pem", ".dev/trusted/dev-1.pem"}, false, "there twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for _, dir := range []string{trusted, ".dev/trusted"} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range c.files {
				text := vendor
				if strings.Contains(name, "dev-") {
					text = dev
				}
				if err := os.WriteFile(name, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			kit := tree{}
			if err := addTrusted(kit, options{dev: devDir, release: c.release}); err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("error is %v, want one with %q", err, c.want)
				}
				return
			}
			for name := range kit {
				if !strings.Contains(c.want, filepath.Base(name)) {
					t.Errorf("%s is in the kit", name)
				}
			}
			if want := len(strings.Fields(c.want)); len(kit) != want {
				t.Errorf("%d files, want %d", len(kit), want)
			}
		})
	}
}

func TestDockerfilesNeedNothingNew(t *testing.T) {
	for _, name := range images {
		text, err := os.ReadFile("../images/" + name + "/Dockerfile")
		if err != nil {
			t.Fatal(err)
		}
		for _, never := range []string{"(?m)^RUN", "--chmod", "(?i)# *syntax=", "(?m)^SHELL", "(?m)^ADD", "--chown=[a-z]", "(?m)^(CMD|ENTRYPOINT) +[^\\[]"} {
			if found := regexp.MustCompile(never).Find(text); found != nil {
				t.Errorf("%s: %q", name, found)
			}
		}
		for _, always := range []string{"FROM scratch\n", "USER 65532:65532\n", "TERRACOTTA_CONTAINER=1", "--tag " + name + ":" + sourceVersion + " ."} {
			if !bytes.Contains(text, []byte(always)) {
				t.Errorf("%s: no %q", name, always)
			}
		}
		if bytes.Contains(text, []byte(devDir)) {
			t.Errorf("%s mentions %s", name, devDir)
		}
	}
}

func TestPortsAreThoseOfTheComposeFile(t *testing.T) {
	text, err := os.ReadFile("../../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	published := regexp.MustCompile(`"127\.0\.0\.1:\$\{([A-Z0-9_]+):-(\d+)\}:\d+"`).FindAllStringSubmatch(string(text), -1)
	if len(published) != len(ports) {
		t.Errorf("the file publishes %d ports, the table has %d", len(published), len(ports))
	}
	for i, p := range published {
		if p[1] != ports[i].variable || p[2] != ports[i].standard {
			t.Errorf("port %d is %s=%s there, %s=%s here", i, p[1], p[2], ports[i].variable, ports[i].standard)
		}
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, ":9410\"") && !strings.Contains(line, "127.0.0.1:") {
			t.Errorf("published to everybody: %s", line)
		}
	}
}

func TestJudge(t *testing.T) {
	health := func(s string) *container.State {
		return &container.State{Status: "running", Health: &container.Health{Status: s}}
	}
	for _, c := range []struct {
		service      string
		state        *container.State
		what         string
		done, failed bool
	}{
		{"configure", &container.State{Status: "exited"}, "done", true, false},
		{"configure", &container.State{Status: "exited", ExitCode: 40}, "failed with status 40", false, true},
		{"configure", &container.State{Status: "running"}, "running", false, false},
		{"configure", &container.State{Status: "restarting", ExitCode: 28},
			"changed nothing: the volumes hold a cluster with another licence (make down removes it and its sessions)", true, false},
		{"terracotta", &container.State{Status: "exited"}, "failed with status 0", false, true},
		{"terracotta", &container.State{Status: "restarting", ExitCode: 10}, "failed with status 10", false, true},
		{"terracotta", &container.State{Status: "created"}, "created", false, false},
		{"terracotta", health("starting"), "starting", false, false},
		{"terracotta", health("healthy"), "healthy", true, false},
		{"cart-1", health("unhealthy"), "unhealthy", false, false},
	} {
		if what, done, failed := judge(c.service, c.state); what != c.what || done != c.done || failed != c.failed {
			t.Errorf("%s %+v: %q, %v, %v", c.service, c.state, what, done, failed)
		}
	}
}

func TestTheEnginesErrorIsShownWithWhatItSaid(t *testing.T) {
	err := follow(strings.NewReader(`{"stream":"Step 1/9 : FROM scratch\n"}` + "\n" + `{"errorDetail":{"message":"no"},"error":"COPY failed: no such file"}`))
	if err == nil || !strings.Contains(err.Error(), "COPY failed") || !strings.Contains(err.Error(), "Step 1/9") {
		t.Errorf("error is %v", err)
	}
	if err := follow(strings.NewReader(`{"stream":"Step`)); err == nil {
		t.Error("an answer that breaks off passes")
	}
}

func TestWithoutAnEngineTheErrorSaysWhatToDo(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	var out, errOut bytes.Buffer
	if code := run(context.Background(), []string{"images"}, &out, &errOut); code != 1 {
		t.Errorf("exit status %d", code)
	}
	for _, want := range []string{"no Docker engine answers", "apt install docker.io", "DOCKER_HOST", "make up-local"} {
		if !strings.Contains(errOut.String(), want) {
			t.Errorf("no %q in %s", want, errOut.String())
		}
	}
}
