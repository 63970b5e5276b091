package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// ports are those of compose.yaml: what each serves, the variable that changes
// it, and its default.
var ports = []struct{ service, variable, standard string }{
	{"terracotta", "TERRACOTTA_PORT", "9410"},
	{"terracotta", "MANAGEMENT_PORT", "9540"},
	{"cart-1", "CART1_PORT", "9081"},
	{"cart-2", "CART2_PORT", "9082"},
}

// folders say where the kit keeps each program.
var folders = map[string]string{ // program -> folder below the kit's root
	"terracotta-server": "server/bin",
	"cluster-tool":      "cluster-tool/bin",
	"cart-example":      "sessions/code-samples/cart/bin",
}

// demo is what the commands share.
type demo struct {
	environ                []string
	data, license, trusted string // as the flags, absolute after settle
	out                    *output

	bin string // folder of this program
	kit string // root of the kit around it, "" = none
}

// settle finds out where everything lies.
func (d *demo) settle() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	d.bin = filepath.Dir(self)
	if root, in := strings.CutSuffix(d.bin, filepath.FromSlash("/"+folders["cart-example"])); in {
		d.kit = root
	}
	if d.data == "" {
		d.data = filepath.Join(filepath.Dir(d.bin), "data")
	}
	for _, path := range []*string{&d.data, &d.license, &d.trusted} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return nil
}

// program returns the path of one of our programs.
func (d *demo) program(name string) string {
	file := name
	if runtime.GOOS == "windows" {
		file += ".exe"
	}
	if d.kit != "" {
		return filepath.Join(d.kit, filepath.FromSlash(folders[name]), file)
	}
	return filepath.Join(d.bin, file)
}

// findLicense returns the licence, which must be there before anything starts.
func (d *demo) findLicense() (string, error) {
	if d.license != "" {
		if _, err := os.Stat(d.license); err != nil {
			return "", err
		}
		return d.license, nil
	}
	for _, name := range []string{"license.xml", "terracotta-license.key"} {
		path := filepath.Join(d.kit, name)
		if _, err := os.Stat(path); err == nil && d.kit != "" {
			return path, nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if d.kit == "" {
		return "", &failure{errors.New("there is no kit around this program, so no licence either"), "name one with --license FILE, or run make up-local"}
	}
	return "", &failure{fmt.Errorf("no licence in %q", d.kit),
		"copy yours there as license.xml or terracotta-license.key; for a kit of make kit it is .dev/licenses/license.xml of the checkout"}
}

// variable returns a variable of the environment, "" = not set.
func (d *demo) variable(name string) string {
	for _, line := range d.environ {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

func (d *demo) port(variable string) string {
	if set := d.variable(variable); set != "" {
		return set
	}
	for _, p := range ports {
		if p.variable == variable {
			return p.standard
		}
	}
	panic("demo: no port is called " + variable)
}

// checkPorts names every port of the services that can't be had, and the
// variable that chooses another.
func (d *demo) checkPorts(services ...string) error {
	var taken, instead []string
	used := map[string]string{} // port -> variable
	for _, p := range ports {
		if !strings.Contains(" "+strings.Join(services, " ")+" ", " "+p.service+" ") {
			continue
		}
		port := d.port(p.variable)
		problem := ""
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			problem = fmt.Sprintf("%s=%q is not a port from 1 to 65535", p.variable, port)
		} else if other, twice := used[port]; twice {
			problem = fmt.Sprintf("%s and %s are both %s", other, p.variable, port)
		} else if listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err != nil {
			problem = fmt.Sprintf("port %s of %s is taken or forbidden: %v", port, p.service, err)
		} else {
			listener.Close()
		}
		used[port] = p.variable
		if problem != "" {
			taken = append(taken, problem)
			instead = append(instead, p.variable+"="+another())
		}
	}
	if len(taken) == 0 {
		return nil
	}
	return &failure{errors.New(strings.Join(taken, "\n")),
		"does this demo run already? else choose other ports in the environment: " + strings.Join(instead, " ")}
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
