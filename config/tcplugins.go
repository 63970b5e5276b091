package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// pluginReaders holds the plugins we know, by namespace and root element.
var pluginReaders = map[[2]string]func(*tcReader, *etree.Element){
	{nsOffheap, "offheap-resources"}: (*tcReader).offheap,
	{nsData, "data-directories"}:     (*tcReader).dataDirectories,
	{nsLease, "connection-leasing"}:  (*tcReader).lease,
	{nsBackup, "backup-restore"}:     (*tcReader).backup,
	{nsSecurity, "security"}:         (*tcReader).security,
}

func (r *tcReader) plugins(e *etree.Element) {
	r.attributes(e, nil)
	for _, holder := range r.childrenRepeated(e, nsConfig, "config", "service") {
		r.attributes(holder, nil)
		r.noText(holder)
		plugins := holder.ChildElements()
		if len(plugins) != 1 {
			r.bad(holder, "", fmt.Sprintf("holds %d plugins; each has a <%s> of its own", len(plugins), holder.Tag), "")
		}
		for _, p := range plugins {
			read, ok := pluginReaders[[2]string{p.NamespaceURI(), p.Tag}]
			if !ok {
				r.bad(p, p.NamespaceURI(), "is not a plugin that this server knows: offheap-resources, data-directories, connection-leasing, backup-restore, security", "")
				continue
			}
			if r.first(p) {
				read(r, p)
			}
		}
	}
}

func (r *tcReader) offheap(e *etree.Element) {
	const example = `<resource name="offheap-1" unit="MB">512</resource>`
	r.attributes(e, nil)
	for _, c := range r.childrenRepeated(e, nsOffheap, "resource") {
		attrs := r.attributes(c, []string{"name", "unit"})
		text := r.text(c)
		if problem := checkName(attrs["name"]); problem != "" {
			r.bad(c, attrs["name"], "name "+problem, example)
		}
		if slices.ContainsFunc(r.stripe.OffheapResources, func(o wire.OffheapResource) bool { return o.Name == attrs["name"] }) {
			r.bad(c, attrs["name"], "names an off-heap resource that is there already", "")
		}
		size, err := parseSize(text, attrs["unit"])
		if err == nil && size == 0 {
			err = fmt.Errorf("is not at least 1")
		}
		if err != nil {
			r.bad(c, text, err.Error(), example)
		}
		r.stripe.OffheapResources = append(r.stripe.OffheapResources, wire.OffheapResource{Name: attrs["name"], Size: size})
		r.set(c, "offheap-resource", attrs["name"]+" "+formatSize(size))
	}
	if len(r.stripe.OffheapResources) == 0 {
		r.bad(e, "", "has no resource", example)
	}
}

func (r *tcReader) dataDirectories(e *etree.Element) {
	const example = `<directory name="PLATFORM" use-for-platform="true">/data/dataroots/PLATFORM</directory>`
	r.attributes(e, nil)
	for _, c := range r.childrenRepeated(e, nsData, "directory") {
		attrs := r.attributes(c, []string{"name", "use-for-platform"})
		d := wire.DataDirectory{Name: attrs["name"], Path: r.path(c, r.text(c), example)}
		if problem := checkName(d.Name); problem != "" {
			r.bad(c, d.Name, "name "+problem, example)
		}
		switch v := attrs["use-for-platform"]; v {
		case "true", "1":
			d.Platform = true
		case "false", "0", "":
		default:
			r.bad(c, v, "use-for-platform is neither true nor false", example)
		}
		for _, o := range r.stripe.DataDirectories {
			switch {
			case o.Name == d.Name:
				r.bad(c, d.Name, "names a data directory that is there already", "")
			case o.Path == d.Path && d.Path != "":
				r.bad(c, d.Path, "is the path of data directory "+quoted(o.Name)+" too", "")
			case o.Platform && d.Platform:
				r.bad(c, d.Name, "is marked use-for-platform, and so is "+quoted(o.Name)+"; at most one may be", "")
			}
		}
		r.stripe.DataDirectories = append(r.stripe.DataDirectories, d)
		r.set(c, "data-directory", describeDir(d))
	}
	if len(r.stripe.DataDirectories) == 0 {
		r.bad(e, "", "has no directory", example)
	}
}

// leaseUnits are the units of lease-length.
var leaseUnits = map[string]time.Duration{
	"milliseconds": time.Millisecond, "seconds": time.Second, "minutes": time.Minute, "hours": time.Hour,
}

func (r *tcReader) lease(e *etree.Element) {
	const example = `<lease-length unit="seconds">20</lease-length>`
	r.attributes(e, nil)
	children := r.children(e, nsLease, "lease-length")
	if len(children) == 0 {
		r.bad(e, "", "has no lease-length", example)
	}
	for _, c := range children {
		unit := r.attributes(c, []string{"unit"})["unit"]
		step, ok := leaseUnits[unit]
		if !ok {
			r.bad(c, unit, "unit is none of milliseconds, seconds, minutes, hours", example)
			continue
		}
		n := r.whole(c, r.text(c), 1, uint64(24*time.Hour/step), example)
		r.stripe.LeaseLength = time.Duration(n) * step
		r.set(c, "lease-length", r.stripe.LeaseLength.String())
	}
}

func (r *tcReader) backup(e *etree.Element) {
	const example = `<backup-location path="/data/backups"/>`
	r.attributes(e, nil)
	children := r.children(e, nsBackup, "backup-location")
	if len(children) == 0 {
		r.bad(e, "", "has no backup-location", example)
	}
	for _, c := range children {
		r.stripe.BackupLocation = r.path(c, r.attributes(c, []string{"path"})["path"], example)
		r.children(c, nsBackup)
		r.set(c, "backup-location", r.stripe.BackupLocation)
	}
}

func (r *tcReader) security(e *etree.Element) {
	r.stripe.Security, r.securityAt = true, r.at(e)
	r.attributes(e, nil)
	var root, other bool
	for _, c := range r.children(e, nsSecurity, "security-root-directory", "ssl-tls", "authentication", "whitelist", "audit-directory") {
		switch c.Tag {
		case "security-root-directory":
			root = true
			r.path(c, r.text(c), "<security-root-directory>/configs/security</security-root-directory>")
			continue
		case "authentication":
			if how := r.children(c, nsSecurity, "file", "ldap", "certificate"); len(how) != 1 {
				r.bad(c, "", "holds not exactly one of file, ldap, certificate", "<authentication><file/></authentication>")
			}
		case "audit-directory":
			r.path(c, r.text(c), "<audit-directory>/data/audit</audit-directory>")
		}
		other = true
	}
	switch {
	case !root:
		r.bad(e, "", "has no security-root-directory", "<security-root-directory>/configs/security</security-root-directory>")
	case !other:
		r.bad(e, "", "has a security-root-directory only, which secures nothing", "<ssl-tls/>")
	}
	r.set(e, "security", "configured")
}

// attributes returns an element's attributes, substituted; names not in known are faults.
func (r *tcReader) attributes(e *etree.Element, known []string) map[string]string {
	attrs := map[string]string{}
	for _, a := range e.Attr {
		if a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns" || a.Key == "schemaLocation" || a.Space == "xml" {
			continue
		}
		if a.Space != "" || !slices.Contains(known, a.Key) {
			r.bad(e, "", "has an unknown attribute "+quoted(a.FullKey())+nearest(a.Key, slices.Clone(known)), "")
			continue
		}
		text, err := substitute(strings.TrimSpace(a.Value), r.vars)
		if err != nil {
			r.bad(e, a.Value, a.Key+": "+err.Error(), "")
		}
		attrs[a.Key] = text
	}
	return attrs
}

// children returns the child elements, each at most once; others than tags are faults.
func (r *tcReader) children(e *etree.Element, ns string, tags ...string) []*etree.Element {
	var list []*etree.Element
	seen := map[string]string{}
	for _, c := range r.childrenRepeated(e, ns, tags...) {
		if at, twice := seen[c.Tag]; twice {
			r.bad(c, "", "stands twice, first at "+at, "")
			continue
		}
		seen[c.Tag] = r.at(c)
		list = append(list, c)
	}
	return list
}

// childrenRepeated returns the child elements; others than tags of ns are faults.
func (r *tcReader) childrenRepeated(e *etree.Element, ns string, tags ...string) []*etree.Element {
	r.noText(e)
	var list []*etree.Element
	for _, c := range e.ChildElements() {
		switch {
		case !slices.Contains(tags, c.Tag):
			hint := "; nothing stands here"
			if len(tags) > 0 {
				hint = "; here stand " + strings.Join(tags, ", ")
			}
			r.bad(c, "", "is not known in "+e.Tag+hint, "")
		case c.NamespaceURI() != ns:
			r.bad(c, c.NamespaceURI(), "is not in namespace "+ns, `xmlns="`+ns+`"`)
		default:
			list = append(list, c)
		}
	}
	return list
}

func (r *tcReader) noText(e *etree.Element) {
	if text := elementText(e); text != "" {
		r.bad(e, text, "text stands where only elements may", "")
	}
}

// first reports whether e is the first of its kind, and else records a fault.
func (r *tcReader) first(e *etree.Element) bool {
	if at := r.once[e.Tag]; at != "" {
		r.bad(e, "", "stands twice, first at "+at, "")
		return false
	}
	r.once[e.Tag] = r.at(e)
	return true
}

// text returns the substituted text of an element that holds nothing else.
func (r *tcReader) text(e *etree.Element) string {
	for _, c := range e.ChildElements() {
		r.bad(c, "", "is not known in "+e.Tag+", which holds text", "")
	}
	text, err := substitute(elementText(e), r.vars)
	if err != nil {
		r.bad(e, elementText(e), err.Error(), "")
	}
	return text
}

func (r *tcReader) whole(e *etree.Element, text string, min, max uint64, example string) uint64 {
	n, err := parseWhole(text)
	if err == nil && (n < min || n > max) {
		err = fmt.Errorf("is not between %d and %d", min, max)
	}
	if err != nil {
		r.bad(e, text, err.Error(), example)
		return 0
	}
	return n
}

func (r *tcReader) port(e *etree.Element) int {
	return int(r.whole(e, r.text(e), 1, 65535, "<"+e.Tag+">9410</"+e.Tag+">"))
}

var windowsPath = regexp.MustCompile(`^[A-Za-z]:[\\/]`)

// path checks that a path is absolute: one that depends on where a program was
// started is another one for each of them.
func (r *tcReader) path(e *etree.Element, text, example string) string {
	switch {
	case r.blamed[e]: // a substitution failed
	case text == "":
		r.bad(e, "", "has no path", example)
	case !filepath.IsAbs(text) && !windowsPath.MatchString(text):
		r.bad(e, text, "is not an absolute path", example+" (%(user.dir) is the folder of the start)")
	case filepath.IsAbs(text):
		return filepath.Clean(text)
	}
	return text
}
