// Package config is the only room that knows viper and tc-config.xml: it turns
// flags, environment, JAVA_OPTS properties, files and defaults into plain,
// validated structs. Precedence: flag, environment, JAVA_OPTS property, file,
// default. All faults are reported at once.
package config

import (
	"github.com/spf13/pflag"

	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/websessions"
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
	Key    string // e.g. offheap-resource
	Value  string // "(set)" for secrets
	Origin string // e.g. "environment OFFHEAP_RESOURCE1_SIZE", "default", "/configs/tc-config.xml:12:9"
}

// Server is the whole configuration of a terracotta-server.
type Server struct {
	Common
	Self           wire.ServerConfig // this server among Stripe.Servers
	Bind           string            // address to listen on, default 0.0.0.0
	ManagementPort int               // 9540
	Stripe         wire.StripeConfig
	Durability     string // "every write", "every second", "memory only"
	TrustedKeys    string // directory of public keys
	Password       string // shared secret of TC_PASSWORD_FILE or TC_PASSWORD, "" = none
	MaxConnections int
	MaxValue       int // bytes
}

// ServerFlags registers the server's flags on fs.
func ServerFlags(fs *pflag.FlagSet) { panic("not built") }

// LoadServer reads everything. environ is os.Environ(); it and fs are the only inputs beside the files they name.
func LoadServer(fs *pflag.FlagSet, environ []string) (Server, error) { panic("not built") }

// Tool is the configuration of the cluster tool beside its command line.
type Tool struct {
	Common
	TrustedKeys       string // directory of public keys
	Password          string
	LicenseURL        string
	LicenseFile       string // where a fetched licence goes and the default one is: /licenses/license.xml
	LicenseSHA256     string
	LicenseCA         string // PEM file
	LicenseAllowHTTP  bool   // LICENSE_ALLOW_HTTP=Y
	LicenseTokenFile  string // file with a bearer token
	LicenseClientCert string // PEM file, with LicenseClientKey
	LicenseClientKey  string
}

// LoadTool reads the environment of the cluster tool.
func LoadTool(environ []string) (Tool, error) { panic("not built") }

// Cart is the configuration of the cart example.
type Cart struct {
	Common
	Listen   string   // default :8080
	Contexts []string // context paths, default /cart and /Cart
	Color    string   // goldenrod or darkseagreen; default by the parity of the port or name
	PeerPort int      // port of the other server for the switch link, 0 = none
	Sessions websessions.Config
}

// LoadCart reads flags, environment and JAVA_OPTS of the cart example.
func CartFlags(fs *pflag.FlagSet)                                { panic("not built") }
func LoadCart(fs *pflag.FlagSet, environ []string) (Cart, error) { panic("not built") }

// ParseTCConfig reads a tc-config.xml. vars gives the values of the substitutions
// %h %i %H %n %t and of %(property). Errors carry name:line:column.
func ParseTCConfig(name string, doc []byte, vars func(string) (string, bool)) (wire.StripeConfig, error) {
	panic("not built")
}
