//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMakeUpTwiceAndDown(t *testing.T) {
	needImages(t)
	withEachCompose(t, func(t *testing.T, compose composeProgram) {
		p := newProject(t, compose)
		document := filepath.Join(root, ".dev/licenses/license.xml")
		licence, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		c := newCustomer(t)
		for round := range 2 {
			begin := time.Now()
			out, code := command(t, root, p.env, "make", "up")
			if code != 0 {
				t.Fatalf("make up, round %d: exit status %d:\n%s", round+1, code, out)
			}
			t.Logf("make up, round %d: %v", round+1, time.Since(begin).Round(100*time.Millisecond))
			mustContain(t, out, "start: "+strings.Join(compose.command, " ")+" up\n",
				"http://localhost:"+port(p.cart1)+"/cart/", "http://localhost:"+port(p.cart2)+"/cart/")
			if round == 0 {
				c.add(p.cart1, "Twin peaks tapes")
			}
			c.sees(p.cart2, "/Cart/", "Twin peaks tapes")
		}
		if again, err := os.ReadFile(document); err != nil || string(again) != string(licence) {
			t.Errorf("the licence was not kept (%v)", err)
		}
		p.mustHaveNamedVolumesOnly(t)
		out, code := command(t, root, p.env, "make", "down")
		if code != 0 {
			t.Fatalf("make down: exit status %d:\n%s", code, out)
		}
		mustContain(t, out, "kept:", ".dev")
		if left, err := p.left(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("make down left %v (%v)", left, err)
		}
	})
}

// shopping is a project that is up, and a customer with a book in the cart.
func shopping(t *testing.T, compose composeProgram) (project, *customer) {
	t.Helper()
	p := newProject(t, compose)
	p.mustRun(t, "up", "--detach")
	p.mustBeUp(t)
	c := newCustomer(t)
	c.add(p.cart1, "Love life")
	return p, c
}

func TestBareComposeUp(t *testing.T) {
	needImages(t)
	withEachCompose(t, func(t *testing.T, compose composeProgram) {
		p, c := shopping(t, compose)
		c.sees(p.cart2, "/cart/", "Love life")

		// All that the container with the licence sees of this folder.
		mounts := p.container(t, "configure").Mounts
		if len(mounts) != 1 || mounts[0].Source != filepath.Join(root, ".dev/licenses/license.xml") || mounts[0].RW {
			t.Errorf("configure has mounts %+v, want the licence alone, read-only", mounts)
		}

		// The tool of the profile runs when it is asked for, and up has not started it.
		p.mustHaveNamedVolumesOnly(t)
		mustContain(t, p.mustRun(t, "run", "--rm", "tool", "status", "-n", "MyCluster", "-s", "terracotta"), "MyCluster", "ACTIVE")
		mustContain(t, p.mustRun(t, "run", "--rm", "tool", "license", "verify", "/licenses/license.xml"), "verified, signed with key dev-")

		// All containers made anew on the same volumes: the cart stays.
		p.mustRun(t, "up", "--detach", "--force-recreate")
		p.mustBeUp(t)
		c.sees(p.cart1, "/cart/", "Love life")
		p.mustRun(t, "down", "--volumes")
	})
}

// on-failure: what crashes is started again, what was stopped stays so.
func TestComposeStartsAgainWhatCrashed(t *testing.T) {
	needImages(t)
	withEachCompose(t, func(t *testing.T, compose composeProgram) {
		p, c := shopping(t, compose)
		for _, service := range []string{"terracotta", "cart-1"} {
			// A Go program that nobody prepared for SIGQUIT dies of it with status 2. After
			// SIGKILL the engine would hold that we had stopped it.
			id := p.container(t, service).ID
			if out, code := docker(t, root, "kill", "--signal", "QUIT", id); code != 0 {
				t.Fatalf("docker kill: %s", out)
			}
			eventually(t, 2*time.Minute, func() error {
				if now := p.container(t, service); now.RestartCount != 1 || !now.State.Running {
					return fmt.Errorf("%s is %s, started again %d times", service, now.State.Status, now.RestartCount)
				}
				return nil
			})
		}
		p.mustBeUp(t)
		c.sees(p.cart1, "/cart/", "Love life")

		p.mustRun(t, "run", "--rm", "tool", "stop", "-n", "MyCluster", "-s", "terracotta")
		eventually(t, 2*time.Minute, func() error {
			if now := p.container(t, "terracotta"); now.State.Status != "exited" || now.State.ExitCode != 0 {
				return fmt.Errorf("terracotta is %s with status %d", now.State.Status, now.State.ExitCode)
			}
			return nil
		})
		p.mustRun(t, "down", "--volumes")
	})
}

func TestTwoProjectsSideBySide(t *testing.T) {
	needImages(t)
	withEachCompose(t, func(t *testing.T, compose composeProgram) {
		one, two := newProject(t, compose), newProject(t, compose)
		c := newCustomer(t)
		for _, p := range []project{one, two} {
			p.mustRun(t, "up", "--detach")
		}
		one.mustBeUp(t)
		two.mustBeUp(t)
		c.add(one.cart1, "Love life")
		c.sees(one.cart2, "/cart/", "Love life")
		d := newCustomer(t)
		d.add(two.cart1, "NIN CD")
		d.sees(two.cart2, "/cart/", "NIN CD")
		c.sees(two.cart1, "/cart/") // nothing of the other cluster's session

		one.mustRun(t, "down", "--volumes")
		if left, err := one.left(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("down left %v (%v)", left, err)
		}
		d.sees(two.cart1, "/cart/", "NIN CD")
		two.mustRun(t, "down", "--volumes")
	})
}

// A missing licence is named, and no folder is made in its place: that would be
// root's, and in the way of the licence.
func TestComposeNamesAMissingLicence(t *testing.T) {
	needImages(t)
	withEachCompose(t, func(t *testing.T, compose composeProgram) {
		p, dir := newProject(t, compose), t.TempDir()
		for _, name := range []string{"compose.yaml", ".env"} {
			text, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out, code := p.run(t, dir, "up", "--detach")
		if code == 0 {
			t.Error("compose up succeeded")
		}
		mustContain(t, out, "does not exist", ".dev/licenses/license.xml")
		if _, err := os.Lstat(filepath.Join(dir, ".dev")); err == nil {
			t.Error("a folder .dev was made")
		}
		if out, code := p.run(t, dir, "down", "--volumes"); code != 0 {
			t.Errorf("compose down: %s", out)
		}
	})
}

func TestMakeUpNamesTakenPorts(t *testing.T) {
	needImages(t)
	withEachCompose(t, func(t *testing.T, compose composeProgram) {
		p := newProject(t, compose)
		taken, err := net.Listen("tcp", p.cart1)
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		out, code := command(t, root, p.env, "make", "up")
		if code == 0 {
			t.Error("make up succeeded")
		}
		mustContain(t, out, "port "+port(p.cart1)+" of cart-1 is taken", "Choose other ports: CART1_PORT=")
		if left, err := p.left(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("it left %v (%v)", left, err)
		}
	})
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
