package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	// Root certificates for images that have no operating system. They count only
	// where the system has none.
	_ "golang.org/x/crypto/x509roots/fallback"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/license"
)

const (
	maxRedirects = 5
	maxTries     = 5
	maxCA        = 4 << 20          // bytes of LICENSE_CA that are read
	maxPause     = 30 * time.Second // longest Retry-After that is waited for
)

// fetcher fetches the document at LICENSE_URL. Its rules (docs/cluster-tool.md):
// only schemes as safe as asked for, certificates verified, bounds on size and
// time, repeats only for what may pass, secrets for one host only, and no part
// of a secret in any message.
type fetcher struct {
	url    *url.URL // without userinfo
	shown  string   // url as messages show it
	allow  bool     // plain http is allowed
	sha256 string   // expected, lower-case hexadecimal, or ""
	auth   string   // Authorization header for the host of url, or ""
	roots  *x509.CertPool
	cert   *tls.Certificate // for the host of url, or nil
	proxy  func(*http.Request) (*url.URL, error)
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	say    func(line string)
	pause  func(context.Context, time.Duration) bool // waits; false when the context has ended

	total, perTry time.Duration
	firstPause    time.Duration // before the second try; doubles
}

// newFetcher checks the settings, and reads the files they name, before anything is sent.
func newFetcher(c config.Tool, proxy func(*http.Request) (*url.URL, error)) (*fetcher, error) {
	f := &fetcher{allow: c.LicenseAllowHTTP, sha256: strings.ToLower(c.LicenseSHA256), proxy: proxy, dial: (&net.Dialer{}).DialContext, say: func(string) {}, pause: pause,
		total: time.Minute, perTry: 15 * time.Second, firstPause: 500 * time.Millisecond}
	u, err := url.Parse(c.LicenseURL)
	if err != nil { // its text would show the URL with its secrets
		return nil, fail(codeBadRequest, "LICENSE_URL is not a URL").hint("for example LICENSE_URL=https://server/license.xml; %%-encode special characters")
	}
	f.url, f.shown = u, redacted(u)
	if digest, err := hex.DecodeString(f.sha256); err != nil || len(digest) != 0 && len(digest) != sha256.Size {
		return nil, fail(codeBadRequest, "LICENSE_SHA256 is not 64 hexadecimal digits").hint("sha256sum license.xml prints them")
	}
	if err := f.checkScheme(u); err != nil {
		return nil, err
	}
	if u.Scheme == "file" {
		return f, nil
	}
	if u.User != nil {
		password, _ := u.User.Password()
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(u.User.Username(), password)
		f.auth = r.Header.Get("Authorization")
		u.User = nil
	}
	for _, read := range []func(config.Tool) error{f.readToken, f.readCA, f.readCertificate} {
		if err := read(c); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *fetcher) checkScheme(u *url.URL) error {
	const example = "for example LICENSE_URL=https://server/license.xml or LICENSE_URL=file:///licenses/mine.xml"
	switch {
	case u.Scheme == "file" && (u.Opaque != "" || u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || u.RawQuery != "" || u.Fragment != ""):
		return fail(codeBadRequest, "LICENSE_URL %s: a file URL is file:// and an absolute path, and nothing else", f.shown).hint(example)
	case u.Scheme == "file":
		return nil
	case u.Scheme != "https" && u.Scheme != "http":
		return fail(codeBadRequest, "LICENSE_URL %s: the scheme %q is none of https, file and http", f.shown, u.Scheme).hint(example)
	case u.Hostname() == "":
		return fail(codeBadRequest, "LICENSE_URL %s has no host", f.shown).hint(example)
	case u.Scheme == "http" && !f.allow:
		return fail(codeBadRequest, "LICENSE_URL %s: plain http can be read and changed on the way", f.shown).
			hint("use https; or, in a network that you trust, set LICENSE_ALLOW_HTTP=Y")
	}
	return nil
}

func (f *fetcher) readToken(c config.Tool) error {
	if c.LicenseTokenFile == "" {
		return nil
	}
	if f.auth != "" {
		return fail(codeBadRequest, "both a token file and a user in LICENSE_URL are given").hint("use one of them")
	}
	token, err := readLicenseFile("file with the token for LICENSE_URL", c.LicenseTokenFile)
	if err != nil {
		return err
	}
	t := strings.TrimSpace(string(token))
	if t == "" || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fail(codeBadRequest, "the token file %q does not hold one word", c.LicenseTokenFile)
	}
	f.auth = "Bearer " + t
	return nil
}

func (f *fetcher) readCA(c config.Tool) (err error) {
	if f.roots, err = x509.SystemCertPool(); err != nil { // cannot be read at all: the setting below may suffice
		f.roots = x509.NewCertPool()
	}
	if c.LicenseCA == "" {
		return nil
	}
	var file *os.File
	var pem []byte
	if err = regular(c.LicenseCA); err == nil {
		file, err = os.Open(c.LicenseCA)
	}
	if err == nil {
		defer file.Close()
		pem, err = io.ReadAll(io.LimitReader(file, maxCA)) // a device would never end
	}
	if err != nil {
		return fail(codeBadRequest, "LICENSE_CA %q: %v", c.LicenseCA, causeOf(err)).
			hint("in a container, mount the file and give its path in there")
	}
	if !f.roots.AppendCertsFromPEM(pem) {
		return fail(codeBadRequest, "LICENSE_CA %q holds no certificate", c.LicenseCA).
			hint("it must be PEM: a block that begins with -----BEGIN CERTIFICATE-----")
	}
	return nil
}

// regular refuses what is no file: to open a pipe waits for whoever fills it, and
// a device never ends.
func regular(name string) error {
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: name, Err: errors.New("is not a regular file")}
	}
	return err
}

func (f *fetcher) readCertificate(c config.Tool) error {
	switch {
	case c.LicenseClientCert == "" && c.LicenseClientKey == "":
		return nil
	case c.LicenseClientCert == "" || c.LicenseClientKey == "":
		return fail(codeBadRequest, "the client certificate for LICENSE_URL needs both a certificate and a key").
			hint("set LICENSE_CLIENT_CERT and LICENSE_CLIENT_KEY to PEM files")
	}
	var pair tls.Certificate
	err := errors.Join(regular(c.LicenseClientCert), regular(c.LicenseClientKey))
	if err == nil {
		pair, err = tls.LoadX509KeyPair(c.LicenseClientCert, c.LicenseClientKey)
	}
	if err != nil {
		return fail(codeBadRequest, "the client certificate for LICENSE_URL: %v", err).
			hint("LICENSE_CLIENT_CERT and LICENSE_CLIENT_KEY are PEM files that belong together")
	}
	f.cert = &pair
	return nil
}

// fetch returns the document, or a *toolError that says why not.
func (f *fetcher) fetch(ctx context.Context) ([]byte, error) {
	if f.url.Scheme == "file" {
		doc, err := readLicenseFile("licence of LICENSE_URL", f.url.Path)
		if err != nil {
			return nil, err
		}
		if err := f.check(doc, ""); err != nil {
			return nil, err
		}
		return doc, nil
	}
	f.say("fetching the licence from " + f.shown)
	if f.url.Scheme == "http" && f.auth != "" {
		f.say("warning: the credentials for LICENSE_URL travel in clear text")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.total, errTimeout)
	defer cancel()
	backoff := f.firstPause
	for try := 1; ; try++ {
		doc, err := f.once(ctx)
		if err == nil {
			return doc, nil
		}
		var again *mayPass
		if !errors.As(err, &again) || try == maxTries || ctx.Err() != nil {
			return nil, err
		}
		wait := max(again.after, backoff/2+rand.N(backoff/2+1))
		if deadline, _ := ctx.Deadline(); again.after > maxPause || time.Until(deadline) < wait {
			return nil, err
		}
		f.say(fmt.Sprintf("%v; trying again in %v", err, wait.Round(100*time.Millisecond)))
		if !f.pause(ctx, wait) {
			return nil, err
		}
		backoff *= 2
	}
}

// once makes one try, following redirects.
func (f *fetcher) once(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.perTry, errSlow)
	defer cancel()
	at, trusted := f.url, true
	been := map[string]bool{}
	for hop := 0; ; hop++ {
		been[at.String()] = true
		doc, next, err := f.hop(ctx, at, trusted)
		if err != nil || next == nil {
			return doc, err
		}
		switch {
		case been[next.String()]:
			return nil, fail(codeBadRequest, "%s leads in a circle of redirects, at %s", f.shown, redacted(next)).
				hint("use the address at which the licence itself lies")
		case hop == maxRedirects:
			return nil, fail(codeBadRequest, "%s leads on by more than %d redirects", f.shown, maxRedirects).
				hint("use the address at which the licence itself lies")
		}
		// Once on another host the secrets are gone, also for the way back.
		trusted = trusted && sameHost(f.url, next)
		at = next
	}
}

// hop makes one request. It returns the document, or where a redirect leads.
// Only with trusted the secrets go along.
func (f *fetcher) hop(ctx context.Context, at *url.URL, trusted bool) (doc []byte, next *url.URL, err error) {
	// Not NewRequest, which would parse at a second time and could fail.
	req := (&http.Request{Method: http.MethodGet, URL: at, Host: strings.TrimSuffix(at.Host, ":"), Header: http.Header{
		"User-Agent": {"terracotta-cluster-tool/" + config.Version},
		"Accept":     {"application/xml, text/xml, */*;q=0.5"},
	}}).WithContext(ctx)
	tlsConfig := &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12}
	if trusted {
		if f.auth != "" {
			req.Header.Set("Authorization", f.auth)
		}
		if f.cert != nil {
			tlsConfig.Certificates = []tls.Certificate{*f.cert}
		}
	}
	transport := &http.Transport{
		Proxy: f.proxy, TLSClientConfig: tlsConfig, DisableCompression: true, DisableKeepAlives: true,
		MaxResponseHeaderBytes: 64 << 10,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			if answer.StatusCode != http.StatusOK {
				return &proxyRefusal{answer.StatusCode}
			}
			return nil
		},

		DialContext: f.dial,
	}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req) // no client: redirects and cookies are our own business
	if err != nil {
		return nil, nil, f.explain(ctx, at, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		doc, err = f.read(ctx, at, resp)
		return doc, nil, err
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		next, err = f.redirect(at, resp.Header.Get("Location"))
		return nil, next, err
	}
	return nil, nil, explainStatus(at, resp)
}

// redirect resolves a Location and refuses to go to a less safe place.
func (f *fetcher) redirect(at *url.URL, location string) (*url.URL, error) {
	next, err := at.Parse(location)
	if err != nil || location == "" {
		return nil, fail(codeBadRequest, "%s redirects, but not to a URL", redacted(at)).
			hint("use the address at which the licence itself lies")
	}
	safe := next.Scheme == "https" || next.Scheme == "http" && at.Scheme == "http"
	if !safe || next.Hostname() == "" {
		return nil, fail(codeBadRequest, "%s redirects to %s, which is less safe", redacted(at), redacted(next)).
			hint("redirects are followed from http to http or https and from https to https, nowhere else")
	}
	next.User = nil // credentials that somebody else chose are not sent
	next.Fragment = ""
	return next, nil
}

// sameHost reports whether next may have the secrets meant for first: the same
// name, scheme and port, or the same name one step up from http to https.
func sameHost(first, next *url.URL) bool {
	switch {
	case !strings.EqualFold(first.Hostname(), next.Hostname()):
		return false
	case first.Scheme == next.Scheme:
		return portOf(first) == portOf(next)
	}
	return portOf(first) == "80" && portOf(next) == "443"
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// read reads the body of an answer and checks what can be checked without keys.
func (f *fetcher) read(ctx context.Context, at *url.URL, resp *http.Response) ([]byte, error) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, fail(codeBadRequest, "%s answers in the encoding %q, which was not asked for", redacted(at), printable(e)).
			hint("let the server send the file as it is")
	}
	if resp.ContentLength > license.MaxSize {
		return nil, tooLarge(at)
	}
	doc, err := readAtMost(resp.Body)
	if err == nil {
		// A server may end its answer in good order because we are hanging up, and
		// net/http may still hand that out: past the limit it does not count.
		err = ctx.Err()
	}
	switch {
	case errors.Is(err, errTooLarge):
		return nil, tooLarge(at)
	case err != nil:
		return nil, f.explain(ctx, at, err)
	}
	if err := f.check(doc, resp.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	return doc, nil
}

func tooLarge(at *url.URL) error {
	return fail(codeBadRequest, "what %s sends is %v", redacted(at), errTooLarge).hint("is it the address of a licence file?")
}

// check looks at the content. What is clearly no licence gets a better reason
// than the checksum would give.
func (f *fetcher) check(doc []byte, contentType string) error {
	start := bytes.ToLower(bytes.TrimSpace(doc[:min(len(doc), 512)]))
	switch {
	case len(start) == 0:
		return fail(codeBadRequest, "what %s sends is empty", f.shown).hint("is it the address of a licence file?")
	case bytes.HasPrefix(start, []byte("<!doctype html")), bytes.HasPrefix(start, []byte("<html")),
		strings.HasPrefix(contentType, "text/html") && !bytes.HasPrefix(start, []byte("<?xml")):
		return fail(codeBadRequest, "%s sends a web page (HTML), not a licence", f.shown).
			hint("a page for people or for logging in? Use the address of the file itself (raw, download), with a token if it asks for one")
	case bytes.HasPrefix(doc, []byte{0x1f, 0x8b}):
		return fail(codeBadRequest, "%s sends a compressed file, not a licence", f.shown).hint("put the unpacked license.xml there")
	}
	sum := sha256.Sum256(doc)
	if got := hex.EncodeToString(sum[:]); f.sha256 != "" && got != f.sha256 {
		return fail(codeBadRequest, "the checksum of what %s sends is %s, and LICENSE_SHA256 is %s", f.shown, got, f.sha256).
			hint("was the licence renewed? Then set LICENSE_SHA256 to the checksum that its vendor names; else somebody has changed the file")
	}
	return nil
}

// errSlow ends one try that takes too long.
var errSlow = errors.New("too slow")

// mayPass marks a failure that a repeat may mend.
type mayPass struct {
	*toolError
	after time.Duration // the server asks for this pause, or 0
}

func (e *mayPass) Unwrap() error { return e.toolError }
