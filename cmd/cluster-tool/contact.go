package main

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/terracotta-go/terracotta/client"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// probeTime bounds one attempt to ask one server.
const probeTime = 5 * time.Second

// parseHosts makes host:port of each HOST[:PORT]. The same server twice counts once.
func parseHosts(list []string) ([]string, error) {
	var hosts []string
	for _, s := range list {
		h, err := parseHost(s)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	return hosts, nil
}

func parseHost(s string) (string, error) {
	bad := func(what string) error {
		return fail(codeBadRequest, "server %q: %s", s, what).
			hint("write HOST or HOST:PORT, for example -s terracotta or -s 10.0.0.7:9410 or -s [fd00::7]:9410; repeat -s for more")
	}
	host, port := s, strconv.Itoa(wire.DefaultPort)
	switch {
	case strings.Contains(s, "://"):
		return "", bad("a URI is not a server")
	case strings.Contains(s, ","):
		return "", bad("one server per -s")
	case strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]"):
		host = s[1 : len(s)-1]
	case strings.HasPrefix(s, "[") || strings.Count(s, ":") == 1:
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", bad("not a host and a port")
		}
	case strings.Contains(s, ":") && net.ParseIP(s) == nil:
		return "", bad("not a host and a port")
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n/@?#[]") {
		return "", bad("not a host name or address")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || port != strconv.Itoa(n) {
		return "", bad("a port is a number from 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// serverArguments joins hosts given by -s and positionally; the original never mixes them.
func serverArguments(command string, flagged, positional []string) ([]string, error) {
	if len(flagged) > 0 && len(positional) > 0 {
		return nil, fail(codeBadRequest, "servers by -s and by position do not mix; %q has no -s", positional[0]).
			hint("write all servers with -s, or all without")
	}
	hosts, err := parseHosts(append(flagged, positional...))
	if err != nil {
		return nil, err
	}
	if len(hosts) == 0 {
		return nil, fail(codeBadRequest, "no server is named").hint("for example: cluster-tool %s -s terracotta", command)
	}
	return hosts, nil
}

// contact asks one server, with one attempt to connect: the first failed dial
// ends it, so that the caller decides about waiting and says what it waits for.
type contact struct {
	*client.Client
	host   string
	cancel context.CancelFunc
	mu     sync.Mutex
	dial   error // guarded by mu: how the last dial failed, or nil
}

// contactServer makes a contact for host within ctx. The context it returns
// ends with the first failed dial. Close the contact.
func (t *tool) contactServer(ctx context.Context, host, password string) (context.Context, *contact, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &contact{host: host, cancel: cancel}
	d := net.Dialer{Timeout: min(probeTime, t.timeout())}
	var err error
	c.Client, err = client.New(client.Options{
		Hosts: []string{host}, Password: password, DialTimeout: d.Timeout, Logger: t.logger(),
		Dial: func(dialCtx context.Context, network, addr string) (net.Conn, error) {
			conn, err := d.DialContext(dialCtx, network, addr)
			if err != nil && ctx.Err() == nil {
				c.mu.Lock()
				c.dial = err
				c.mu.Unlock()
				cancel()
			}
			return conn, err
		},
	})
	if err != nil {
		cancel()
		return nil, nil, fail(codeFailure, "server %s: %v", host, err).hint("a server is HOST or HOST:PORT")
	}
	return ctx, c, nil
}

func (c *contact) Close() error {
	c.cancel()
	return c.Client.Close()
}

// why replaces err by the failed dial behind it, if there is one.
func (c *contact) why(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.dial != nil {
		return &dialError{c.dial}
	}
	return err
}

// dialError says that not even a connection came about: nobody is there.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// probe asks host for its status, once.
func (t *tool) probe(ctx context.Context, host, password string) (wire.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, min(probeTime, t.timeout()))
	defer cancel()
	ctx, c, err := t.contactServer(ctx, host, password)
	if err != nil {
		return wire.Status{}, err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	return s, c.why(err)
}

// answer is what probing one server gave.
type answer struct {
	host   string
	status wire.Status
	err    error
}

// probeAll asks all hosts at once and returns their answers in the same order.
func (t *tool) probeAll(ctx context.Context, hosts []string, password string) []answer {
	list := make([]answer, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			s, err := t.probe(ctx, h, password)
			list[i] = answer{h, s, err}
		})
	}
	wg.Wait()
	return list
}

// lasting reports whether waiting cannot mend err: a wrong password stays wrong.
func lasting(err error) bool {
	var we *wire.Error
	return errors.As(lastCause(err), &we) && !we.Word.Retryable()
}

// lastCause is what a server said, or what happened on the way to it, without
// the client's own words, which name the server again.
func lastCause(err error) error {
	var ue *client.UnavailableError
	if !errors.As(err, &ue) {
		return err
	}
	if n := len(ue.Servers); n > 0 {
		last := ue.Servers[n-1].Err
		var we *wire.Error
		// A bare word of the client, such as that it is still connecting, says less
		// than that time ran out.
		if ue.Cause == nil || errors.As(last, &we) || errors.Unwrap(last) != nil {
			return last
		}
	}
	return ue.Cause
}

// reason says in a few words why a server did not answer.
func reason(err error) string {
	var dns *net.DNSError
	var we *wire.Error
	var te interface{ Timeout() bool }
	err = lastCause(err)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &we):
		return we.Text
	case errors.As(err, &dns) && dns.IsNotFound:
		return "host name not found"
	case errors.As(err, &dns):
		return "host name lookup: " + dns.Err
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to the host"
	case errors.Is(err, syscall.ENETUNREACH):
		return "network unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &te) && te.Timeout():
		return "no answer in time"
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// unreachable is the failure when no server answered: with one that refuses us
// for good among them, its refusal; else that nobody answers, and why.
func unreachable(list []answer) *toolError {
	var reasons []string
	for _, a := range list {
		if lasting(a.err) {
			e := *asToolError(a.err)
			e.Message = a.host + ": " + e.Message
			return &e
		}
		reasons = append(reasons, a.host+": "+reason(a.err))
	}
	return fail(codeBadGateway, "no server answers (%s)", strings.Join(reasons, "; ")).
		hint("is the server started, and does its name or address lead to it from here? In a container, link it or share a network with it")
}
