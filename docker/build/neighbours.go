package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// Labels that compose, old and new, puts on what it makes.
const (
	projectLabel = "com.docker.compose.project"
	folderLabel  = "com.docker.compose.project.working_dir"
	oneOffLabel  = "com.docker.compose.oneoff" // "True": made by compose run
)

// foreign returns an error if the project's containers were made from another
// folder that is still there: two clones have the same project name, and each
// would replace, or remove, the containers and sessions of the other.
func foreign(list []container.Summary, project string) error {
	here, err := os.Stat(".")
	if err != nil {
		return err
	}
	for _, c := range list {
		folder := c.Labels[folderLabel]
		if c.Labels[projectLabel] != project || folder == "" {
			continue
		}
		if there, err := os.Stat(folder); err == nil && !os.SameFile(here, there) {
			return fmt.Errorf("the demo %q that is on this engine was started in another folder, %s\n"+
				"Remove it from there (make down), or run a second one beside it, with another name and other ports:\n"+
				"  COMPOSE_PROJECT_NAME=two TERRACOTTA_PORT=9510 MANAGEMENT_PORT=9640 CART1_PORT=9083 CART2_PORT=9084 make up\n"+
				"  COMPOSE_PROJECT_NAME=two make down", project, folder)
		}
	}
	return nil
}

// checkPorts names every port that somebody else has, who it is as far as the
// engine knows, and the variable to set.
func checkPorts(list []container.Summary, env settings) error {
	holder := holders(list)
	var taken, instead []string
	for _, p := range ports {
		if !env.publishes(p.profiles) {
			continue
		}
		port := env.port(p.variable)
		c, held := holder[port]
		if held && c.Labels[projectLabel] == env.project() {
			continue
		}
		if held {
			name := strings.TrimPrefix(c.Names[0], "/")
			taken = append(taken, fmt.Sprintf("port %s of %s is taken by the container %s (docker stop %[3]s would free it)", port, p.service, name))
		} else if err := tryPort(port); err != nil {
			taken = append(taken, fmt.Sprintf("port %s of %s is taken or wrong: %v", port, p.service, err))
		} else {
			continue
		}
		instead = append(instead, p.variable+"="+another())
	}
	if len(taken) == 0 {
		return nil
	}
	return fmt.Errorf("%s\nChoose other ports: %s make up", strings.Join(taken, "\n"), strings.Join(instead, " "))
}

// holders maps published ports of this machine to the containers that have them.
func holders(list []container.Summary) map[string]container.Summary {
	holder := map[string]container.Summary{}
	for _, c := range list {
		for _, p := range c.Ports {
			if p.PublicPort != 0 && len(c.Names) > 0 {
				holder[fmt.Sprint(p.PublicPort)] = c
			}
		}
	}
	return holder
}

func tryPort(port string) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err == nil {
		listener.Close()
	}
	return err
}

// another returns a port that is free now.
func another() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "PORT"
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String()) // an address of its own making
	return port
}
