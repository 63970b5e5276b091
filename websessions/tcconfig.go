package websessions

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/client"
)

// Bounds of what TCConfigURL names.
const (
	maxTCConfig     = 256 << 10 // bytes, as the server's
	tcConfigTimeout = 10 * time.Second
	maxRedirects    = 3
)

// uri returns the cluster and the dataset, from URI or by way of TCConfigURL,
// which may take tcConfigTimeout.
func (c Config) uri() (client.URI, error) {
	if c.TCConfigURL == "" {
		return parseURI(c.URI)
	}
	hosts, err := serversOf(c.TCConfigURL)
	var uri client.URI
	if err == nil {
		if uri, err = client.ParseURI("terracotta://" + hosts); err != nil {
			err = fmt.Errorf("%w; an example is server1:9410,server2:9410", errors.Unwrap(err))
		}
	}
	if err != nil {
		return uri, fmt.Errorf("%stcConfigUrl%s: %w", Prefix, shownURI(c.TCConfigURL), err)
	}
	uri.Dataset = datasetOf(c.ContextPath)
	return uri, nil
}

// shownURI quotes a setting for an error; one that may hold a password is not repeated.
func shownURI(s string) string {
	if strings.Contains(s, "@") {
		return ""
	}
	return fmt.Sprintf(" %q", s)
}

// datasetOf names the dataset after the context path, as servers of 4.x told
// applications apart: two paths never get one name.
func datasetOf(contextPath string) string {
	path := strings.Trim(contextPath, "/")
	if path == "" {
		return "websessions"
	}
	return strings.NewReplacer("%", "%25", ":", "%3A", "/", ":").Replace(path)
}

// driveLetter starts a path on Windows, which is no host with a port.
var driveLetter = regexp.MustCompile(`^[A-Za-z]:[\\/]`)

// serversOf returns the host list that where is, or that the tc-config holds
// which it names: a path (it has a slash or ends in .xml) or a URL.
func serversOf(where string) (string, error) {
	if strings.Contains(where, "@") {
		return "", errors.New("has a user or password; the password is a setting of its own")
	}
	scheme, _, isURL := strings.Cut(where, ":")
	scheme = strings.ToLower(scheme)
	var doc []byte
	var err error
	switch {
	case isURL && (scheme == "http" || scheme == "https"):
		doc, err = fetchTCConfig(where)
	case isURL && scheme == "file":
		var u *url.URL
		if u, err = url.Parse(where); err == nil && (u.Path == "" || u.Host != "" && u.Host != "localhost") {
			err = errors.New("is no file URL; an example is file:///etc/terracotta/tc-config.xml")
		}
		if err == nil {
			doc, err = readTCConfig(filepath.FromSlash(u.Path))
		}
	case strings.Contains(where, "://"):
		return "", errors.New("has a scheme that is none of http, https, file; a terracotta:// URI belongs into store.tcstore.uri")
	case strings.ContainsAny(where, `/\`) || driveLetter.MatchString(where) || strings.HasSuffix(strings.ToLower(where), ".xml"):
		doc, err = readTCConfig(where)
	default:
		return strings.ReplaceAll(where, " ", ""), nil
	}
	if err != nil {
		return "", err
	}
	return parseServers(doc)
}

func readTCConfig(path string) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("%w; a list of servers is written server1:9410,server2:9410", err)
	}
	defer f.Close()
	return readBounded(f)
}

func readBounded(r io.Reader) ([]byte, error) {
	doc, err := io.ReadAll(io.LimitReader(r, maxTCConfig+1))
	if err == nil && len(doc) > maxTCConfig {
		err = fmt.Errorf("is larger than %d KiB", maxTCConfig>>10)
	}
	return doc, err
}

// fetchTCConfig reads a tc-config from a web server, all in all within
// tcConfigTimeout. TLS is verified, and never left by a redirect.
func fetchTCConfig(from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tcConfigTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	web := &http.Client{CheckRedirect: func(next *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return fmt.Errorf("more than %d redirects", maxRedirects)
		case next.URL.Scheme != "https" && (next.URL.Scheme != "http" || via[0].URL.Scheme == "https"):
			return errors.New("redirects to a URL without TLS")
		}
		return nil
	}}
	response, err := web.Do(request)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err // the URL is told already
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v", tcConfigTimeout)
		}
		return nil, fmt.Errorf("%w; is the web server reachable from here?", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the web server answers %q; is the path right?", response.Status)
	}
	doc, err := readBounded(response.Body)
	if ctx.Err() != nil {
		err = fmt.Errorf("not complete within %v", tcConfigTimeout)
	}
	return doc, err
}

// tcConfig is what an application wants to know of a tc-config, of 4.x as of
// 10.x: where the servers are.
type tcConfig struct {
	XMLName xml.Name
	Servers struct {
		Server []tcServer `xml:"server"`
		Groups []struct{} `xml:"mirror-group"` // stripes of 4.x
	} `xml:"servers"`
}

type tcServer struct {
	Host string `xml:"host,attr"`
	Port string `xml:"tsa-port"`
}

func parseServers(doc []byte) (string, error) {
	var tc tcConfig
	doc = bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf")) // Windows editors write a byte order mark
	if err := xml.Unmarshal(doc, &tc); err != nil {
		return "", fmt.Errorf("is no tc-config.xml: %w", err)
	}
	if tc.XMLName.Local != "tc-config" {
		return "", fmt.Errorf("is no tc-config.xml: its root is %q", tc.XMLName.Local)
	}
	if len(tc.Servers.Groups) > 0 {
		return "", errors.New("has mirror groups; this version knows one stripe: name its servers as server1:9410,server2:9410")
	}
	var hosts []string
	for i, s := range tc.Servers.Server {
		host, port := strings.TrimSpace(s.Host), strings.TrimSpace(s.Port)
		switch {
		case host == "":
			return "", fmt.Errorf("server %d has no host", i+1)
		case strings.Contains(host+port, "%"):
			return "", fmt.Errorf("server %d has the substitution %q, which only the server itself can resolve; "+
				"write the host out, or name the servers as server1:9410,server2:9410", i+1, host+" "+port)
		case port == "":
			port = "9410"
		}
		hosts = append(hosts, net.JoinHostPort(strings.Trim(host, "[]"), port))
	}
	if len(hosts) == 0 {
		return "", errors.New("names no server")
	}
	return strings.Join(hosts, ","), nil
}
