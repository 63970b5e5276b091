// Package config is the only room that knows viper and tc-config.xml: it turns
// flags, environment, JAVA_OPTS properties, files and defaults into plain,
// validated structs.
//
// The one idea: each setting stands once, in a table (settings.go), with its
// names on every floor. A floor higher up wins: flag, environment, JAVA_OPTS
// property, settings file, tc-config.xml, default. Whoever asks where a value
// came from is answered by the same loop that chose it. All faults are reported
// at once, each with the key, the value, its origin and an example.
//
//	config.ServerFlags(cmd.Flags())
//	...
//	cfg, err := config.LoadServer(cmd.Flags(), os.Environ())
//
// The structs travel by value; nobody else reads environment, flags or files.
package config

import (
	"strings"
	"time"
	"unicode"

	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/websessions"
)

// Version and Commit name this build. They are set by the linker
// (-ldflags "-X .../config.Version=... -X .../config.Commit=...").
var (
	Version = "10.4.0-SNAPSHOT"
	Commit  = ""
)

// Common is what every binary of an image has.
type Common struct {
	InContainer bool      // TERRACOTTA_CONTAINER=1: the EULA gate holds
	EULA        bool      // ACCEPT_EULA is exactly Y
	LogLevel    string    // debug, info, warn, error; default info
	LogFormat   string    // text or json; default text
	Notes       []string  // lines to log once at the start: ignored JAVA_OPTS words and the like
	Settings    []Setting // every setting with its value and where it came from
}

// Setting is one line of `terracotta-server config`.
type Setting struct {
	Key    string `json:"key"`    // e.g. offheap-resource
	Value  string `json:"value"`  // "(set)" for secrets
	Origin string `json:"origin"` // e.g. "environment OFFHEAP_RESOURCE1_SIZE", "default", "/configs/tc-config.xml:12:9"
}

// Server is the whole configuration of a terracotta-server.
type Server struct {
	Common
	// Self is this server: the one of Stripe.Servers with its name. Where an
	// advertised host is set and there are several servers, only Self carries it,
	// because all servers of a stripe must run the same Stripe.
	Self           wire.ServerConfig
	Bind           string // address to listen on, default 0.0.0.0
	GroupBind      string // the same for the port for other servers, default Bind
	Failover       FailoverTimers
	ConfigFile     string // tc-config.xml that was read, "" = the built-in configuration
	ManagementPort int    // 9540; 0 = any free one, NoManagement = none
	// ManagementAsked is true where somebody chose ManagementPort: then it is an
	// error when the port is taken, not only a warning.
	ManagementAsked bool
	// MemoryMayExceed is true where off-heap resources may be larger than the
	// memory that there is: memory-check is warn.
	MemoryMayExceed bool
	Stripe          wire.StripeConfig
	Durability      string // one of the Durability constants
	TrustedKeys     string // directory of public keys
	Password        string // shared secret of TC_PASSWORD_FILE or TC_PASSWORD, "" = none
	MaxConnections  int
	MaxValue        int // bytes
}

// FailoverTimers are the times by which servers of a stripe notice that the active
// one is gone; all zero: those that package stripe takes for safe.
type FailoverTimers struct {
	Heartbeat, Election, Lease time.Duration

	Alone time.Duration // after which the passive of a pair in availability mode goes on alone
}

// NoManagement as Server.ManagementPort means that nothing listens.
const NoManagement = -1

// The values of Server.Durability.
const (
	EveryWrite  = "every write"  // acknowledged after fsync
	EverySecond = "every second" // a crash of the machine may lose the last second
	MemoryOnly  = "memory only"  // a stop of the server loses everything
)

// Platform returns the data directory of the log and the snapshots; ok is false
// where the stripe has none.
func (s Server) Platform() (dir wire.DataDirectory, ok bool) {
	for _, d := range s.Stripe.DataDirectories {
		if d.Platform {
			return d, true
		}
	}
	return wire.DataDirectory{}, false
}

// Tool is the configuration of the cluster tool beside its command line.
type Tool struct {
	Common
	TrustedKeys       string // directory of public keys
	Password          string // shared secret of the servers, "" = none
	LicenseURL        string // may hold secrets: Settings shows it without them
	LicenseFile       string // where a fetched licence goes and the default one is: /licenses/license.xml
	LicenseSHA256     string // 64 lower-case hexadecimal digits, "" = not pinned
	LicenseCA         string // PEM file
	LicenseAllowHTTP  bool   // LICENSE_ALLOW_HTTP=Y
	LicenseTokenFile  string // file with a bearer token
	LicenseClientCert string // PEM file, with LicenseClientKey
	LicenseClientKey  string
}

// Cart is the configuration of the cart example.
type Cart struct {
	Common
	Name     string   // of this server, shown on the page; default Host
	Host     string   // name of this machine or container
	Listen   string   // default :8080
	Contexts []string // context paths, default /cart and /Cart
	Color    string   // goldenrod or darkseagreen; default by the parity of the port or name
	PeerPort int      // port of the other server for the switch link, 0 = none
	Sessions websessions.Config
}

// Fault is one thing that is wrong in a configuration. Load functions join all
// faults with errors.Join.
type Fault struct {
	Key     string // the setting, or the place in a file
	Value   string // as given; "" where it is missing or secret
	Origin  string // where the value came from; "" where it is missing
	Problem string // what is wrong
	Example string // a line that works; may be ""
}

// Error returns one line: key, value, origin, problem, example.
func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Key)
	if f.Value != "" {
		b.WriteString(" " + quoted(f.Value))
	}
	if f.Origin != "" {
		b.WriteString(" (" + f.Origin + ")")
	}
	b.WriteString(": " + f.Problem)
	if f.Example != "" {
		b.WriteString("; example: " + f.Example)
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, b.String())
}
