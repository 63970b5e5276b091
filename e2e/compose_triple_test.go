//go:build e2e

package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// The README's three servers, with each program that reads compose.yaml: one is
// killed, another one ends in order, and no request of a shopper fails.
func TestTheREADMEsThreeServers(t *testing.T) {
	needImages(t)
	withEachCompose(t, func(t *testing.T, compose composeProgram) {
		p := newProject(t, compose)
		var s *shopper
		ran := 0
		for _, line := range commands(t, "README.md") {
			if !ofThreeServers(line) {
				continue
			}
			ran++
			out, code := command(t, root, p.env, "sh", "-ec", strings.ReplaceAll(line, "docker compose ", strings.Join(compose.command, " ")+" "))
			switch verb := verbOf(line); {
			case verb == "status" && code == 1: // one was killed
				mustContain(t, out, "Total number of servers: 3", "terracotta-2:9410, terracotta-3:9410 warn: development key ")
				if states := statesOf(out); states["terracotta-1"] != "UNREACHABLE" {
					t.Errorf("terracotta-1 was killed, and the servers are %v", states)
				}
			case code != 0:
				t.Fatalf("%s\nexit status %d:\n%s", line, code, out)
			case verb == "up":
				mustContain(t, out, "PROFILE=triple ", "make down removes it all",
					" --env-file docker/triple.env run --rm tool status -n MyCluster -s terracotta-1\n")
				s = goShopping(t, p.cart1, p.cart2)
				s.goesOn()
			case verb == "kill":
				t.Logf("terracotta-1 was killed: the longest request took %v", s.goesOn())
			case verb == "start":
				p.mustBeReady(t, "MANAGEMENT_PORT")
			case verb == "down":
				t.Error("the README goes on after make down")
			}
		}
		if ran != 4 {
			t.Fatalf("ran %d commands of the README's three servers, want 4", ran)
		}

		// The one that is active now is stopped.
		out := p.mustRun(t, "--env-file", "docker/triple.env", "run", "--rm", "tool", "status", "-n", "MyCluster", "-s", "terracotta-1")
		states := statesOf(out)
		if states["terracotta-1"] != "PASSIVE" || len(states) != 3 {
			t.Fatalf("terracotta-1 was killed and is back, and the servers are %v:\n%s", states, out)
		}
		for try := 1; ; try++ { // once, but on a machine so busy that nobody takes over in time
			active := p.active(t, []string{"terracotta-1", "terracotta-2", "terracotta-3"})
			s.goesOn()
			id := p.container(t, active).ID
			if out, code := docker(t, root, "stop", id); code != 0 {
				t.Fatalf("docker stop: %s", out)
			}
			t.Logf("%s stopped: the longest request took %v", active, s.goesOn())
			said, _ := docker(t, root, "logs", id)
			if out, code := docker(t, root, "start", id); code != 0 {
				t.Fatalf("docker start: %s", out)
			}
			p.mustBeReady(t, "MANAGEMENT"+strings.TrimPrefix(strings.TrimPrefix(active, "terracotta-"), "1")+"_PORT")
			s.goesOn()
			if strings.Contains(said, "another server has taken over") {
				break
			}
			if try == 3 {
				t.Fatalf("it did not hand over:\n%s", said)
			}
		}
		s.end()
		if out, code := command(t, root, append(p.env, "PROFILE=triple"), "make", "down"); code != 0 {
			t.Fatalf("make down: %s", out)
		}
		if left, err := p.left(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("make down left %v (%v)", left, err)
		}
	})
}

// ofThreeServers says whether a command of the README is of its section about them.
func ofThreeServers(line string) bool { return strings.Contains(line, "triple") }

// verbOf returns what such a command does.
func verbOf(line string) string {
	return regexp.MustCompile(`\b(up|down|kill|start|status)\b`).FindString(line)
}

var memberLine = regexp.MustCompile(`(?m)^\| (terracotta-\d) +\| \S+ +\| (\S+) +\|`)

// statesOf reads each server's state from the table of cluster-tool status.
func statesOf(out string) map[string]string {
	states := map[string]string{}
	for _, m := range memberLine.FindAllStringSubmatch(out, -1) {
		states[m[1]] = m[2]
	}
	return states
}

// mustBeReady waits until the server with that management port could take over, or serves.
func (p project) mustBeReady(t *testing.T, variable string) {
	t.Helper()
	for _, pair := range p.env {
		if port, ok := strings.CutPrefix(pair, variable+"="); ok {
			eventually(t, 2*time.Minute, status("http://127.0.0.1:"+port+"/ready", 200))
		}
	}
}
