package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/license"
)

const (
	sample   = "<?xml version=\"1.0\"?>\n<License/>\n"
	userName = "us3r"
	secret   = "s3cret" // both stand in every URL, and must show in no message
)

// fetching is one fetcher under test and what it said.
type fetching struct {
	*fetcher
	t      *testing.T
	said   []string
	pauses []time.Duration
}

// newFetching makes a fetcher for base+path with secrets in the URL, which
// trusts the certificate of srv, and does not wait between its tries.
func newFetching(t *testing.T, srv *httptest.Server, path string, change ...func(*config.Tool)) *fetching {
	t.Helper()
	u, err := url.Parse(srv.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(userName, secret)
	u.RawQuery = "sig=" + secret
	c := config.Tool{LicenseURL: u.String(), LicenseAllowHTTP: true}
	if srv.Certificate() != nil {
		c.LicenseCA = certificateFile(t, srv.Certificate().Raw)
	}
	for _, f := range change {
		f(&c)
	}
	f, err := newFetcher(c, nil2)
	if err != nil {
		t.Fatal(err)
	}
	x := &fetching{fetcher: f, t: t}
	f.say = func(line string) { x.said = append(x.said, line) }
	f.pause = func(ctx context.Context, d time.Duration) bool {
		x.pauses = append(x.pauses, d)
		return ctx.Err() == nil
	}
	return x
}

func nil2(*http.Request) (*url.URL, error) { return nil, nil }

// fails fetches and wants a failure with code and words, without any secret.
func (x *fetching) fails(want code, words ...string) {
	x.t.Helper()
	doc, err := x.fetch(x.t.Context())
	if err == nil || doc != nil {
		x.t.Fatalf("got %q, %v; want %s", doc, err, want.Name)
	}
	checkFailure(x.t, err, want, words...)
	if all := strings.Join(x.said, "\n"); strings.Contains(all, secret) {
		x.t.Errorf("a secret was told: %s", all)
	}
}

func (x *fetching) succeeds() {
	x.t.Helper()
	doc, err := x.fetch(x.t.Context())
	if err != nil || string(doc) != sample {
		x.t.Fatalf("got %q, %v", doc, err)
	}
}

func checkFailure(t *testing.T, err error, want code, words ...string) {
	t.Helper()
	e := asToolError(err)
	if e.Code != want {
		t.Errorf("code %s, want %s: %s", e.Code.Name, want.Name, e.Message)
	}
	for _, w := range words {
		if !strings.Contains(e.Message, w) {
			t.Errorf("message lacks %q: %s", w, e.Message)
		}
	}
	if e.Hint == "" {
		t.Errorf("no hint: %s", e.Message)
	}
	if strings.Contains(e.Message+e.Hint, secret) || strings.Contains(e.Message+e.Hint, userName) {
		t.Errorf("a secret shows: %s\n%s", e.Message, e.Hint)
	}
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = quiet(t)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func content(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, sample) }

func TestFetchOverTLSWithOwnAuthority(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if enc := r.Header.Get("Accept-Encoding"); enc != "" {
			t.Errorf("asked for encoding %q", enc)
		}
		if user, password, ok := r.BasicAuth(); !ok || user != userName || password != secret {
			t.Errorf("credentials of the URL were not sent")
		}
		if r.URL.RawQuery != "sig="+secret || r.Header.Get("Referer") != "" {
			t.Errorf("query %q, referer %q", r.URL.RawQuery, r.Header.Get("Referer"))
		}
		content(w, r)
	})
	newFetching(t, srv, "/license.xml").succeeds()
}

func TestFetchUnknownAuthority(t *testing.T) {
	x := newFetching(t, serve(t, content), "/l", func(c *config.Tool) { c.LicenseCA = "" })
	x.fails(codeSecurity, "authority", "not trusted")
	if len(x.pauses) != 0 {
		t.Error("tried again")
	}
}

func TestFetchExpiredCertificate(t *testing.T) {
	srv := serveWith(t, certificate(t, time.Now().Add(-time.Hour), "127.0.0.1"))
	newFetching(t, srv, "/l").fails(codeSecurity, "shows a certificate that is expired, or not valid yet")
}

func TestFetchCertificateOfAnotherHost(t *testing.T) {
	srv := serveWith(t, certificate(t, time.Now().Add(time.Hour), "10.1.2.3"))
	newFetching(t, srv, "/l").fails(codeSecurity, "shows a certificate for another host name")
}

func TestFetchCertificateThatIsForNoServer(t *testing.T) {
	srv := serveWith(t, certificate(t, time.Now().Add(time.Hour), "127.0.0.1", x509.ExtKeyUsageClientAuth))
	newFetching(t, srv, "/l").fails(codeSecurity, "shows a certificate that does not verify")
}

func TestFetchFromWhatIsNoWebServer(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = nc.Write([]byte("220 mail.example ESMTP\r\n\r\n"))
		_ = nc.Close()
	})
	newFetching(t, srv, "/l").fails(codeBadGateway, "/l?... cannot be fetched")
}

func TestFetchServerWithoutTLS(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(content))
	t.Cleanup(srv.Close)
	srv.URL = "https" + strings.TrimPrefix(srv.URL, "http")
	newFetching(t, srv, "/l").fails(codeSecurity, "does not speak TLS")
}

func TestFetchClientCertificate(t *testing.T) {
	cert := certificate(t, time.Now().Add(time.Hour), "client")
	srv := httptest.NewUnstartedServer(http.HandlerFunc(content))
	srv.Config.ErrorLog = quiet(t)
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	newFetching(t, srv, "/l").fails(codeSecurity, "refuses the TLS handshake")

	certFile, keyFile := certificateFile(t, cert.Leaf.Raw), keyFile(t, cert)
	newFetching(t, srv, "/l", func(c *config.Tool) { c.LicenseClientCert, c.LicenseClientKey = certFile, keyFile }).succeeds()
}

func TestFetchStatusCodes(t *testing.T) {
	for status, want := range map[int]code{
		404: codeNotFound, 410: codeNotFound, 401: codeSecurity, 403: codeSecurity,
		400: codeBadRequest, 204: codeBadRequest, 304: codeBadRequest, 500: codeBadGateway, 503: codeBadGateway, 429: codeBadGateway,
	} {
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		x := newFetching(t, srv, "/l")
		x.fails(want, fmt.Sprint(status), map[code]string{codeNotFound: "there is nothing at ", codeSecurity: "does not let us in (HTTP status",
			codeBadGateway: "cannot answer now (HTTP status", codeBadRequest: "instead of a licence"}[want])
		if again := len(x.pauses); (again == maxTries-1) != (want == codeBadGateway) || again > 0 && want != codeBadGateway {
			t.Errorf("status %d: %d repeats", status, again)
		}
	}
}

func TestFetchTriesAgainWithGrowingPauses(t *testing.T) {
	var n atomic.Int32
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) < maxTries {
			w.WriteHeader(502)
			return
		}
		content(w, r)
	})
	x := newFetching(t, srv, "/l")
	x.succeeds()
	for i, p := range x.pauses {
		if most := x.firstPause << i; p > most || p < most/2 {
			t.Errorf("pause %d is %v, want %v to %v", i, p, most/2, most)
		}
	}
	if len(x.pauses) != maxTries-1 || !strings.Contains(strings.Join(x.said, "\n"), "trying again in") {
		t.Errorf("pauses %v, said %v", x.pauses, x.said)
	}
}

func TestFetchHonoursRetryAfter(t *testing.T) {
	var n atomic.Int32
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
			return
		}
		content(w, r)
	})
	x := newFetching(t, srv, "/l")
	x.succeeds()
	if len(x.pauses) != 1 || x.pauses[0] != 7*time.Second {
		t.Errorf("pauses %v", x.pauses)
	}
}

func TestFetchDoesNotWaitForALongRetryAfter(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(503)
	})
	x := newFetching(t, srv, "/l")
	x.fails(codeBadGateway, "1h0m0s")
	if len(x.pauses) != 0 {
		t.Errorf("pauses %v", x.pauses)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "12": 12 * time.Second, "-1": 0, "soon": 0,
		"Sat, 21 Nov 2026 00:00:30 GMT": 30 * time.Second, "Fri, 20 Nov 2026 00:00:00 GMT": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func TestFetchConnectionRefused(t *testing.T) {
	x := newFetching(t, &httptest.Server{URL: "https://" + nowhere(t)}, "/l")
	x.fails(codeBadGateway, "connection refused")
	if len(x.pauses) != maxTries-1 {
		t.Errorf("%d repeats", len(x.pauses))
	}
}

func TestFetchUnknownHost(t *testing.T) {
	x := newFetching(t, serve(t, content), "/l")
	x.dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "server", IsNotFound: true}}
	}
	x.fails(codeBadGateway, "host name", "not known")
	if len(x.pauses) != 0 {
		t.Error("tried again")
	}
}

func TestFetchNameServerAwayIsTriedAgain(t *testing.T) {
	x := newFetching(t, serve(t, content), "/l")
	x.dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "server misbehaving", Name: "server", IsTemporary: true}}
	}
	x.fails(codeBadGateway, "server misbehaving")
	if len(x.pauses) != maxTries-1 {
		t.Errorf("%d repeats", len(x.pauses))
	}
}

func TestFetchNoRoute(t *testing.T) {
	x := newFetching(t, serve(t, content), "/l")
	x.dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}
	}
	x.fails(codeBadGateway, "no route")
}

func TestFetchServerThatNeverAnswers(t *testing.T) {
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	x := newFetching(t, srv, "/l")
	x.perTry = 50 * time.Millisecond
	x.fails(codeBadGateway, "does not send the licence within 50ms")
	if len(x.pauses) != 0 {
		t.Error("tried again")
	}
}

func TestFetchSlowDrip(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				fmt.Fprint(w, "<")
				w.(http.Flusher).Flush()
			}
		}
	})
	x := newFetching(t, srv, "/l")
	x.perTry = 60 * time.Millisecond
	x.fails(codeBadGateway, "does not send the licence within 60ms")
}

func TestFetchTotalTimeIsBounded(t *testing.T) {
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	x := newFetching(t, srv, "/l")
	x.total = 40 * time.Millisecond
	x.fails(codeBadGateway, "within 40ms")
}

func TestFetchInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	_, err := newFetching(t, srv, "/l").fetch(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFetchBrokenConnection(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, sample)
	})
	x := newFetching(t, srv, "/l")
	x.fails(codeBadGateway, "broke the connection")
	if len(x.pauses) != maxTries-1 {
		t.Errorf("%d repeats", len(x.pauses))
	}
}

func TestFetchTooLarge(t *testing.T) {
	for _, announced := range []bool{true, false} {
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			doc := bytes.Repeat([]byte("x"), license.MaxSize+1)
			if !announced {
				w.(http.Flusher).Flush()
			}
			_, _ = w.Write(doc)
		})
		newFetching(t, srv, "/l").fails(codeBadRequest, "sends is larger than 64 KiB")
	}
}

func TestFetchLargestIsTaken(t *testing.T) {
	largest := append([]byte(sample), bytes.Repeat([]byte("\n"), license.MaxSize-len(sample))...)
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(largest) })
	if doc, err := newFetching(t, srv, "/l").fetch(t.Context()); err != nil || !bytes.Equal(doc, largest) {
		t.Errorf("%d bytes, %v", len(doc), err)
	}
}

func TestFetchContentThatIsNoLicence(t *testing.T) {
	for name, row := range map[string]struct{ kind, body, want string }{
		"empty":           {"text/xml", " \n", "is empty"},
		"HTML by start":   {"text/plain", "\n <!DOCTYPE html><p>Log in", "web page (HTML)"},
		"HTML by type":    {"text/html; charset=utf-8", "<p>Log in", "web page (HTML)"},
		"packed":          {"application/gzip", "\x1f\x8b\x08", "sends a compressed file, not a licence"},
		"other html root": {"text/plain", "<HTML>", "web page (HTML)"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", row.kind)
				fmt.Fprint(w, row.body)
			})
			// The reason is better than that the checksum differs.
			newFetching(t, srv, "/l", func(c *config.Tool) { c.LicenseSHA256 = strings.Repeat("0", 64) }).fails(codeBadRequest, row.want)
		})
	}
}

func TestFetchEncodingNotAskedFor(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		content(w, r)
	})
	newFetching(t, srv, "/l").fails(codeBadRequest, "answers in the encoding", "which was not asked for")
}

func TestFetchChecksum(t *testing.T) {
	sum := sha256.Sum256([]byte(sample))
	srv := serve(t, content)
	newFetching(t, srv, "/l", func(c *config.Tool) { c.LicenseSHA256 = strings.ToUpper(hex.EncodeToString(sum[:])) }).succeeds()
	newFetching(t, srv, "/l", func(c *config.Tool) { c.LicenseSHA256 = strings.Repeat("0", 64) }).
		fails(codeBadRequest, "the checksum of what ", " sends is ", hex.EncodeToString(sum[:]))
}

func certificate(t *testing.T, until time.Time, name string, usage ...x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	if len(usage) == 0 {
		usage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: usage,
	}
	if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func serveWith(t *testing.T, cert tls.Certificate) *httptest.Server {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(content))
	srv.Config.ErrorLog = quiet(t)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func certificateFile(t testing.TB, der []byte) string {
	return pemFile(t, "CERTIFICATE", der)
}

func keyFile(t *testing.T, cert tls.Certificate) string {
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pemFile(t, "PRIVATE KEY", der)
}

func pemFile(t testing.TB, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func farAway() time.Time { return time.Now().Add(time.Hour) }

func requestCertificate() *tls.Config { return &tls.Config{ClientAuth: tls.RequestClientCert} }
