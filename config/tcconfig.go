package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Namespaces of a tc-config.xml and its plugins.
const (
	nsConfig   = "http://www.terracotta.org/config"
	nsOffheap  = "http://www.terracotta.org/config/offheap-resource"
	nsData     = "http://www.terracottatech.com/config/data-roots"
	nsLease    = "http://www.terracotta.org/service/lease"
	nsBackup   = "http://www.terracottatech.com/config/backup-restore"
	nsSecurity = "http://www.terracottatech.com/config/security"
)

const (
	availability = "availability"
	consistency  = "consistency"
)

// ParseTCConfig reads a tc-config.xml of Terracotta 10.x or 4.x; what the latter
// can't say is as in the built-in configuration. vars gives the values
// of the substitutions, asked by the names "%h", "%i", "%H", "%n", "%t" and by
// the bare name for %(name); nil knows none. See Vars. The error joins all
// Faults; each carries name:line:column.
func ParseTCConfig(name string, doc []byte, vars func(string) (string, bool)) (wire.StripeConfig, error) {
	tc, faults := parseTC(name, doc, vars)
	if len(faults) > 0 {
		return wire.StripeConfig{}, errors.Join(faults...)
	}
	if tc.old {
		f := load(serverRows, nil, nil, "")
		f.completeOld(&tc, 0)
		return tc.stripe, f.err()
	}
	return tc.stripe, nil
}

// tcConfig is what one server reads from the file: the stripe and where it stands.
type tcConfig struct {
	stripe     wire.StripeConfig
	binds      []string // of each server, "" = not given
	groupBinds []string // of each server, "" = not given
	serversAt  []string // file:line:column of each server
	securityAt string
	settings   []Setting
	notes      []string

	// Of the form of 4.x only; completeOld makes the rest of stripe of it.
	old        bool
	data       []string // data folder of each server, "" = not given
	dataAt     []string // file:line:column of each
	management []int    // management port of each server, 0 = not given
}

// tcReader walks one document and gathers all faults.
type tcReader struct {
	tcConfig
	file   string
	tree   xmlTree
	vars   func(string) (string, bool)
	faults []error
	blamed map[*etree.Element]bool // elements that a fault names
	once   map[string]string       // plugin -> where it stood first
}

func parseTC(file string, doc []byte, vars func(string) (string, bool)) (tcConfig, []error) {
	r := &tcReader{file: file, vars: vars, blamed: map[*etree.Element]bool{}, once: map[string]string{}}
	tree, err := readXML(doc)
	if err != nil {
		var x *xmlFault
		errors.As(err, &x)
		return r.tcConfig, []error{&Fault{Key: file + ":" + x.at, Problem: x.problem}}
	}
	r.tree = tree
	r.document(tree.root)
	return r.tcConfig, r.faults
}

func (r *tcReader) at(e *etree.Element) string { return r.file + ":" + r.tree.at[e] }

// bad records a fault at an element.
func (r *tcReader) bad(e *etree.Element, value, problem, example string) {
	r.blamed[e] = true
	r.faults = append(r.faults, &Fault{Key: r.at(e) + ": " + e.Tag, Value: value, Problem: problem, Example: example})
}

func (r *tcReader) set(e *etree.Element, key, value string) {
	r.settings = append(r.settings, Setting{key, value, r.at(e)})
}

func (r *tcReader) document(root *etree.Element) {
	const example = `<tc-config xmlns="` + nsConfig + `">`
	switch children := root.ChildElements(); {
	case root.Tag != "tc-config":
		r.bad(root, "", "is not tc-config, the root of a tc-config.xml", example)
		return
	case root.NamespaceURI() != nsConfig:
		r.bad(root, root.NamespaceURI(), "is not the namespace of a tc-config.xml", example)
		return
	case len(children) > 0 && children[0].NamespaceURI() == "":
		r.oldDocument(root)
		return
	}
	r.attributes(root, nil)
	r.stripe.ReconnectWindow = wire.DefaultReconnectWindow
	var servers, priority *etree.Element
	for _, e := range r.children(root, nsConfig, "plugins", "tc-properties", "servers", "failover-priority") {
		switch e.Tag {
		case "plugins":
			r.plugins(e)
		case "tc-properties":
			r.notes = append(r.notes, r.at(e)+": tc-properties are not used")
		case "servers":
			servers = e
			r.servers(e, nsConfig, r.server)
		case "failover-priority":
			priority = e
			r.failoverPriority(e)
		}
	}
	if servers == nil {
		r.bad(root, "", "has no servers", `<servers><server host="terracotta-1" name="terracotta-1"/></servers>`)
	}
	switch {
	case priority != nil:
	case len(r.stripe.Servers) > 1:
		r.bad(servers, "", "has several servers, and no failover-priority says what counts more when they lose sight of each other",
			"<failover-priority><availability/></failover-priority> or <failover-priority><consistency/></failover-priority>")
	default:
		r.stripe.FailoverPriority = availability
		r.settings = append(r.settings, Setting{"failover-priority", availability, originDefault})
	}
	if len(r.stripe.OffheapResources) == 0 && r.once["offheap-resources"] == "" {
		r.bad(root, "", "has no off-heap resource to keep sessions in",
			`<plugins><config><offheap-resources xmlns="`+nsOffheap+`"><resource name="offheap-1" unit="MB">512</resource></offheap-resources></config></plugins>`)
	}
	r.platform()
}

// platform settles which data directory holds the log and the snapshots: the
// one marked so, else the first.
func (r *tcReader) platform() {
	dirs := r.stripe.DataDirectories
	if len(dirs) > 0 && !slices.ContainsFunc(dirs, func(d wire.DataDirectory) bool { return d.Platform }) {
		dirs[0].Platform = true
		r.notes = append(r.notes, fmt.Sprintf("%s: no data directory is marked use-for-platform; %s is taken", r.file, dirs[0].Name))
	}
}

// servers reads a list of servers, each by one.
func (r *tcReader) servers(e *etree.Element, ns string, one func(*etree.Element)) {
	r.attributes(e, nil)
	for _, c := range r.childrenRepeated(e, ns, "server", "client-reconnect-window") {
		if c.Tag == "server" {
			one(c)
			continue
		}
		if r.first(c) {
			r.reconnectWindow(c)
		}
	}
	if len(r.stripe.Servers) == 0 {
		r.bad(e, "", "has no server", `<server host="terracotta-1" name="terracotta-1"/>`)
	}
}

func (r *tcReader) reconnectWindow(e *etree.Element) {
	n := r.whole(e, r.text(e), 0, 7*24*3600, "<client-reconnect-window>120</client-reconnect-window>")
	r.stripe.ReconnectWindow = time.Duration(n) * time.Second
	r.set(e, "client-reconnect-window", r.stripe.ReconnectWindow.String())
}

func (r *tcReader) server(e *etree.Element) {
	attrs := r.attributes(e, []string{"host", "name", "bind"})
	s := wire.ServerConfig{Host: attrs["host"], Name: attrs["name"], Port: wire.DefaultPort}
	if _, given := attrs["host"]; !given {
		s.Host, _ = substitute("%i", r.vars)
	}
	bind, groupBind := attrs["bind"], ""
	grouped := false
	for _, c := range r.children(e, nsConfig, "logs", "tsa-port", "tsa-group-port") {
		switch c.Tag {
		case "logs":
			r.attributes(c, nil)
			r.notes = append(r.notes, r.at(c)+": logs go to standard output; this folder is not used")
		case "tsa-port":
			s.Port = r.port(c)
			if b := r.attributes(c, []string{"bind"})["bind"]; b != "" {
				bind = b
			}
		case "tsa-group-port":
			groupBind = r.attributes(c, []string{"bind"})["bind"]
			if problem := checkHost(groupBind); groupBind != "" && problem != "" {
				r.bad(c, groupBind, "bind "+problem, `bind="0.0.0.0"`)
			}
			s.GroupPort, grouped = r.port(c), true
		}
	}
	if !grouped {
		s.GroupPort = r.groupPort(e, s.Port)
	}
	r.addServer(e, attrs, s, bind, groupBind)
}

// groupPort is the port for other servers where none is written.
func (r *tcReader) groupPort(e *etree.Element, tsa int) int {
	if tsa+20 > 65535 {
		r.bad(e, "", "has a tsa-port so high that tsa-port + 20 is no port", "<tsa-group-port>9430</tsa-group-port>")
	}
	return tsa + 20
}

// addServer checks what a server is called and how it is reached, and takes it in.
func (r *tcReader) addServer(e *etree.Element, attrs map[string]string, s wire.ServerConfig, bind, groupBind string) {
	const example = `<server host="terracotta-1" name="terracotta-1"/>`
	if problem := checkHost(s.Host); problem != "" {
		r.bad(e, s.Host, "host "+problem, example)
	}
	if bind != "" {
		if problem := checkHost(bind); problem != "" {
			r.bad(e, bind, "bind "+problem, `bind="0.0.0.0"`)
		}
	}
	if _, given := attrs["name"]; !given {
		s.Name = fmt.Sprintf("%s:%d", s.Host, s.Port)
	}
	if problem := checkName(s.Name); problem != "" {
		r.bad(e, s.Name, "name "+problem, example)
	}
	for i, o := range r.stripe.Servers {
		if o.Name == s.Name {
			r.bad(e, s.Name, "name stands twice, first at "+r.serversAt[i], "")
		}
		if strings.EqualFold(o.Host, s.Host) && o.Port == s.Port {
			r.bad(e, "", fmt.Sprintf("%s:%d stands twice, first at %s", s.Host, s.Port, r.serversAt[i]), "")
		}
	}
	r.stripe.Servers = append(r.stripe.Servers, s)
	r.binds, r.groupBinds, r.serversAt = append(r.binds, bind), append(r.groupBinds, groupBind), append(r.serversAt, r.at(e))
	r.set(e, "server", describeServer(s))
}

func (r *tcReader) failoverPriority(e *etree.Element) {
	const example = "<availability/> or <consistency><voter count=\"1\"/></consistency>"
	r.attributes(e, nil)
	children := r.children(e, nsConfig, availability, consistency)
	if len(children) != 1 {
		r.bad(e, "", "holds neither availability nor consistency, or both", example)
		return
	}
	c := children[0]
	r.attributes(c, nil)
	r.stripe.FailoverPriority = c.Tag
	if c.Tag == consistency {
		for _, v := range r.children(c, nsConfig, "voter") {
			attrs := r.attributes(v, []string{"count"})
			r.children(v, nsConfig)
			r.stripe.Voters = int(r.whole(v, attrs["count"], 0, 16, `<voter count="1"/>`))
		}
	} else {
		r.children(c, nsConfig)
	}
	r.set(e, "failover-priority", c.Tag)
}
