package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
)

// ports are the published ports of compose.yaml: what each serves, the
// variable that changes it, and its default there.
var ports = []struct{ service, variable, standard string }{
	{"terracotta", "TERRACOTTA_PORT", "9410"},
	{"terracotta", "MANAGEMENT_PORT", "9540"},
	{"cart-1", "CART1_PORT", "9081"},
	{"cart-2", "CART2_PORT", "9082"},
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
	env := environment()
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
	args := append(compose[1:], "up", "--detach", "--remove-orphans")
	if err := command(ctx, quiet, []string{"TERRACOTTA_VERSION=" + o.version}, compose[0], args...); err != nil {
		return fmt.Errorf("compose up: %w\n%s", err, said.String())
	}
	if err := awaitHealthy(ctx, engine, o, env.project()); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "\nready:\n  cart 1       http://localhost:%s/cart/\n  cart 2       http://localhost:%s/cart/   (the same cart)\n"+
		"  terracotta   localhost:%s   (redis-cli -p %[3]s, then TC.STATUS)\n  %[4]smake down removes it all\n",
		env.port("CART1_PORT"), env.port("CART2_PORT"), env.port("TERRACOTTA_PORT"), env.prefix())
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
	if err := foreign(list, environment().project()); err != nil {
		return err
	}
	compose, err := findCompose(ctx)
	if err != nil {
		return err
	}
	args := append(compose[1:], "down", "--volumes", "--remove-orphans")
	if err := command(ctx, o, nil, compose[0], args...); err != nil {
		return fmt.Errorf("compose down: %w", err)
	}
	fmt.Fprintf(o.out, "removed containers, volumes (with all sessions) and network\nkept: %s (key and licence), the images, dist/\n", abs(devDir))
	return nil
}

// findCompose returns the command of the plugin or else of the older program.
func findCompose(ctx context.Context) ([]string, error) {
	for _, name := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if exec.CommandContext(ctx, name[0], append(name[1:], "version")...).Run() == nil {
			return name, nil
		}
	}
	return nil, errors.New("neither `docker compose` nor `docker-compose` is installed: install the package docker-compose-plugin " +
		"(Docker's repository), docker-compose-v2 (Ubuntu) or docker-compose (Debian)")
}

// settings are what compose substitutes: .env, overridden by the environment.
type settings map[string]string

func environment() settings {
	env := settings{}
	if file, err := os.Open(".env"); err == nil {
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
func (env settings) prefix() string {
	if name := os.Getenv("COMPOSE_PROJECT_NAME"); name != "" {
		return "COMPOSE_PROJECT_NAME=" + name + " "
	}
	return ""
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
