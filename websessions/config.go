package websessions

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// The values that zero fields of Config stand for.
const (
	DefaultIdleTimeout    = 30 * time.Minute
	DefaultNonStopTimeout = 10 * time.Second
	DefaultStallTimeout   = time.Second
	DefaultCookieName     = "TCSESSION"
	DefaultMaxBytesOnHeap = 128 << 20
)

// MinStallTimeout is the least Config.StallTimeout: below it a busy machine looks
// like a server that is gone.
const MinStallTimeout = 100 * time.Millisecond

// Config configures Sessions. The zero value plus URI works. Settings tells
// how each field is spelled as a property and in the environment.
type Config struct {
	URI string // terracotta://host[:port][,host...]/dataset; property store.tcstore.uri
	// TCConfigURL is the other way to name the servers, that of 4.x: a host list
	// such as server1:9410,server2:9410, or the path or the file:, http: or https:
	// URL of a tc-config.xml with them, which New reads once. The dataset is then
	// named after ContextPath: the path without its first slash, or websessions.
	TCConfigURL     string
	OffheapResource string   // off-heap resource of the dataset; "" = the cluster's first
	DiskResource    string   // data directory of the dataset; "" = the platform's
	Tags            []string // shown to operators

	// SessionLocking would let one request of a session run at a time. It needs
	// ownership, which this version does not have: New refuses true.
	SessionLocking bool
	// SynchronousWrite makes a response wait for the acknowledgement of its
	// changes. In this version every response waits, also with false.
	SynchronousWrite bool
	// MaxBytesOnHeap and MaxBytesOffHeap bound what a node keeps of the sessions
	// it owns, in bytes; 0 = the default (128 MiB) and none. Nodes of this
	// version keep nothing between requests, so they have no effect yet.
	MaxBytesOnHeap  int64
	MaxBytesOffHeap int64
	// Rejoin lets a node that the cluster has given up come back under a new
	// identity. In this version a node always comes back, also with false.
	Rejoin bool
	// NonStopTimeout bounds how long one request waits for the cluster, in all
	// its operations together; 0 = DefaultNonStopTimeout, negative = until the
	// request ends. A request that has waited in vain answers 503, and what it
	// still asks is refused at once. Where a server says that its cluster is not
	// configured, 2 s are enough, unless NonStopTimeout is negative.
	NonStopTimeout time.Duration
	// StallTimeout is how long one of several servers that owes an answer may be
	// silent before the next one is tried; 0 = DefaultStallTimeout, at least
	// MinStallTimeout. It should leave room for the next server within NonStopTimeout.
	StallTimeout time.Duration
	// NonStopBehavior says what happens then: "exception", also "", is the only
	// one of this version.
	NonStopBehavior string
	Concurrency     int // segments of the dataset on the server; 0 = chosen by the server

	IdleTimeout     time.Duration // 0 = DefaultIdleTimeout, negative = none
	AbsoluteTimeout time.Duration // since creation; 0 = none
	ContextPath     string        // path of the cookie; "" = "/"
	Cookie          Cookie
	// TrustForwardedProto believes the header X-Forwarded-Proto. Set it only
	// behind a proxy that overwrites what browsers send.
	TrustForwardedProto bool
	Password            string // shared secret of the cluster; "" = none
	Label               string // name of this node, shown to operators; "" = the host name
	Codec               Codec  // nil = JSON
	Logger              *slog.Logger
	Hooks               Hooks

	// ErrorPage answers a request whose session cannot be read or saved; nil =
	// a short text with status 503 and Retry-After. err is for the log, not for
	// the browser; errors.Is(err, ErrUnavailable) tells whether trying again may help.
	ErrorPage func(w http.ResponseWriter, r *http.Request, err error)
}

// Cookie configures the session cookie. It is always HttpOnly, and Secure over
// TLS, where its name gets the prefix __Host-, or __Secure- where Domain or
// ContextPath rule that out.
type Cookie struct {
	Name     string        // without prefix; "" = TCSESSION
	Domain   string        // "" = this host only
	SameSite http.SameSite // 0 = Lax; None only holds over TLS
	Route    string        // suffix for sticky balancers, like jvmRoute; "" = none
	MaxAge   time.Duration // counted from creation or renewal; 0 = until the browser ends
}

// Codec turns attribute values into bytes and back. It is called concurrently.
// A deterministic one spares comparisons at the end of requests.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

// jsonCodec is the default: readable in any language, and it survives a deploy
// that adds or drops fields.
type jsonCodec struct{}

func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// withDefaults fills in what zero values stand for.
func (c Config) withDefaults() Config {
	switch {
	case c.IdleTimeout == 0:
		c.IdleTimeout = DefaultIdleTimeout
	case c.IdleTimeout < 0:
		c.IdleTimeout = 0 // on the wire 0 means none
	}
	if c.NonStopTimeout == 0 {
		c.NonStopTimeout = DefaultNonStopTimeout
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = DefaultStallTimeout
	}
	if c.NonStopBehavior == "" {
		c.NonStopBehavior = "exception"
	}
	if c.MaxBytesOnHeap == 0 {
		c.MaxBytesOnHeap = DefaultMaxBytesOnHeap
	}
	if c.ContextPath == "" {
		c.ContextPath = "/"
	}
	if c.Cookie.Name == "" {
		c.Cookie.Name = DefaultCookieName
	}
	if c.Cookie.SameSite == 0 || c.Cookie.SameSite == http.SameSiteDefaultMode {
		c.Cookie.SameSite = http.SameSiteLaxMode
	}
	if c.Codec == nil {
		c.Codec = jsonCodec{}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.ErrorPage == nil {
		c.ErrorPage = defaultErrorPage
	}
	return c
}

// Validate reports all faults of c at once, each under the name of its setting.
// That URI is missing is not among them: NewMemory has no use for it.
func (c Config) Validate() error {
	var errs []error
	bad := func(name, format string, v ...any) {
		errs = append(errs, fmt.Errorf(Prefix+name+": "+format, v...))
	}
	if c.URI != "" && c.TCConfigURL != "" {
		bad("tcConfigUrl", "is set, and store.tcstore.uri is set too; which one counts?")
	}
	if c.URI != "" {
		if _, err := parseURI(c.URI); err != nil {
			bad("store.tcstore.uri", "%w", err) // which repeats no password
		}
	}
	if c.SessionLocking {
		bad("sessionLocking", "true needs session ownership, which a later version brings; "+
			"leave it false and use Attribute.Update for read-modify-write")
	}
	if c.NonStopBehavior != "" && c.NonStopBehavior != "exception" {
		bad("nonStopBehavior", "%q is not known to this version; the only one is \"exception\" "+
			"(localReads and noop come with a later version)", c.NonStopBehavior)
	}
	if d := c.StallTimeout; d != 0 && d < MinStallTimeout {
		bad("stallTimeout", "%v is shorter than %v, for which a server may be silent because it is busy", d, MinStallTimeout)
	}
	if c.Concurrency < 0 || c.Concurrency > wire.MaxConcurrency {
		bad("concurrency", "%d is not within 0 (chosen by the server) and %d", c.Concurrency, wire.MaxConcurrency)
	}
	if c.MaxBytesOnHeap < 0 {
		bad("maxBytesOnHeap", "%d is negative", c.MaxBytesOnHeap)
	}
	if c.MaxBytesOffHeap < 0 {
		bad("maxBytesOffHeap", "%d is negative", c.MaxBytesOffHeap)
	}
	if c.AbsoluteTimeout < 0 {
		bad("absoluteTimeout", "%v is negative; 0 means none", c.AbsoluteTimeout)
	}
	if p := c.ContextPath; p != "" && (p[0] != '/' || strings.ContainsFunc(p, notInCookiePath)) {
		bad("contextPath", "%q is no path such as /shop", p)
	}
	for _, tag := range c.Tags {
		if tag == "" || strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f }) {
			bad("store.tcstore.tags", "%q is no tag; example: \"node-1,webapp\"", tag)
		}
	}
	if len(c.Label) > wire.MaxLabel {
		bad("label", "has %d bytes; at most %d are allowed", len(c.Label), wire.MaxLabel)
	}
	c.Cookie.validate(bad)
	return errors.Join(errs...)
}

func notInCookiePath(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' || r == ',' }

func (c Cookie) validate(bad func(name, format string, v ...any)) {
	if strings.ContainsFunc(c.Name, notInToken) || len(c.Name) > 64 {
		bad("cookie.name", "%q is no cookie name such as %s", c.Name, DefaultCookieName)
	}
	if low := strings.ToLower(c.Name); strings.HasPrefix(low, "__host-") || strings.HasPrefix(low, "__secure-") {
		bad("cookie.name", "%q has a prefix; write the name without it, it is added over TLS", c.Name)
	}
	if c.Domain != "" && (strings.ContainsFunc(c.Domain, notInDomain) || len(c.Domain) > 253) {
		bad("cookie.domain", "%q is no domain such as example.com", c.Domain)
	}
	if strings.ContainsFunc(c.Route, notInRoute) || len(c.Route) > maxRoute {
		bad("cookie.route", "%q is not made of at most %d letters, digits, dots, hyphens and underscores", c.Route, maxRoute)
	}
	if c.MaxAge < 0 {
		bad("cookie.maxAge", "%v is negative; 0 means until the browser ends", c.MaxAge)
	}
	if c.SameSite < 0 || c.SameSite > http.SameSiteNoneMode {
		bad("cookie.sameSite", "%d is none of http's constants", c.SameSite)
	}
}

func alphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func notInToken(r rune) bool  { return !alphanumeric(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r) }
func notInDomain(r rune) bool { return !alphanumeric(r) && r != '.' && r != '-' }
func notInRoute(r rune) bool  { return !alphanumeric(r) && r != '.' && r != '-' && r != '_' }
