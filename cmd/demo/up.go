package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	clusterName       = "MyCluster"
	readyWithin       = time.Minute
	stopWithin        = 10 * time.Second // then a process is killed
	alreadyConfigured = 28               // exit status of cluster-tool configure
)

// colors are those of the carts' boxes.
var colors = map[string]string{"cart-1": "goldenrod", "cart-2": "darkseagreen"}

// up runs everything until ctx ends. The order of the start: refuse what needs
// no process, then the server, configure, the carts. The stop goes the other
// way, so that the carts' last words reach the server.
func (d *demo) up(ctx context.Context) error {
	if err := d.checkPorts("terracotta", "cart-1", "cart-2"); err != nil {
		return err
	}
	license, err := d.findLicense()
	if err != nil {
		return err
	}
	server, err := d.start("terracotta", d.serverEnvironment(), d.program("terracotta-server"), d.serverArguments()...)
	if err != nil {
		return err
	}
	defer server.stop()
	if err := d.configure(ctx, license, server); err != nil || ctx.Err() != nil {
		return err
	}
	return d.runCarts(ctx, server)
}

// carts runs the two carts of a server that is there.
func (d *demo) carts(ctx context.Context) error {
	if err := d.checkPorts("cart-1", "cart-2"); err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", d.address(), 2*time.Second)
	if err != nil {
		return &failure{fmt.Errorf("no server answers: %w", err), "start it first: bin/start-sample-server.sh"}
	}
	conn.Close()
	return d.runCarts(ctx, nil)
}

// runCarts starts the carts, says where they are, and waits until ctx or one of
// the processes ends. server is nil where it is not ours to watch.
func (d *demo) runCarts(ctx context.Context, server *process) error {
	all := []*process{}
	if server != nil {
		all = append(all, server)
	}
	var carts []*process
	defer func() { stopAll(carts) }()
	for _, c := range [][3]string{{"cart-1", "CART1_PORT", "CART2_PORT"}, {"cart-2", "CART2_PORT", "CART1_PORT"}} {
		p, err := d.start(c[0], d.environ, d.program("cart-example"), d.cartArguments(c[0], d.port(c[1]), d.port(c[2]))...)
		if err != nil {
			return err
		}
		carts, all = append(carts, p), append(all, p)
	}
	for i, variable := range []string{"CART1_PORT", "CART2_PORT"} {
		if err := awaitReady(ctx, "http://127.0.0.1:"+d.port(variable)+"/ready", carts[i]); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		d.out.say("\nready:\n  cart 1       http://localhost:%s/cart/\n  cart 2       http://localhost:%s/cart/   (the same cart)\n"+
			"  terracotta   localhost:%s   (redis-cli -p %[3]s, then TC.STATUS)\n  Ctrl-C stops it all\n\n",
			d.port("CART1_PORT"), d.port("CART2_PORT"), d.port("TERRACOTTA_PORT"))
	}
	err := awaitEnd(ctx, all)
	if err == nil {
		d.out.say("stopping\n")
	}
	return err
}

// server starts the server in the background and configures it. What it says
// goes to a file.
func (d *demo) server(ctx context.Context) error {
	if err := d.checkPorts("terracotta"); err != nil {
		return err
	}
	license, err := d.findLicense()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.data, 0o750); err != nil {
		return err
	}
	logFile := filepath.Join(d.data, "terracotta-server.log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer log.Close()
	d.out.say("starting the server; its log is %s\n", logFile)
	server, err := startAlone(log, d.serverEnvironment(), d.program("terracotta-server"), d.serverArguments()...)
	if err != nil {
		return err
	}
	if err := d.configure(ctx, license, server); err != nil {
		server.stop()
		return &failure{err, "the server's log may say more: " + logFile}
	}
	d.out.say("the server runs on localhost:%s; next: bin/start-sample.sh; bin/stop-sample-server.sh stops it\n", d.port("TERRACOTTA_PORT"))
	return nil
}

// stop asks the server to stop; its sessions stay on the disk.
func (d *demo) stop(ctx context.Context) error {
	p, err := d.start("stop", d.toolEnvironment(), d.program("cluster-tool"), "-t", "30000", "stop", "-s", d.address())
	if err != nil {
		return err
	}
	if err := awaitExit(ctx, p); err != nil {
		return fmt.Errorf("cluster-tool stop: %w", err)
	}
	return nil
}

// configure runs the cluster tool, which waits for the server by itself. On a
// cluster that is configured already it changes nothing.
func (d *demo) configure(ctx context.Context, license string, server *process) error {
	p, err := d.start("configure", d.toolEnvironment(), d.program("cluster-tool"),
		"-t", "60000", "configure", "-n", clusterName, "-l", license, "-s", d.address())
	if err != nil {
		return err
	}
	defer p.stop()
	select {
	case <-p.ended:
	case <-server.ended:
		return fmt.Errorf("%s has ended: %w", server.name, orUnexpected(server.err))
	case <-ctx.Done():
		return nil
	}
	switch {
	case p.status() == alreadyConfigured:
		d.out.say("configure changed nothing: %s holds a cluster with another licence, which runs on (remove the folder for a new one)\n", d.data)
		return nil
	case p.err != nil:
		return fmt.Errorf("cluster-tool configure: %w", p.err)
	}
	return nil
}

func (d *demo) address() string { return net.JoinHostPort("localhost", d.port("TERRACOTTA_PORT")) }

func (d *demo) serverArguments() []string {
	return []string{"--bind", "127.0.0.1", "--hostname", "localhost", "--name", "terracotta",
		"--tsa-port", d.port("TERRACOTTA_PORT"), "--management-port", d.port("MANAGEMENT_PORT"),
		"--data-root", filepath.ToSlash(filepath.Join(d.data, "dataroots")),
		"--backup-location", filepath.ToSlash(filepath.Join(d.data, "backups"))}
}

func (d *demo) cartArguments(name, port, peer string) []string {
	const property = "terracotta.websessions.store.tcstore."
	return []string{"--listen", "127.0.0.1:" + port, "--peer-port", peer, "--server-name", name, "--color", colors[name],
		"-D", property + "uri=terracotta://" + d.address() + "/sessions-example",
		"-D", property + "offheapResource=offheap-1", "-D", property + "diskResource=dataroot-1"}
}

// serverEnvironment leaves out what is meant for applications, which a server refuses.
func (d *demo) serverEnvironment() []string { return d.without("JAVA_OPTS=") }

// toolEnvironment leaves out where else a licence might come from: it is given.
func (d *demo) toolEnvironment() []string { return d.without("JAVA_OPTS=", "LICENSE_") }

func (d *demo) without(prefixes ...string) []string {
	env := slices.DeleteFunc(slices.Clone(d.environ), func(line string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) })
	})
	if d.trusted != "" {
		env = append(slices.DeleteFunc(env, func(line string) bool { return strings.HasPrefix(line, "TC_TRUSTED_KEYS=") }),
			"TC_TRUSTED_KEYS="+d.trusted)
	}
	return env
}

// awaitReady waits until url answers 200, p ends, or ctx ends, which is no error.
func awaitReady(ctx context.Context, url string, p *process) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}} // no proxy
	deadline := time.After(readyWithin)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		response, err := client.Get(url)
		if err == nil {
			text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(strings.TrimSpace(string(text)))
		}
		last = err
		select {
		case <-tick.C:
		case <-p.ended:
			return fmt.Errorf("%s has ended: %w", p.name, orUnexpected(p.err))
		case <-deadline:
			return fmt.Errorf("%s is not ready within %v: %w", p.name, readyWithin, last)
		case <-ctx.Done():
			return nil
		}
	}
}
