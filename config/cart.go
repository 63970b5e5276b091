package config

import (
	"hash/fnv"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/terracotta-go/terracotta/websessions"
)

// The colours of the cart's box: the first server's and the second one's.
const (
	Goldenrod    = "goldenrod"
	DarkSeaGreen = "darkseagreen"
)

const (
	sessionsExample = `JAVA_OPTS="-Dterracotta.websessions.store.tcstore.uri=terracotta://terracotta:9410/sessions-example"`
)

// CartFlags registers the flags of the cart example on fs. Beside its own there
// is -D NAME=VALUE for terracotta.websessions.* properties.
func CartFlags(fs *pflag.FlagSet) {
	registerFlags(fs, cartRows)
	fs.StringArrayP("define", "D", nil, "`NAME=VALUE`: a terracotta.websessions.* property, as in JAVA_OPTS; may be repeated")
}

// LoadCart reads flags, environment and JAVA_OPTS of the cart example. With an
// error, which joins all Faults, the rest of the Cart is what could be read.
func LoadCart(fs *pflag.FlagSet, environ []string) (Cart, error) {
	f := load(cartRows, fs, environ, websessions.Prefix)
	c := Cart{Common: f.common(), Host: f.hostname(), Listen: f.text("listen")}
	c.Name = c.Host
	if name := f.text("server-name"); name != "" {
		c.Name = name
	} else {
		f.lay(map[string]value{"server-name": {c.Name, f.origin["hostname"]}})
	}
	port := f.listenPort()
	c.Contexts = f.contexts()
	if f.text("peer-port") != "" {
		c.PeerPort = f.number("peer-port", 1, 65535)
	}
	if f.text("color") == "" {
		f.lay(map[string]value{"color": {boxColor(port, c.PeerPort, c.Name), originDefault}})
	}
	c.Color = f.oneOf("color", Goldenrod, DarkSeaGreen)
	password := f.password()
	sessions, given := f.sessions(fs)
	c.Sessions = sessions
	if c.Sessions.Label == "" {
		c.Sessions.Label = c.Name
	}
	if c.Sessions.Password == "" {
		c.Sessions.Password = password
	}
	if err := c.Sessions.Validate(); err != nil {
		f.faults = append(f.faults, err)
	}
	c.Notes = f.notes
	c.Settings = append(f.listed(), given...)
	return c, f.err()
}

func (f *floors) listenPort() int {
	_, text, err := net.SplitHostPort(f.text("listen"))
	port, numErr := strconv.ParseUint(text, 10, 16)
	if err != nil || numErr != nil {
		f.bad("listen", "is not host:port")
	}
	return int(port)
}

// contexts returns the context paths in order, each once, without a slash at
// the end: the path / is "".
func (f *floors) contexts() []string {
	var list []string
	for _, p := range strings.Split(f.text("context-paths"), ",") {
		p = strings.TrimSpace(p)
		if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "{}?#% ") || strings.Contains(p, "//") {
			f.bad("context-paths", "is not a list of paths")
			return nil
		}
		p = strings.TrimSuffix(p, "/")
		if p == "/health" || p == "/ready" {
			f.bad("context-paths", "takes the path of a health check")
		}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// boxColor gives two servers of one shop different colours without being told:
// by the other one's port, else the own port where it was chosen, else the name.
func boxColor(port, peer int, name string) string {
	n := uint32(port)
	switch {
	case peer != 0:
		n = uint32(peer) + 1
	case port == 8080 && name != "":
		last := name[len(name)-1]
		if last >= '0' && last <= '9' {
			n = uint32(last)
			break
		}
		h := fnv.New32a()
		h.Write([]byte(name))
		n = h.Sum32()
	}
	if n%2 == 1 {
		return Goldenrod
	}
	return DarkSeaGreen
}

// sessions lays the floors of terracotta.websessions.*, whose names and values
// the library itself knows: JAVA_OPTS, then environment, then flags. The second
// result lists all its settings with their origins.
func (f *floors) sessions(fs *pflag.FlagSet) (websessions.Config, []Setting) {
	props := map[string]string{}
	for name, text := range f.props {
		if strings.HasPrefix(name, websessions.Prefix) {
			props[name] = text
		}
	}
	vars := map[string]string{}
	var environ []string
	for name, text := range f.env {
		if strings.HasPrefix(name, websessions.EnvPrefix) && text != "" {
			vars[name] = text
			environ = append(environ, name+"="+text)
		}
	}
	flags := f.defines(fs)

	var cfg websessions.Config
	keep := func(c websessions.Config, err error) {
		if err != nil {
			f.faults = append(f.faults, err)
			return
		}
		cfg = c
	}
	keep(websessions.ConfigFromProperties(cfg, props))
	keep(websessions.ConfigFromEnv(cfg, environ))
	keep(websessions.ConfigFromProperties(cfg, flags))
	if cfg.URI == "" && cfg.TCConfigURL == "" {
		f.fault(websessions.Prefix+"store.tcstore.uri", "", "", "is not set: which cluster keeps the sessions?", sessionsExample)
	}

	var list []Setting
	for _, known := range websessions.Settings() {
		s := Setting{Key: known.Property, Value: known.Default, Origin: originDefault}
		for _, floor := range []struct {
			given        map[string]string
			name, origin string
		}{{props, known.Property, "JAVA_OPTS -D"}, {vars, known.Env, "environment "}, {flags, known.Property, "flag -D "}} {
			if text, ok := floor.given[floor.name]; ok {
				s.Value, s.Origin = text, floor.origin+floor.name
			}
		}
		if known.Secret && s.Value != "" {
			s.Value = "(set)"
		}
		list = append(list, s)
	}
	return cfg, list
}

// defines returns the properties given by -D flags.
func (f *floors) defines(fs *pflag.FlagSet) map[string]string {
	if fs == nil || fs.Lookup("define") == nil {
		return nil
	}
	list, err := fs.GetStringArray("define")
	if err != nil {
		return nil
	}
	flags := map[string]string{}
	for _, d := range list {
		name, text, ok := strings.Cut(d, "=")
		if !ok || !strings.HasPrefix(name, websessions.Prefix) {
			f.fault("define", name, "flag -D", "is not a terracotta.websessions.* property with a value",
				"-D terracotta.websessions.store.tcstore.uri=terracotta://terracotta:9410/sessions-example")
			continue
		}
		flags[name] = text
	}
	return flags
}
