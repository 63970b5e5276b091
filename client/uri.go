package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/terracotta-go/terracotta/internal/wire"
)

const (
	uriScheme  = "terracotta://"
	uriExample = "an example is terracotta://server-1:9410,server-2:9410/MyData"
)

// URI is a parsed terracotta://host[:port][,host[:port]...][/dataset].
type URI struct {
	Hosts   []string // host:port, the port always written; IPv6 addresses in brackets
	Dataset string   // "" where the URI has none
}

// String returns the URI in full, as ParseURI reads it.
func (u URI) String() string {
	s := uriScheme + strings.Join(u.Hosts, ",")
	if u.Dataset != "" {
		s += "/" + url.PathEscape(u.Dataset)
	}
	return s
}

// ParseURI parses s; errors show what is wrong and an example. IPv6 addresses
// stand in brackets. Characters of the dataset's name that mean something in a
// URI are written as %XX. There is no userinfo, query or fragment: the password
// is a setting of its own, so that it does not end up in a log.
func ParseURI(s string) (URI, error) {
	u, err := parseURI(s)
	if err != nil {
		// A URI with userinfo may hold a password: it is not repeated.
		if strings.Contains(s, "@") {
			return URI{}, fmt.Errorf("terracotta URI: %w; %s", err, uriExample)
		}
		return URI{}, fmt.Errorf("terracotta URI %q: %w; %s", s, err, uriExample)
	}
	return u, nil
}

func parseURI(s string) (u URI, err error) {
	if len(s) < len(uriScheme) || !strings.EqualFold(s[:len(uriScheme)], uriScheme) {
		return u, errors.New("does not start with " + uriScheme)
	}
	for _, part := range []struct{ char, what string }{
		{"@", "a user or password; the password is a setting of its own"},
		{"?", "a query"}, {"#", "a fragment"},
	} {
		if strings.Contains(s, part.char) {
			return u, errors.New("has " + part.what)
		}
	}
	list, path, hasPath := strings.Cut(s[len(uriScheme):], "/")
	seen := make(map[string]bool)
	for _, h := range strings.Split(list, ",") {
		addr, err := parseHost(h)
		if err != nil {
			return u, err
		}
		if seen[addr] {
			return u, fmt.Errorf("names %s twice", addr)
		}
		seen[addr] = true
		u.Hosts = append(u.Hosts, addr)
	}
	if hasPath && path != "" {
		if u.Dataset, err = url.PathUnescape(path); err != nil {
			return u, fmt.Errorf("dataset: %w", err)
		}
		return u, checkDataset(u.Dataset)
	}
	return u, nil
}

// parseHost reads one host[:port] and returns it with its port and in lower case.
func parseHost(h string) (string, error) {
	if h == "" {
		return "", errors.New("has an empty host")
	}
	host, port := h, strconv.Itoa(wire.DefaultPort)
	switch {
	case strings.HasPrefix(h, "["):
		end := strings.IndexByte(h, ']')
		if end < 0 {
			return "", fmt.Errorf("host %q has no closing bracket", h)
		}
		host = h[1:end]
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return "", fmt.Errorf("%q is not an IPv6 address", host)
		}
		if rest := h[end+1:]; rest != "" {
			if rest[0] != ':' {
				return "", fmt.Errorf("host %q has text after the bracket", h)
			}
			port = rest[1:]
		}
	case strings.Count(h, ":") > 1:
		return "", fmt.Errorf("host %q is an IPv6 address without brackets, or has two ports", h)
	default:
		if name, p, ok := strings.Cut(h, ":"); ok {
			host, port = name, p
		}
		if err := checkHostName(host); err != nil {
			return "", err
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("port %q of host %q is not a number from 1 to 65535", port, host)
	}
	return net.JoinHostPort(strings.ToLower(host), port), nil
}

// checkHostName refuses what cannot be a name, so that a slip is found here and
// not by a resolver that blames the network.
func checkHostName(host string) error {
	if host == "" || len(host) > 253 {
		return fmt.Errorf("host name has %d characters; 1 to 253 are allowed", len(host))
	}
	for _, c := range host {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return fmt.Errorf("host name %q has the character %q", host, c)
		}
	}
	return nil
}

func checkDataset(name string) error {
	if len(name) > wire.MaxDatasetName {
		return fmt.Errorf("dataset name has %d bytes; at most %d are allowed", len(name), wire.MaxDatasetName)
	}
	for _, c := range name {
		if c == '/' {
			return fmt.Errorf("dataset name %q has a slash", name)
		}
		if c <= ' ' || c == 0xFFFD || !strconv.IsPrint(c) {
			return fmt.Errorf("dataset name %q has the character %q; printable ones without spaces are allowed", name, c)
		}
	}
	return nil
}
