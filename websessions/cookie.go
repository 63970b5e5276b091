package websessions

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A cookie's value is TAG.SECRET or TAG.SECRET.ROUTE. The session's key, which
// is also its public id, is TAG and the beginning of SECRET's hash: what reaches
// the cluster, logs and pages is worthless as a cookie.
const (
	tagLen    = 3  // base64url characters; kept over renewals, so that a session can stay in its stripe
	secretLen = 43 // base64url characters of 32 random bytes
	hashLen   = 22 // base64url characters of SHA-256, 132 bits
	maxRoute  = 64

	// maxCandidates bounds how many cookies of one request are looked up: a
	// browser may send several of one name (other paths or domains), an attacker many.
	maxCandidates = 4
)

// newToken returns a cookie value without route. An empty tag means a new one.
func newToken(tag string) string {
	var b [2 + 32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process rather
	text := base64.RawURLEncoding.EncodeToString(b[:2]) + "." + base64.RawURLEncoding.EncodeToString(b[2:])
	if tag != "" {
		text = tag + text[tagLen:]
	}
	return text
}

// parseToken splits a cookie's value and reports whether it is well formed. It
// is cheap, because whoever likes may send nonsense.
func parseToken(value string) (token string, ok bool) {
	const n = tagLen + 1 + secretLen
	if len(value) < n || len(value) > n+1+maxRoute || value[tagLen] != '.' {
		return "", false
	}
	if len(value) > n && (value[n] != '.' || strings.ContainsFunc(value[n+1:], notInRoute)) {
		return "", false
	}
	for i := range n {
		if i != tagLen && !base64url(value[i]) {
			return "", false
		}
	}
	return value[:n], true
}

func base64url(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_'
}

// keyOf returns the session key of a well-formed token. The hash is of the
// secret's 43 characters as they stand in the cookie.
func keyOf(token string) string {
	var secret [secretLen]byte
	copy(secret[:], token[tagLen+1:])
	sum := sha256.Sum256(secret[:])
	var key [tagLen + 1 + 43]byte
	copy(key[:], token[:tagLen+1])
	base64.RawURLEncoding.Encode(key[tagLen+1:], sum[:])
	return string(key[:tagLen+1+hashLen])
}

// cookieName returns the cookie's name for a request's scheme. Only the name of
// the request's own scheme is read: a plain cookie can be planted by anybody on
// the network, a prefixed one only over TLS.
func (m *Sessions) cookieName(secure bool) string {
	switch {
	case !secure:
		return m.cfg.Cookie.Name
	case m.cfg.Cookie.Domain == "" && m.cfg.ContextPath == "/":
		return "__Host-" + m.cfg.Cookie.Name
	}
	return "__Secure-" + m.cfg.Cookie.Name
}

// secure reports whether the browser speaks TLS.
func (m *Sessions) secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	if !m.cfg.TrustForwardedProto {
		return false
	}
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(first), "https")
}

// candidates appends the tokens that the request's cookies carry, without
// repetitions, at most maxCandidates. It finds those that r.CookiesNamed finds, and
// makes nothing of all the others: every request comes here.
func (m *Sessions) candidates(tokens []string, r *http.Request) []string {
	lines := r.Header["Cookie"]
	if len(lines) == 0 {
		return tokens
	}
	const space = " \t\r\n" // net/http trims no other
	wanted := m.cookieName(m.secure(r))
	for _, rest := range lines {
		for rest != "" {
			var part string
			part, rest, _ = strings.Cut(rest, ";")
			name, value, _ := strings.Cut(strings.Trim(part, space), "=")
			if strings.Trim(name, space) != wanted {
				continue
			}
			if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			token, ok := parseToken(value)
			if !ok || slices.Contains(tokens, token) {
				continue
			}
			if tokens = append(tokens, token); len(tokens) == maxCandidates {
				return tokens
			}
		}
	}
	return tokens
}

// setCookie returns the Set-Cookie line that gives the browser token, or takes
// its cookie away where token is "".
func (m *Sessions) setCookie(r *http.Request, token string) string {
	secure := m.secure(r)
	c := http.Cookie{
		Name:     m.cookieName(secure),
		Path:     m.cfg.ContextPath,
		Domain:   m.cfg.Cookie.Domain,
		Secure:   secure,
		HttpOnly: true,
		SameSite: m.cfg.Cookie.SameSite,
	}
	if !secure {
		if c.SameSite == http.SameSiteNoneMode {
			c.SameSite = http.SameSiteLaxMode // browsers refuse None without Secure
		}
		m.warnPlain.Do(func() {
			m.log.Warn("session cookies travel over plain HTTP, where anybody on the way can read them; " +
				"use TLS, or trustForwardedProto behind a proxy that ends it")
		})
	}
	if token == "" {
		c.MaxAge = -1
		return c.String()
	}
	c.Value = token
	if m.cfg.Cookie.Route != "" {
		c.Value += "." + m.cfg.Cookie.Route
	}
	c.MaxAge = int((m.cfg.Cookie.MaxAge + time.Second - 1) / time.Second)
	return c.String()
}
