package config

import (
	"fmt"
	"strconv"

	"github.com/beevik/etree"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// The form of Terracotta 4.x: the root is in the namespace of a tc-config.xml,
// all that is inside is in none. It says where servers are and where their data
// lies; off-heap resources and names of data directories it can't say.

func (r *tcReader) oldDocument(root *etree.Element) {
	r.old = true
	r.attributes(root, nil)
	r.stripe.ReconnectWindow = wire.DefaultReconnectWindow
	r.stripe.FailoverPriority = availability // what servers of 4.x did
	found := false
	for _, e := range r.children(root, "", "servers", "clients", "tc-properties") {
		switch e.Tag {
		case "servers":
			found = true
			r.servers(e, "", r.oldServer)
		case "clients":
			r.attributes(e, nil)
			for _, c := range r.children(e, "", "logs") {
				r.attributes(c, nil)
				r.notes = append(r.notes, r.at(c)+": applications choose where they log; this folder is not used")
			}
		case "tc-properties":
			r.notes = append(r.notes, r.at(e)+": tc-properties are not used")
		}
	}
	if !found {
		r.bad(root, "", "has no servers", `<servers><server host="terracotta-1" name="terracotta-1"/></servers>`)
	}
	r.settings = append(r.settings, Setting{"failover-priority", availability, originDefault})
}

func (r *tcReader) oldServer(e *etree.Element) {
	attrs := r.attributes(e, []string{"host", "name", "bind"})
	s := wire.ServerConfig{Host: attrs["host"], Name: attrs["name"], Port: wire.DefaultPort}
	if _, given := attrs["host"]; !given {
		s.Host, _ = substitute("%i", r.vars)
	}
	data, dataAt, management := "", "", 0
	for _, c := range r.children(e, "", "data", "logs", "index", "data-backup", "tsa-port", "tsa-group-port", "management-port") {
		r.attributes(c, map[string][]string{"tsa-port": {"bind"}, "tsa-group-port": {"bind"}, "management-port": {"bind"}}[c.Tag])
		switch c.Tag {
		case "data":
			data, dataAt = r.path(c, r.text(c), "<data>%(user.home)/terracotta/server-data</data>"), r.at(c)
		case "logs":
			r.notes = append(r.notes, r.at(c)+": logs go to standard output; this folder is not used")
		case "index":
			r.notes = append(r.notes, r.at(c)+": there is no search index; this folder is not used")
		case "data-backup":
			r.stripe.BackupLocation = r.path(c, r.text(c), "<data-backup>/data/backups</data-backup>")
			r.set(c, "backup-location", r.stripe.BackupLocation)
		case "tsa-port":
			s.Port = r.port(c)
		case "tsa-group-port":
			s.GroupPort = r.port(c)
		case "management-port":
			management = r.port(c)
		}
	}
	if s.GroupPort == 0 {
		s.GroupPort = r.groupPort(e, s.Port)
	}
	r.data, r.dataAt, r.management = append(r.data, data), append(r.dataAt, dataAt), append(r.management, management)
	r.addServer(e, attrs, s, attrs["bind"], "")
}

// completeOld fills in what a file of 4.x can't say, from the settings that
// shape the built-in configuration: the off-heap resources, and the names of the
// data directories, which are folders in the data folder of server self.
func (f *floors) completeOld(tc *tcConfig, self int) {
	tc.stripe.OffheapResources = f.builtInOffheap()
	root, origin := tc.data[self], tc.dataAt[self]
	if root == "" {
		root, origin = f.dataRoot(), f.origin["data-root"]
	}
	dirs, list := f.builtInDirectories(root, origin)
	tc.stripe.DataDirectories = dirs
	tc.settings = append(append(tc.settings, f.offheapSettings(tc.stripe.OffheapResources)...), list...)
	if tc.stripe.BackupLocation == "" {
		tc.stripe.BackupLocation = f.text("backup-location")
		tc.settings = append(tc.settings, Setting{"backup-location", tc.stripe.BackupLocation, f.origin["backup-location"]})
	}
	if port := tc.management[self]; port != 0 {
		f.lower("management-port", strconv.Itoa(port), tc.serversAt[self])
	}
	f.note("%s: the form of Terracotta 4.x names no off-heap resources; they are as in the built-in configuration (%s)",
		tc.serversAt[self], fmt.Sprintf("%d, %s in all", len(tc.stripe.OffheapResources), formatSize(total(tc.stripe.OffheapResources))))
}

func total(list []wire.OffheapResource) (n uint64) {
	for _, r := range list {
		n += r.Size
	}
	return n
}
