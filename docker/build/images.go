package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// connect returns a client of the engine that the docker command would use, or
// an error that says what to do.
func connect(ctx context.Context) (*client.Client, error) {
	opts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if os.Getenv("DOCKER_HOST") == "" {
		// The command line knows contexts (Docker Desktop, Colima ...), the client library doesn't.
		if host, err := exec.CommandContext(ctx, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}").Output(); err == nil {
			opts = append(opts, client.WithHost(strings.TrimSpace(string(host))))
		}
	}
	engine, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := engine.Ping(ctx); err != nil {
		engine.Close()
		return nil, fmt.Errorf("no Docker engine answers (%w)\n"+
			"Start Docker or install it (Debian and Ubuntu: apt install docker.io; else https://docs.docker.com/engine/install/),\n"+
			"or point DOCKER_HOST to an engine. The same demo as plain processes, without Docker: make up-local", err)
	}
	return engine, nil
}

// makeImages builds the kit for the engine's processor and from it the images.
func makeImages(ctx context.Context, o options) error {
	engine, err := connect(ctx)
	if err != nil {
		return err
	}
	defer engine.Close()
	if o.arch == "" {
		version, err := engine.ServerVersion(ctx)
		if err != nil {
			return fmt.Errorf("docker: %w", err)
		}
		o.arch = version.Arch
	}
	dir, err := makeKit(ctx, o)
	if err != nil {
		return err
	}
	for _, name := range images {
		if err := buildImage(ctx, engine, o, dir, name); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	return nil
}

func buildImage(ctx context.Context, engine *client.Client, o options, dir, name string) error {
	tag := name + ":" + o.version
	before, _ := engine.ImageInspect(ctx, tag) // none yet: an empty id
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(writeContext(writer, dir)) }() // ends when the engine has read it or reader is closed
	defer reader.Close()
	response, err := engine.ImageBuild(ctx, reader, build.ImageBuildOptions{
		Dockerfile: "docker/images/" + name + "/Dockerfile", Tags: []string{tag}, Remove: true, ForceRemove: true,
	})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := follow(response.Body); err != nil {
		return err
	}
	after, err := engine.ImageInspect(ctx, tag)
	if err != nil {
		return err
	}
	deed := "built"
	if before.ID == after.ID {
		deed = "up to date"
	}
	fmt.Fprintf(o.out, "image: %s %s (%.1f MB)\n", tag, deed, float64(after.Size)/1e6)
	removeNameless(ctx, engine, name)
	return nil
}

// removeNameless removes former builds of an image, which have lost their name
// to a newer one. Those that a container still uses the engine keeps, rightly.
func removeNameless(ctx context.Context, engine *client.Client, name string) {
	list, err := engine.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(
		filters.Arg("dangling", "true"), filters.Arg("label", "org.opencontainers.image.title="+name),
		filters.Arg("label", "org.opencontainers.image.source=https://"+module))})
	if err != nil {
		return // only room on the disk is at stake
	}
	for _, former := range list {
		_, _ = engine.ImageRemove(ctx, former.ID, image.RemoveOptions{PruneChildren: true})
	}
}

// follow reads the engine's build messages to their end and returns an error
// with all of them if the build failed.
func follow(body io.Reader) error {
	var said strings.Builder
	decoder := json.NewDecoder(bufio.NewReader(body))
	for {
		var message struct {
			Stream string `json:"stream"`
			Error  string `json:"error"`
		}
		err := decoder.Decode(&message)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the engine's answer breaks off: %w", err)
		case message.Error != "":
			return fmt.Errorf("%s\n%s", strings.TrimSpace(message.Error), strings.TrimSpace(said.String()))
		}
		said.WriteString(message.Stream)
	}
}

// abs returns the path as the engine and users want to read it.
func abs(name string) string {
	if full, err := filepath.Abs(name); err == nil {
		return full
	}
	return name
}
