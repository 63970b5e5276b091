package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
)

// ports are the published ports of compose.yaml: what each serves, the
// variable that changes it, its default there, and the service's profiles (none = all).
var ports = []struct{ service, variable, standard, profiles string }{
	{"terracotta", "TERRACOTTA_PORT", "9410", "single"},
	{"terracotta", "MANAGEMENT_PORT", "9540", "single"},
	{"terracotta-1", "TERRACOTTA_PORT", "9410", "pair triple"},
	{"terracotta-1", "MANAGEMENT_PORT", "9540", "pair triple"},
	{"terracotta-2", "TERRACOTTA2_PORT", "9411", "pair triple"},
	{"terracotta-2", "MANAGEMENT2_PORT", "9541", "pair triple"},
	{"terracotta-3", "TERRACOTTA3_PORT", "9412", "triple"},
	{"terracotta-3", "MANAGEMENT3_PORT", "9542", "triple"},
	{"cart-1", "CART1_PORT", "9081", ""},
	{"cart-2", "CART2_PORT", "9082", ""},
}

// envFile returns the file of the profile that PROFILE names, which compose
// reads instead of .env.
func envFile() (string, error) {
	switch profile := os.Getenv("PROFILE"); profile {
	case "", "single":
		return ".env", nil
	case "pair", "triple":
		return "docker/" + profile + ".env", nil
	default:
		return "", fmt.Errorf("PROFILE=%s: the profiles are single, pair and triple", profile)
	}
}

const (
	healthyWithin     = 2 * time.Minute
	alreadyConfigured = 28 // exit status of cluster-tool configure
)

// up builds the images, starts compose.yaml and waits until all is healthy.
// Where everything runs already it changes nothing.
func up(ctx context.Context, o options) error {
	engine, err := connect(ctx)
	if err != nil {
		return err
	}
	defer engine.Close()
	compose, err := findCompose(ctx)
	if err != nil {
		return err
	}
	file, err := envFile()
	if err != nil {
		return err
	}
	env := environment(file)
	list, err := engine.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return fmt.Errorf("docker: %w", err)
	}
	if err := foreign(list, env.project()); err != nil {
		return err
	}
	if err := checkPorts(list, env); err != nil {
		return err
	}
	if err := makeImages(ctx, o); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "start: %s up\n", strings.Join(compose, " "))
	var said bytes.Buffer // shown only if it fails: it is chatty
	quiet := options{out: &said, errOut: &said}
	args := append(compose[1:], "--env-file", file, "up", "--detach", "--remove-orphans")
	if err := command(ctx, quiet, []string{"TERRACOTTA_VERSION=" + o.version}, compose[0], args...); err != nil {
		return fmt.Errorf("compose up: %w\n%s", err, said.String())
	}
	if err := awaitHealthy(ctx, engine, o, env.project()); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "\nready:\n  cart 1       http://localhost:%s/cart/\n  cart 2       http://localhost:%s/cart/   (the same cart)\n"+
		"  terracotta   %s   (redis-cli -p %s, then TC.STATUS)\n  status       %s\n  %smake down removes it all\n",
		env.port("CART1_PORT"), env.port("CART2_PORT"), env.servers(), env.port("TERRACOTTA_PORT"), env.statusCommand(compose, file), env.prefix())
	return nil
}

// down removes containers, volumes and network, and says what it keeps.
func down(ctx context.Context, o options) error {
	engine, err := connect(ctx)
	if err != nil {
		return err
	}
	defer engine.Close()
	list, err := engine.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return fmt.Errorf("docker: %w", err)
	}
	file, err := envFile()
	if err != nil {
		return err
	}
	if err := foreign(list, environment(file).project()); err != nil {
		return err
	}
	compose, err := findCompose(ctx)
	if err != nil {
		return err
	}
	args := append(compose[1:], "--env-file", file, "down", "--volumes", "--remove-orphans")
	if err := command(ctx, o, nil, compose[0], args...); err != nil {
		return fmt.Errorf("compose down: %w", err)
	}
	fmt.Fprintf(o.out, "removed containers, volumes (with all sessions) and network\nkept: %s (key and licence), the images, dist/\n", abs(o.dev))
	return nil
}

// findCompose returns the command that COMPOSE names, else that of the plugin,
// else that of the older program.
func findCompose(ctx context.Context) ([]string, error) {
	if name := strings.Fields(os.Getenv("COMPOSE")); len(name) > 0 {
		if out, err := exec.CommandContext(ctx, name[0], append(name[1:len(name):len(name)], "version")...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("COMPOSE names %q, which does not work: %w\n%s", strings.Join(name, " "), err, out)
		}
		return name, nil
	}
	for _, name := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if exec.CommandContext(ctx, name[0], append(name[1:], "version")...).Run() == nil {
			return name, nil
		}
	}
	return nil, errors.New("neither `docker compose` nor `docker-compose` is installed: install the package docker-compose-plugin " +
		"(Docker's repository), docker-compose-v2 (Ubuntu) or docker-compose (Debian)")
}

// settings are what compose substitutes: a file, overridden by the environment.
type settings map[string]string

func environment(name string) settings {
	env := settings{}
	if file, err := os.Open(name); err == nil {
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "="); ok && !strings.HasPrefix(key, "#") {
				env[key] = value
			}
		}
	}
	for _, pair := range os.Environ() {
		if key, value, ok := strings.Cut(pair, "="); ok && value != "" {
			env[key] = value
		}
	}
	return env
}

func (env settings) project() string { return env["COMPOSE_PROJECT_NAME"] }

// prefix stands before another make that means the same demo.
func (env settings) prefix() (prefix string) {
	for _, name := range []string{"PROFILE", "COMPOSE_PROJECT_NAME"} {
		if value := os.Getenv(name); value != "" {
			prefix += name + "=" + value + " "
		}
	}
	return prefix
}

// statusCommand shows all servers, by the compose program that is there.
func (env settings) statusCommand(compose []string, file string) string {
	command := strings.Join(compose, " ")
	if file != ".env" {
		command += " --env-file " + file
	}
	if project := os.Getenv("COMPOSE_PROJECT_NAME"); project != "" {
		command = "COMPOSE_PROJECT_NAME=" + project + " " + command
	}
	return command + " run --rm tool status -n MyCluster -s " + cmp.Or(env["CONTACT_SERVER"], "terracotta")
}

// publishes says whether the service of a port is part of the profile.
func (env settings) publishes(profiles string) bool {
	return profiles == "" || slices.Contains(strings.Fields(profiles), env["COMPOSE_PROFILES"])
}

// servers are the addresses by which programs of this machine reach all of them.
func (env settings) servers() string {
	var list []string
	for _, p := range ports {
		if strings.HasPrefix(p.variable, "TERRACOTTA") && env.publishes(p.profiles) {
			list = append(list, "localhost:"+env.port(p.variable))
		}
	}
	return strings.Join(list, ",")
}

func (env settings) port(variable string) string {
	for _, p := range ports {
		if p.variable == variable && env[variable] == "" {
			return p.standard
		}
	}
	return env[variable]
}

func ofProject(project string) filters.Args {
	return filters.NewArgs(filters.Arg("label", projectLabel+"="+project))
}

// awaitHealthy waits until the servers are healthy and configure has ended
// well, and tells each change once. On failure it shows the last log lines.
func awaitHealthy(ctx context.Context, engine *client.Client, o options, project string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, healthyWithin, fmt.Errorf("not healthy within %v", healthyWithin))
	defer cancel()
	told := map[string]string{} // service -> state last told
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := engine.ContainerList(ctx, container.ListOptions{All: true, Filters: ofProject(project)})
		if err != nil {
			return fmt.Errorf("docker: %w", errors.Join(err, context.Cause(ctx)))
		}
		ready := len(list) > 0
		for _, c := range list {
			if c.Labels[oneOffLabel] == "True" {
				continue // of `compose run`: no part of the demo
			}
			info, err := engine.ContainerInspect(ctx, c.ID)
			if err != nil {
				ready = false // gone or being replaced: look again
				continue
			}
			service := c.Labels["com.docker.compose.service"]
			state, done, failed := judge(service, info.State)
			if told[service] != state {
				told[service] = state
				fmt.Fprintf(o.out, "  %-12s %s\n", service, state)
			}
			if failed && (info.RestartCount >= 3 || info.State.Status == "exited") { // the engine has tried again, or won't
				return fmt.Errorf("%s %s\n%s", service, state, lastLines(engine, c.ID))
			}
			ready = ready && done
		}
		if ready {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; look at: docker ps -a, docker logs NAME", context.Cause(ctx))
		}
	}
}

// judge says how a container is: what to tell, whether it is where it should
// be in the end, and whether it failed. Only configure has an end.
func judge(service string, state *container.State) (what string, done, failed bool) {
	switch {
	case state.Status == "exited" && state.ExitCode == 0 && service == "configure":
		return "done", true, false
	case state.ExitCode == alreadyConfigured && service == "configure" && state.Status != "running":
		// A renewed licence, or the volumes of another clone: what runs, runs on.
		return "changed nothing: the volumes hold a cluster with another licence (make down removes it and its sessions)", true, false
	case state.Status == "exited" || state.Status == "restarting":
		return fmt.Sprintf("failed with status %d", state.ExitCode), false, true
	case state.Status == "running" && state.Health == nil:
		return "running", false, false // no health check: configure
	case state.Status == "running":
		return state.Health.Status, state.Health.Status == container.Healthy, false
	default:
		return state.Status, false, false
	}
}

// lastLines returns what the container said last, on a context of its own
// because the caller's may be over.
func lastLines(engine *client.Client, id string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	logs, err := engine.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: "20"})
	if err != nil {
		return ""
	}
	defer logs.Close()
	var b bytes.Buffer
	_, _ = stdcopy.StdCopy(&b, &b, io.LimitReader(logs, 64<<10)) // what could be read is good enough
	return b.String()
}
