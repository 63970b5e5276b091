package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Scripts live by these numbers and names: they never change.
func TestExitCodes(t *testing.T) {
	want := "SUCCESS 0,PARTIAL_FAILURE 1,FAILURE 2,EULA_NOT_ACCEPTED 10,ALREADY_CONFIGURED 28,BAD_REQUEST 40,NOT_FOUND 44," +
		"HANDSHAKE_OR_SECURITY_ERROR 48,CONFLICT 49,INTERNAL_ERROR 50,NOT_IMPLEMENTED 51,BAD_GATEWAY 52"
	var got []string
	for _, c := range codes {
		got = append(got, fmt.Sprintf("%s %d", c.Name, c.Number))
		if c.Means == "" {
			t.Errorf("%s means nothing", c.Name)
		}
	}
	if strings.Join(got, ",") != want {
		t.Errorf("got %v", got)
	}
}

func TestUnsureIsToldSo(t *testing.T) {
	refusal := &wire.Error{Word: wire.ErrUnsure, Text: "the stripe did not answer in time: it is not known whether the change was made; ask again"}
	if e := asToolError(refusal); e.Code != wireCodes[wire.ErrUnsure] || e.Code.Number != 50 || !strings.Contains(e.Message, "it is not known whether the change was made; ask again") {
		t.Errorf("exit %d: %s", e.Code.Number, e.Message)
	}
}

func TestEveryWireWordHasAnExitCode(t *testing.T) {
	for _, w := range wire.Words {
		if c := wireCodes[w.Word]; c.Number == 0 {
			t.Errorf("%s has none", w.Word)
		}
	}
	if len(wireCodes) != len(wire.Words) {
		t.Errorf("%d rows for %d words", len(wireCodes), len(wire.Words))
	}
}

func TestReport(t *testing.T) {
	for _, row := range []struct {
		err  error
		exit int
		want string
	}{
		{nil, 0, ""},
		{fail(codeConflict, "it is %q", "so").hint("do this"), 49, "Error (CONFLICT): it is \"so\"\nHint: do this\n"},
		{fmt.Errorf("outer: %w", fail(codeNotFound, "inner")), 44, "Error (NOT_FOUND): inner\n"},
		{&wire.Error{Word: wire.ErrLicense, Text: "too small"}, 40, "Error (BAD_REQUEST): too small\n"},
		{context.Canceled, 2, "Error (FAILURE): interrupted\n"},
		{errors.New("boom"), 2, "Error (FAILURE): boom\n"},
	} {
		var b strings.Builder
		if exit := report(&b, row.err); exit != row.exit || b.String() != row.want {
			t.Errorf("%v: exit %d, %q", row.err, exit, b.String())
		}
	}
}

// Docs and code name the same codes, settings and commands.
func TestDocsNameWhatIsThere(t *testing.T) {
	b, err := os.ReadFile("../../docs/cluster-tool.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, c := range codes {
		if row := fmt.Sprintf("| %s | %d | %s |", c.Name, c.Number, c.Means); !strings.Contains(doc, row) {
			t.Errorf("no row %s", row)
		}
	}
	for _, cmd := range new(tool).rootCommand().Commands() {
		if cmd.Name() != "completion" && !strings.Contains(doc, "`"+cmd.Name()) {
			t.Errorf("command %s is not told of", cmd.Name())
		}
	}
	for _, setting := range []string{
		"LICENSE_URL", "LICENSE_FILE", "LICENSE_SHA256", "LICENSE_CA", "LICENSE_ALLOW_HTTP", "LICENSE_TOKEN_FILE", "LICENSE_CLIENT_CERT", "LICENSE_CLIENT_KEY",
	} {
		if !strings.Contains(doc, "`"+setting) {
			t.Errorf("setting %s is not told of", setting)
		}
	}
	for _, number := range []string{
		fmt.Sprintf("%d redirects", maxRedirects), fmt.Sprintf("%d tries", maxTries), fmt.Sprintf("%d seconds", int(maxPause.Seconds())),
	} {
		if !strings.Contains(doc, number) {
			t.Errorf("the docs lack %q", number)
		}
	}
}

func TestKeepLicense(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	file := filepath.Join(dir, "license.xml")
	for _, doc := range []string{"one", "one", "another"} {
		if err := keepLicense(file, []byte(doc)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != doc {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}

// A directory where the file should be: nothing is written, nothing left behind.
func TestKeepLicenseLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "license.xml"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := keepLicense(filepath.Join(dir, "license.xml"), []byte("one"))
	checkFailure(t, err, codeBadRequest, dir, "running as user")
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

func TestCannotKeepLicense(t *testing.T) {
	for cause, want := range map[error]string{
		syscall.EACCES: "chown", syscall.EROFS: "read-only", syscall.ENOSPC: "make room", syscall.EBUSY: "mount its folder",
	} {
		e := asToolError(cannotKeep("/licenses/license.xml", &os.PathError{Op: "open", Path: "x", Err: cause}))
		if e.Code != codeBadRequest || !strings.Contains(e.Message, "the licence was fetched, but ") || !strings.Contains(e.Message, "/licenses") ||
			cause != syscall.EBUSY && !strings.Contains(e.Message, "cannot be kept in ") || !strings.Contains(e.Hint, want) {
			t.Errorf("%v: %s (%s)", cause, e.Message, e.Hint)
		}
	}
}

// The few words by which progress lines and errors say why a server is not there.
func TestReason(t *testing.T) {
	for want, err := range map[string]error{
		"":                           nil,
		"connection refused":         &dialError{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}},
		"host name not found":        &net.DNSError{Err: "no such host", IsNotFound: true},
		"host name lookup: timeout":  &net.DNSError{Err: "timeout", IsTimeout: true},
		"connection reset":           fmt.Errorf("answer to HELLO: %w", syscall.ECONNRESET),
		"no route to the host":       syscall.EHOSTUNREACH,
		"network unreachable":        syscall.ENETUNREACH,
		"no answer in time":          fmt.Errorf("ask: %w", context.DeadlineExceeded),
		"wrong password":             &client.UnavailableError{Servers: []client.Attempt{{Server: "a:1", Err: &wire.Error{Word: wire.ErrWrongPass, Text: "wrong password"}}}},
		"one; two":                   errors.New("one\ntwo"),
		"answer to HELLO: strange":   &client.UnavailableError{Cause: context.DeadlineExceeded, Servers: []client.Attempt{{Err: fmt.Errorf("answer to HELLO: %w", errors.New("strange"))}}},
		"it is stopping, come later": &wire.Error{Word: wire.ErrStopping, Text: "it is stopping, come later"},
	} {
		if got := reason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
