//go:build e2e

package e2e

import (
	"testing"
)

// An active and a passive, with each program that reads compose.yaml: each of them
// goes on alone when the other is killed, and no request of a shopper fails.
func TestAPairGoesOnWithEither(t *testing.T) {
	needImages(t)
	withEachCompose(t, func(t *testing.T, compose composeProgram) {
		p := newProject(t, compose)
		p.env = append(p.env, "PROFILE=pair")
		if out, code := command(t, root, p.env, "make", "up"); code != 0 {
			t.Fatalf("make up: exit status %d:\n%s", code, out)
		}
		s := goShopping(t, p.cart1, p.cart2)
		for _, row := range []struct{ lost, remains, port string }{
			{"terracotta-1", "terracotta-2", "MANAGEMENT_PORT"},  // the active
			{"terracotta-1", "terracotta-2", "MANAGEMENT_PORT"},  // the passive
			{"terracotta-2", "terracotta-1", "MANAGEMENT2_PORT"}, // the active
		} {
			s.goesOn()
			id := p.container(t, row.lost).ID
			if out, code := docker(t, root, "kill", id); code != 0 {
				t.Fatalf("docker kill: %s", out)
			}
			t.Logf("%s was killed: the longest request took %v", row.lost, s.goesOn())
			if row.lost == "terracotta-2" {
				out, code := p.run(t, "", "--env-file", "docker/pair.env", "run", "--rm", "tool", "status", "-n", "MyCluster", "-s", row.remains)
				if states := statesOf(out); code != 1 || states[row.lost] != "UNREACHABLE" || states[row.remains] != "ACTIVE" {
					t.Errorf("status ended with %d, and the servers are %v:\n%s", code, states, out)
				}
				mustContain(t, out, row.remains+":9410 warns: this server serves without the other one of the pair")
			}
			if out, code := docker(t, root, "start", id); code != 0 {
				t.Fatalf("docker start: %s", out)
			}
			p.mustBeReady(t, row.port)
		}
		s.goesOn()
		s.end()
		if out, code := command(t, root, p.env, "make", "down"); code != 0 {
			t.Fatalf("make down: %s", out)
		}
		if left, err := p.left(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("make down left %v (%v)", left, err)
		}
	})
}
