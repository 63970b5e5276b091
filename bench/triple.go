package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

const triples = 3

// triple is three servers of ours in one stripe, with failover-priority consistency.
type triple struct {
	t       *terracotta
	config  string // tc-config.xml
	servers [triples]*server
	names   [triples]string
	addrs   [triples]string
}

// startTriple starts three servers with their data in dir and configures them. Each
// write is on the disks of two before it is acknowledged.
func (t *terracotta) startTriple(ctx context.Context, dir string, env ...string) (s *triple, err error) {
	s = &triple{t: t, config: filepath.Join(dir, "tc-config.xml")}
	var list strings.Builder
	for i := range s.servers {
		s.names[i] = fmt.Sprintf("tc%d", i+1)
		if s.addrs[i], err = freeAddr(); err != nil {
			return nil, err
		}
		group, err := freeAddr()
		if err != nil {
			return nil, err
		}
		host, port, _ := net.SplitHostPort(s.addrs[i])
		_, groupPort, _ := net.SplitHostPort(group)
		fmt.Fprintf(&list, "<server host=%q name=%q bind=%q><tsa-port>%s</tsa-port><tsa-group-port>%s</tsa-group-port></server>\n",
			host, s.names[i], host, port, groupPort)
	}
	doc := `<tc-config xmlns="http://www.terracotta.org/config"
  xmlns:ohr="http://www.terracotta.org/config/offheap-resource" xmlns:data="http://www.terracottatech.com/config/data-roots">
<plugins>
<config><ohr:offheap-resources><ohr:resource name="offheap-1" unit="GB">2</ohr:resource></ohr:offheap-resources></config>
<config><data:data-directories><data:directory name="PLATFORM" use-for-platform="true">%(bench.data)/platform</data:directory></data:data-directories></config>
</plugins>
<servers>
` + list.String() + `</servers>
<failover-priority><consistency/></failover-priority>
</tc-config>
`
	if err := os.WriteFile(s.config, []byte(doc), 0o644); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.kill()
		}
	}()
	for i, name := range s.names {
		data := filepath.Join(dir, name)
		if err := os.MkdirAll(data, 0o755); err != nil {
			return nil, err
		}
		s.servers[i] = &server{t: t, env: append([]string{
			"TC_CONFIG=" + s.config, "TC_SELF_NAME=" + name, "JAVA_OPTS=-Dbench.data=" + data, "TC_MANAGEMENT_PORT=off",
			"TC_TRUSTED_KEYS=" + t.trusted, "TC_DURABILITY=every-write", "TC_MEMORY_CHECK=warn",
		}, env...)}
		if err := s.servers[i].begin(ctx, s.addrs[i]); err != nil {
			return nil, err
		}
	}
	if err := s.servers[0].configure(ctx); err != nil {
		return nil, fmt.Errorf("configure: %w\n%s", err, lastLines(s.servers[0].log.String()))
	}
	return s, s.inService(ctx)
}

// kill ends all servers at once.
func (s *triple) kill() {
	for _, one := range s.servers {
		if one != nil && one.process != nil {
			_ = one.process.kill() // one that has ended is as good
		}
	}
}

// state asks a server what it is; "" where it does not answer.
func (s *triple) state(ctx context.Context, i int) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := client.New(client.Options{Hosts: []string{s.addrs[i]}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return ""
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return ""
	}
	return status.State
}

// active returns which server is active, -1 where none says so.
func (s *triple) active(ctx context.Context) int {
	for i := range s.servers {
		if s.state(ctx, i) == wire.StateActive {
			return i
		}
	}
	return -1
}

// inService waits until one server is active and the others are its passives.
func (s *triple) inService(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		states := make(map[string]int)
		for i := range s.servers {
			states[s.state(ctx, i)]++
		}
		if states[wire.StateActive] == 1 && states[wire.StatePassive] == triples-1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all servers are in service: %v\n%s", states, lastLines(s.servers[0].log.String()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// node returns a client that has joined and opened the dataset.
func (s *triple) node(ctx context.Context) (*client.Client, error) {
	c, err := client.New(client.Options{Hosts: s.addrs[:], Node: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := c.Open(ctx, &wire.Open{Dataset: dataset, LockMode: []byte("none")}); err != nil {
		return nil, errors.Join(fmt.Errorf("open the dataset: %w", err), c.Close())
	}
	return c, nil
}
