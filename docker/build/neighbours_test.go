package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/terracotta-go/terracotta/internal/testcluster"
)

func demo(project, folder string) container.Summary {
	return container.Summary{Labels: map[string]string{projectLabel: project, folderLabel: folder}}
}

func TestADemoOfAnotherCloneIsLeftAlone(t *testing.T) {
	here, other := t.TempDir(), t.TempDir()
	t.Chdir(here)
	link := filepath.Join(other, "link")
	if err := os.Symlink(here, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		list []container.Summary
		want string
	}{
		"none":            {nil, ""},
		"ours":            {[]container.Summary{demo("terracotta", here)}, ""},
		"ours by a link":  {[]container.Summary{demo("terracotta", link)}, ""},
		"another":         {[]container.Summary{demo("terracotta", here), demo("terracotta", other)}, other},
		"another, gone":   {[]container.Summary{demo("terracotta", filepath.Join(other, "gone"))}, ""},
		"another project": {[]container.Summary{demo("two", other)}, ""},
	} {
		err := foreign(c.list, "terracotta")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestATakenPortIsToldWithItsHolder(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, taken, _ := net.SplitHostPort(busy.Addr().String())
	env := settings{"COMPOSE_PROJECT_NAME": "terracotta", "COMPOSE_PROFILES": "single", "TERRACOTTA_PORT": taken,
		"MANAGEMENT_PORT": testcluster.FreePort(t), "CART1_PORT": "1081", "CART2_PORT": "1082"}
	holds := func(project, name string, port uint16) container.Summary {
		return container.Summary{Names: []string{"/" + name}, Labels: map[string]string{projectLabel: project},
			Ports: []container.Port{{PrivatePort: 9540}, {PrivatePort: 8080, PublicPort: port}}}
	}
	err = checkPorts([]container.Summary{holds("terracotta", "ours", 1081), holds("", "shop", 1082)}, env)
	if err == nil {
		t.Fatal("a taken port passes")
	}
	text := err.Error()
	for _, want := range []string{"port " + taken + " of terracotta is taken or wrong", "port 1082 of cart-2 is taken by the container shop",
		"docker stop shop", "TERRACOTTA_PORT=", "CART2_PORT="} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	for _, not := range []string{"port 1081 ", "MANAGEMENT_PORT", "CART1_PORT"} { // another port may contain the digits
		if strings.Contains(text, not) {
			t.Errorf("%q in %s", not, text)
		}
	}
}

func TestInterruptedIsNoFault(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errOut bytes.Buffer
	if code := run(ctx, []string{"up"}, &out, &errOut); code != exitInterrupted {
		t.Errorf("exit status %d", code)
	}
	if text := errOut.String(); !strings.Contains(text, "make up goes on") || strings.Contains(text, "Error") {
		t.Errorf("said %s", text)
	}
}
