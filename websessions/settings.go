package websessions

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Prefix starts every property of this package, EnvPrefix every environment variable.
const (
	Prefix    = "terracotta.websessions."
	EnvPrefix = "TERRACOTTA_WEBSESSIONS_"
)

// Setting describes one setting, for help texts and documentation.
type Setting struct {
	Property string // e.g. terracotta.websessions.nonStopTimeout
	Env      string // e.g. TERRACOTTA_WEBSESSIONS_NON_STOP_TIMEOUT
	Default  string // as it would be written; "" = none
	Example  string
	Doc      string
	Secret   bool // never show its value
}

// setting is one row of the table that decides names, parsing, defaults and docs.
type setting struct {
	name, def, example, doc string
	set                     func(c *Config, v string) error
	secret                  bool
}

var settings = []setting{
	{name: "store.tcstore.uri", example: "terracotta://server:9410/cartSessions",
		doc: "The cluster and the dataset that holds the sessions. Several servers are separated by commas.",
		set: text(func(c *Config) *string { return &c.URI })},
	{name: "tcConfigUrl", example: "server1:9410,server2:9410",
		doc: "Instead of store.tcstore.uri, as in 4.x: a list of servers (port 9410 where none is written; 9510, the default of 4.x, must be one that a server listens on), or the path or the file:, http: or https: URL of a tc-config.xml that names them, read once at the start. The dataset is named after contextPath, or websessions.",
		set: text(func(c *Config) *string { return &c.TCConfigURL })},
	{name: "store.tcstore.offheapResource", example: "offheap-1",
		doc: "Off-heap resource of the dataset. Default: the cluster's first.",
		set: text(func(c *Config) *string { return &c.OffheapResource })},
	{name: "store.tcstore.diskResource", example: "dataroot-1",
		doc: "Data directory of the dataset. Default: the platform's.",
		set: text(func(c *Config) *string { return &c.DiskResource })},
	{name: "store.tcstore.tags", example: "node-1,webapp",
		doc: "Comma separated words shown to operators.",
		set: func(c *Config, v string) error { c.Tags = words(v); return nil }},
	{name: "sessionLocking", def: "false", example: "false",
		doc: "One request of a session at a time. true is refused by this version; a later one brings it.",
		set: boolean(func(c *Config) *bool { return &c.SessionLocking })},
	{name: "synchronousWrite", def: "false", example: "true",
		doc: "Whether a response waits until its changes are acknowledged. In this version every response waits, also with false.",
		set: boolean(func(c *Config) *bool { return &c.SynchronousWrite })},
	{name: "maxBytesOnHeap", def: "128M", example: "128M",
		doc: "Heap for the sessions that this node owns. No effect yet: nodes of this version keep nothing between requests.",
		set: size(func(c *Config) *int64 { return &c.MaxBytesOnHeap })},
	{name: "maxBytesOffHeap", example: "4G",
		doc: "Off-heap memory for the sessions that this node owns. No effect yet, as maxBytesOnHeap.",
		set: size(func(c *Config) *int64 { return &c.MaxBytesOffHeap })},
	{name: "rejoin", def: "false", example: "true",
		doc: "Whether a node that the cluster has given up comes back under a new identity. In this version it always does, also with false.",
		set: boolean(func(c *Config) *bool { return &c.Rejoin })},
	{name: "nonStopTimeout", def: "10000", example: "30000",
		doc: "How long one request waits for the cluster, in all its operations together, before it answers 503: milliseconds, or with a unit as in 30s; -1 = until the request ends. For a cluster that is not configured it is 2 s at most, but for -1.",
		set: func(c *Config, v string) (err error) { c.NonStopTimeout, err = nonStop(v); return err }},
	{name: "stallTimeout", def: "1s", example: "500ms",
		doc: "With several servers: how long one that owes an answer may be silent, here and to a second connection that asks whether it lives, before the next server is tried; at least 100ms.",
		set: func(c *Config, v string) error {
			if strings.EqualFold(v, "none") {
				return errors.New("a server that is silent for ever would stop the application; nonStopTimeout bounds a request")
			}
			return duration(0, func(c *Config) *time.Duration { return &c.StallTimeout })(c, v)
		}},
	{name: "nonStopBehavior", def: "exception", example: "exception",
		doc: "What happens when nonStopTimeout has passed. This version knows exception only; localReads and noop come later.",
		set: text(func(c *Config) *string { return &c.NonStopBehavior })},
	{name: "concurrency", def: "0", example: "256",
		doc: "Segments of the dataset on the server; 0 = chosen by the server.",
		set: func(c *Config, v string) (err error) { c.Concurrency, err = strconv.Atoi(v); return err }},
	{name: "idleTimeout", def: "30m", example: "20m",
		doc: "A session ends when it was not used for so long; none = never.",
		set: duration(-1, func(c *Config) *time.Duration { return &c.IdleTimeout })},
	{name: "absoluteTimeout", def: "none", example: "12h",
		doc: "A session ends so long after its creation, used or not; none = never.",
		set: duration(0, func(c *Config) *time.Duration { return &c.AbsoluteTimeout })},
	{name: "contextPath", def: "/", example: "/shop",
		doc: "Path of the application, and of the cookie.",
		set: text(func(c *Config) *string { return &c.ContextPath })},
	{name: "cookie.name", def: DefaultCookieName, example: "SHOPSESSION",
		doc: "Name of the cookie, without the prefix __Host- or __Secure- that it gets over TLS.",
		set: text(func(c *Config) *string { return &c.Cookie.Name })},
	{name: "cookie.domain", example: "example.com",
		doc: "Domain of the cookie. Default: this host only, which is safer.",
		set: text(func(c *Config) *string { return &c.Cookie.Domain })},
	{name: "cookie.sameSite", def: "lax", example: "strict",
		doc: "lax, strict or none; none holds over TLS only.",
		set: func(c *Config, v string) (err error) { c.Cookie.SameSite, err = sameSite(v); return err }},
	{name: "cookie.route", example: "node1",
		doc: "Suffix of the cookie for sticky load balancers, like jvmRoute.",
		set: text(func(c *Config) *string { return &c.Cookie.Route })},
	{name: "cookie.maxAge", def: "none", example: "720h",
		doc: "Life of the cookie in the browser, counted from creation or renewal; none = until the browser ends.",
		set: duration(0, func(c *Config) *time.Duration { return &c.Cookie.MaxAge })},
	{name: "trustForwardedProto", def: "false", example: "true",
		doc: "Believe the header X-Forwarded-Proto. Only behind a proxy that overwrites what browsers send.",
		set: boolean(func(c *Config) *bool { return &c.TrustForwardedProto })},
	{name: "password", example: "(a secret)", secret: true,
		doc: "Shared secret of the cluster. Better in a file: passwordFile.",
		set: text(func(c *Config) *string { return &c.Password })},
	{name: "passwordFile", example: "/run/secrets/terracotta",
		doc: "File with the shared secret of the cluster; a line end after it does not count.",
		set: func(c *Config, v string) (err error) { c.Password, err = passwordFile(v); return err }},
	{name: "label", example: "shop-1",
		doc: "Name of this node, shown to operators. Default: the host name.",
		set: text(func(c *Config) *string { return &c.Label })},
}

// Settings lists every setting in a fixed order.
func Settings() []Setting {
	list := make([]Setting, len(settings))
	for i, s := range settings {
		list[i] = Setting{Property: Prefix + s.name, Env: envName(s.name), Default: s.def,
			Example: s.example, Doc: s.doc, Secret: s.secret}
	}
	return list
}

// ConfigFromProperties overlays base with terracotta.websessions.* properties
// and returns all faults at once: unknown names, with the nearest known one, and
// values that don't parse. Other properties are ignored.
func ConfigFromProperties(base Config, props map[string]string) (Config, error) {
	return overlay(base, props, Prefix, func(name string) string { return Prefix + name })
}

// ConfigFromEnv does the same with environment variables, given as in
// os.Environ: TERRACOTTA_WEBSESSIONS_ and the property's name in upper snake
// case, such as TERRACOTTA_WEBSESSIONS_STORE_TCSTORE_URI. An empty value counts
// as not set.
func ConfigFromEnv(base Config, environ []string) (Config, error) {
	vars := map[string]string{}
	for _, line := range environ {
		if k, v, ok := strings.Cut(line, "="); ok && v != "" {
			vars[k] = v
		}
	}
	return overlay(base, vars, EnvPrefix, envName)
}

// overlay applies the given values in the order of the table, so that the
// result does not depend on the order of a map.
func overlay(base Config, given map[string]string, prefix string, spell func(string) string) (Config, error) {
	cfg := base
	known := map[string]bool{}
	var errs []error
	for _, s := range settings {
		full := spell(s.name)
		known[full] = true
		v, ok := given[full]
		if !ok {
			continue
		}
		if err := s.set(&cfg, strings.TrimSpace(v)); err != nil {
			shown := strconv.Quote(v)
			if s.secret {
				shown = "(secret)"
			}
			errs = append(errs, fmt.Errorf("%s=%s: %w; example: %s", full, shown, plain(err), s.example))
		}
	}
	var unknown []string
	for full := range given {
		if strings.HasPrefix(full, prefix) && !known[full] {
			unknown = append(unknown, full)
		}
	}
	slices.Sort(unknown)
	for _, full := range unknown {
		errs = append(errs, fmt.Errorf("unknown setting %q; did you mean %s?", full, nearest(full, spell)))
	}
	return cfg, errors.Join(errs...)
}

// plain drops the function name that strconv writes into its errors.
func plain(err error) error {
	var num *strconv.NumError
	if errors.As(err, &num) {
		return num.Err
	}
	return err
}

// envName spells a property as an environment variable: cookie.sameSite ->
// TERRACOTTA_WEBSESSIONS_COOKIE_SAME_SITE.
func envName(name string) string {
	var b strings.Builder
	b.WriteString(EnvPrefix)
	for _, r := range name {
		switch {
		case r == '.':
			b.WriteByte('_')
		case unicode.IsUpper(r):
			b.WriteByte('_')
			b.WriteRune(r)
		default:
			b.WriteRune(unicode.ToUpper(r))
		}
	}
	return b.String()
}

// nearest returns the known spelling with the smallest edit distance, upper and
// lower case being the same.
func nearest(full string, spell func(string) string) string {
	best, least := "", math.MaxInt
	for _, s := range settings {
		candidate := spell(s.name)
		if d := distance(strings.ToLower(full), strings.ToLower(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is Levenshtein's. A name too long to be a slip of the finger is cut.
func distance(a, b string) int {
	a = a[:min(len(a), 128)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error { *field(c) = v; return nil }
}

func boolean(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		switch strings.ToLower(v) {
		case "true":
			*field(c) = true
		case "false":
			*field(c) = false
		default:
			return errors.New("neither true nor false")
		}
		return nil
	}
}

func size(field func(*Config) *int64) func(*Config, string) error {
	return func(c *Config, v string) (err error) {
		*field(c), err = parseSize(v)
		return err
	}
}

// parseSize reads 128M, 4G, 512k, 1T, 128MB or a number of bytes; k is 1024.
func parseSize(v string) (int64, error) {
	digits := strings.TrimRightFunc(v, func(r rune) bool { return !unicode.IsDigit(r) })
	shift, ok := map[string]uint{"": 0, "b": 0, "k": 10, "kb": 10, "m": 20, "mb": 20, "g": 30, "gb": 30, "t": 40, "tb": 40}[strings.ToLower(v[len(digits):])]
	if !ok {
		return 0, errors.New("unknown unit; k, M, G and T are known")
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, errors.New("not a whole number with a unit")
	}
	if n > math.MaxInt64>>shift {
		return 0, errors.New("too large")
	}
	return int64(n) << shift, nil
}

// duration reads a duration with its unit. "none" gives the value that none has
// in Config.
func duration(none time.Duration, field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		if strings.EqualFold(v, "none") {
			*field(c) = none
			return nil
		}
		d, err := time.ParseDuration(v)
		if err != nil {
			return errors.New("not a duration with a unit (s, m, h)")
		}
		if d < time.Millisecond {
			return errors.New("shorter than a millisecond; none switches it off")
		}
		*field(c) = d
		return nil
	}
}

func nonStop(v string) (time.Duration, error) {
	if v == "-1" {
		return -1, nil
	}
	d, err := time.ParseDuration(v)
	if ms, e := strconv.ParseInt(v, 10, 32); e == nil {
		d, err = time.Duration(ms)*time.Millisecond, nil
	}
	switch {
	case err != nil:
		return 0, errors.New("neither milliseconds nor a duration with a unit")
	case d < time.Millisecond:
		return 0, errors.New("would fail every request; -1 waits until the request ends")
	}
	return d, nil
}

func sameSite(v string) (http.SameSite, error) {
	switch strings.ToLower(v) {
	case "lax":
		return http.SameSiteLaxMode, nil
	case "strict":
		return http.SameSiteStrictMode, nil
	case "none":
		return http.SameSiteNoneMode, nil
	}
	return 0, errors.New("none of lax, strict, none")
}

func words(v string) []string {
	var list []string
	for w := range strings.SplitSeq(v, ",") {
		if w = strings.TrimSpace(w); w != "" {
			list = append(list, w)
		}
	}
	return list
}

// passwordFile reads a secret. The error names the file, never its content.
func passwordFile(name string) (string, error) {
	f, err := openRegular(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPassword+3))
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(b), "\r\n")
	switch {
	case secret == "" || len(secret) > maxPassword:
		return "", fmt.Errorf("%q holds no password of 1 to %d bytes", name, maxPassword)
	case strings.ContainsAny(secret, "\r\n\x00"):
		return "", fmt.Errorf("%q has more than one line", name)
	}
	return secret, nil
}

const maxPassword = 4096 // bytes

// openRegular opens a file that is neither a folder nor a device nor a pipe,
// which could keep us for ever: already its opening waits for whoever fills it.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a file", path)
	}
	return os.Open(path)
}
