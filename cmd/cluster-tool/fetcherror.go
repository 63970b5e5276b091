package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// redacted is u as messages show it: without user, query and fragment, which
// may be secrets.
func redacted(u *url.URL) string {
	if u.Opaque != "" {
		return printable(u.Scheme + ":...")
	}
	s := u.Scheme + "://" + u.Host + u.EscapedPath()
	if u.Scheme == "" {
		s = u.Host + u.EscapedPath()
	}
	if u.RawQuery != "" {
		s += "?..."
	}
	return printable(s)
}

// explain says why a request for at failed. The texts of net/http are not used,
// because they repeat the URL with its secrets.
func (f *fetcher) explain(ctx context.Context, at *url.URL, err error) error {
	where := redacted(at)
	if e := explainTLS(at, err); e != nil {
		return e
	}
	var dns *net.DNSError
	var refusal *proxyRefusal
	through := ""
	if proxy, err := f.proxy(&http.Request{URL: at}); proxy != nil || err != nil {
		through = " (through the proxy of HTTPS_PROXY or HTTP_PROXY)"
	}
	switch {
	case errors.Is(context.Cause(ctx), errTimeout), errors.Is(context.Cause(ctx), errSlow):
		limit := f.perTry
		if errors.Is(context.Cause(ctx), errTimeout) {
			limit = f.total
		}
		return fail(codeBadGateway, "%s does not send the licence within %v%s", where, limit, through).
			hint("is the server reachable from here? A firewall that swallows connections looks like this")
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &refusal):
		return refusal.explain(at)
	case errors.As(err, &dns):
		e := fail(codeBadGateway, "the host name %q of %s is not known here%s", dns.Name, where, through).
			hint("is it written correctly? In a container, link the server or share a network with it")
		if dns.IsNotFound {
			return e
		}
		e.Message = "the host name " + strconv.Quote(dns.Name) + " of " + where + " cannot be looked up now: " + dns.Err + through
		return &mayPass{toolError: e.hint("does name resolution work here?")}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &mayPass{toolError: fail(codeBadGateway, "%s: connection refused%s", where, through).
			hint("is the server started, and is the port right?")}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fail(codeBadGateway, "%s: no route to the host%s", where, through).hint("is the network of the server reachable from here?")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &mayPass{toolError: fail(codeBadGateway, "%s broke the connection before the licence was complete%s", where, through).
			hint("look at the server's log")}
	case through != "":
		return fail(codeBadGateway, "%s cannot be fetched%s", where, through).
			hint("is the proxy right, and does it let this host through? NO_PROXY=%s goes round it", at.Hostname())
	}
	return fail(codeBadGateway, "%s cannot be fetched%s", where, through).hint("the server does not answer as a web server does; is the port right?")
}

// explainTLS says why a handshake failed, or returns nil for another failure.
func explainTLS(at *url.URL, err error) error {
	where := redacted(at)
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.As(err, &unknown):
		return fail(codeSecurity, "%s shows a certificate of an authority that is not trusted here", where).
			hint("if it is your own authority, mount its certificate and set LICENSE_CA to it; verification cannot be switched off")
	case errors.As(err, &name):
		return fail(codeSecurity, "%s shows a certificate for another host name", where).
			hint("use the name that the certificate is made for, or one made for %s", at.Hostname())
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fail(codeSecurity, "%s shows a certificate that is expired, or not valid yet", where).
			hint("renew the server's certificate; or is the clock here wrong? It says %s", time.Now().UTC().Format(time.RFC3339))
	case errors.As(err, &invalid), errors.As(err, &verification):
		return fail(codeSecurity, "%s shows a certificate that does not verify", where).hint("openssl s_client -connect %s shows it", hostPort(at))
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fail(codeSecurity, "%s does not speak TLS there", where).
			hint("is it the port for https? Plain http takes LICENSE_ALLOW_HTTP=Y and an http URL")
	case errors.As(err, &alert), errors.As(err, &op) && op.Op == "remote error":
		return fail(codeSecurity, "%s refuses the TLS handshake", where).
			hint("does it want a client certificate? Set LICENSE_CLIENT_CERT and LICENSE_CLIENT_KEY; else look at its log")
	case strings.HasPrefix(err.Error(), "tls: "):
		return fail(codeSecurity, "the TLS handshake with %s fails", where).hint("TLS 1.2 or newer is needed; openssl s_client -connect %s shows more", hostPort(at))
	}
	return nil
}

// proxyRefusal is a proxy's answer to CONNECT other than 200.
type proxyRefusal struct{ status int }

func (e *proxyRefusal) Error() string {
	return "proxy answers with HTTP status " + strconv.Itoa(e.status)
}

func (e *proxyRefusal) explain(at *url.URL) error {
	if e.status == http.StatusProxyAuthRequired {
		return fail(codeSecurity, "the proxy on the way to %s wants a password (HTTP status %d)", redacted(at), e.status).
			hint("write it into HTTPS_PROXY: http://user:password@proxy:port")
	}
	return fail(codeBadGateway, "the proxy on the way to %s refuses (HTTP status %d)", redacted(at), e.status).
		hint("does the proxy let this host through? NO_PROXY=%s goes round it", at.Hostname())
}

func hostPort(u *url.URL) string { return net.JoinHostPort(u.Hostname(), portOf(u)) }

// explainStatus says what an HTTP status other than 200 means for us.
func explainStatus(at *url.URL, resp *http.Response) error {
	where, status := redacted(at), resp.StatusCode
	switch {
	case status == http.StatusNotFound, status == http.StatusGone:
		return fail(codeNotFound, "there is nothing at %s (HTTP status %d)", where, status).hint("is the path of LICENSE_URL right?")
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fail(codeSecurity, "%s does not let us in (HTTP status %d)", where, status).
			hint("give a user in LICENSE_URL, a token by LICENSE_TOKEN_FILE or a client certificate; secrets go to the first host only, not on to where it redirects")
	case status == http.StatusProxyAuthRequired:
		return (&proxyRefusal{status}).explain(at)
	case status == http.StatusTooManyRequests, status >= 500:
		e := &mayPass{toolError: fail(codeBadGateway, "%s cannot answer now (HTTP status %d)", where, status).
			hint("try later, or look at the server's log"), after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
		if e.after > maxPause {
			e.Message += "; it asks to come back in " + e.after.Round(time.Second).String()
		}
		return e
	}
	return fail(codeBadRequest, "%s answers with HTTP status %d instead of a licence", where, status).
		hint("is it the address of the file itself?")
}

// retryAfter reads the header of that name: seconds or a date (RFC 9110 section 10.2.3).
func retryAfter(header string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(strings.TrimSpace(header), 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
