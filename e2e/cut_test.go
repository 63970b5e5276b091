//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Three servers, and two that stay available. The active one is paused and woken, then
// taken off the network and brought back: no request of a shopper fails, and each page
// is exactly what was acknowledged before. A pair that is cut is two: there the shopper
// leaves before the network is whole again, and what was acknowledged on the side whose data
// is set aside is told.
func TestTheCartOutlivesACutNetworkAndAPause(t *testing.T) {
	needImages(t)
	for _, profile := range []struct {
		name    string
		servers int
	}{{"triple", 3}, {"pair", 2}} {
		t.Run(profile.name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			p := newProject(t, composeProgram{command: []string{"docker-compose"}})
			if _, err := p.compose.release(); err != nil {
				missing(t, "docker-compose: "+err.Error())
			}
			p.env = append(p.env, "PROFILE="+profile.name)
			if out, code := command(t, root, p.env, "make", "up"); code != 0 {
				t.Fatalf("make up: exit status %d:\n%s", code, out)
			}
			s := goShopping(t, p.cart1, p.cart2)
			s.goesOn()
			names := []string{"terracotta-1", "terracotta-2", "terracotta-3"}[:profile.servers]
			p.mustBeWhole(t, names)
			for _, what := range []string{"paused", "cut off"} {
				s.goesOn()
				active := p.active(t, names)
				info := p.container(t, active)
				var nets []string
				for name := range info.NetworkSettings.Networks {
					nets = append(nets, name)
				}
				harm, heal := []string{"pause", info.ID}, []string{"unpause", info.ID}
				if what == "cut off" {
					harm, heal = []string{"network", "disconnect", nets[0], info.ID}, []string{"network", "connect", "--alias", active, nets[0], info.ID}
				}
				begin := time.Now()
				if out, code := docker(t, root, harm...); code != 0 {
					t.Fatalf("docker %v: %s", harm, out)
				}
				longest := s.goesOn()
				var rest []string
				for _, name := range names {
					if name != active {
						rest = append(rest, name)
					}
				}
				p.active(t, rest)
				t.Logf("%s was %s: the longest request took %v, healed after %v", active, what, max(longest, s.goesOn()), time.Since(begin))
				split := profile.name == "pair" && what == "cut off"
				if split {
					s.end()
				}
				if out, code := docker(t, root, heal...); code != 0 {
					t.Fatalf("docker %v: %s", heal, out)
				}
				p.mustBeWhole(t, names)
				if split {
					eventually(t, time.Minute, func() error { // on a busy machine it may not answer within a second
						if lost := p.metric(rest[0], lostMetric); lost == "" || lost == "0" {
							return fmt.Errorf("%s served alone and its data is not kept, and it says that it has lost %q changes", rest[0], lost)
						}
						return nil
					})
					s = goShopping(t, p.cart1, p.cart2)
				}
			}
			s.goesOn()
			s.end()
		})
	}
}

// mustBeWhole waits until one of the servers is active and the others are its
// passives, as they say themselves and as the active one knows them: one that has just
// woken does not know yet that it was removed meanwhile, and another fault before the
// resync is complete is a second one.
func (p project) mustBeWhole(t *testing.T, servers []string) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		states := map[string]string{}
		count := map[string]int{}
		for _, name := range servers {
			states[name] = p.state(name)
			count[states[name]]++
		}
		if count["ACTIVE"] != 1 || count["PASSIVE"] != len(servers)-1 {
			return fmt.Errorf("the servers are %v", states)
		}
		for _, active := range servers {
			for _, name := range servers {
				member := regexp.MustCompile(`(?m)^terracotta_member_state\{member="` + name + `",state="([^"]+)"\} 1$`)
				if known := p.metric(active, member); states[active] == "ACTIVE" && known != states[name] {
					return fmt.Errorf("%s is %s, and for the active server it is %q", name, states[name], known)
				}
			}
		}
		return nil
	})
}

// active waits until one of the servers is active, and returns its name.
func (p project) active(t *testing.T, servers []string) (active string) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		for _, name := range servers {
			if p.state(name) == "ACTIVE" {
				active = name
				return nil
			}
		}
		return fmt.Errorf("none of %v is active", servers)
	})
	return active
}

var (
	stateMetric = regexp.MustCompile(`(?m)^terracotta_state\{state="([^"]+)"\} 1$`)
	lostMetric  = regexp.MustCompile(`(?m)^terracotta_split_brain_lost_changes (\d+)$`)
)

func (p project) state(server string) string { return p.metric(server, stateMetric) }

// metric asks a server's management port for one, "" where it does not answer.
func (p project) metric(server string, pattern *regexp.Regexp) string {
	variable := "MANAGEMENT" + strings.TrimPrefix(strings.TrimPrefix(server, "terracotta-"), "1") + "_PORT="
	for _, pair := range p.env {
		port, ok := strings.CutPrefix(pair, variable)
		if !ok {
			continue
		}
		resp, err := (&http.Client{Timeout: time.Second}).Get("http://127.0.0.1:" + port + "/metrics")
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		if m := pattern.FindSubmatch(text); m != nil {
			return string(m[1])
		}
	}
	return ""
}
