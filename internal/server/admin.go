package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// status answers TC.STATUS. Programs speak RESP3 and get JSON; a bare redis-cli
// speaks RESP2 and gets lines to read.
func (c *conn) status(args [][]byte) {
	form := "JSON"
	if c.proto == 2 {
		form = "TEXT"
	}
	if len(args) > 0 {
		form = strings.ToUpper(string(args[0]))
	}
	st := c.srv.Status()
	switch {
	case len(args) > 1 || form != "JSON" && form != "TEXT":
		c.refuse(wire.ErrBadRequest, "usage: "+byName[wire.CmdStatus].usage())
	case form == "JSON":
		doc, err := json.Marshal(&st)
		if err != nil {
			c.fail(err)
			return
		}
		c.inline = resp.AppendBulk(c.inline, doc)
	default:
		lines := statusLines(&st)
		c.inline = resp.AppendArrayHeader(c.inline, len(lines))
		for _, l := range lines {
			c.inline = resp.AppendSimple(c.inline, printable(l)) // redis-cli shows it as it stands
		}
	}
}

// Status tells how this server and its cluster are doing.
func (s *Server) Status() wire.Status { return s.statusAt(s.stripe.Status()) }

// statusAt is Status with what the stripe has told: of one moment, so that state and
// reason belong together.
func (s *Server) statusAt(st stripe.Status) wire.Status {
	cluster := s.store.Cluster()
	_, active, _ := s.stripe.Active()
	return wire.Status{
		Server: s.cfg.Self, State: s.state(st), Waiting: st.Waiting, Version: s.cfg.Version, ServerID: st.ServerID,
		UptimeMillis: time.Since(s.started).Milliseconds(), Running: s.cfg.Running,
		Cluster: cluster, License: s.licence.status(cluster, s.cfg.Now()),
		Offheap: s.store.Offheap(), Datasets: s.store.Datasets(), Durability: s.cfg.Durability,
		Nodes: len(s.store.Nodes()), Connections: s.Connections(),
		Activations: s.activations.Load(), Active: active, Members: s.members(st), Warnings: s.warnings(st, cluster),
	}
}

func (s *Server) warnings(st stripe.Status, cluster *wire.Cluster) []string {
	list := append(s.developmentKeys(), s.licenceWarnings(cluster)...)
	if st.DiskError != "" {
		list = append(list, "writes are refused: "+st.DiskError)
	}
	if st.Refusal != "" {
		list = append(list, "the stripe does not let this server in: "+st.Refusal)
	}
	if st.Divergence != "" {
		list = append(list, st.Divergence)
	}
	if s.cfg.Password == "" {
		list = append(list, "no password is set: whoever reaches the port can read and change everything")
	}
	list = append(list, s.weakPassword()...)
	if s.cfg.Durability == string(stripe.MemoryOnly) {
		list = append(list, "memory only: a restart starts empty")
	}
	if m := s.drift(cluster); m != "" {
		list = append(list, m)
	}
	return append(list, s.memberWarnings(st)...)
}

// statusLines is the status for people.
func statusLines(st *wire.Status) []string {
	var lines []string
	add := func(name, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-12s ", name+":")+fmt.Sprintf(format, args...))
	}
	add("server", "%s at %s:%d, version %s", st.Server.Name, st.Server.Host, st.Server.Port, st.Version)
	add("state", "%s", st.State)
	add("uptime", "%s", (time.Duration(st.UptimeMillis) * time.Millisecond).Round(time.Second))
	if c := st.Cluster; c == nil {
		add("cluster", "none yet: run cluster-tool configure")
	} else {
		add("cluster", "%s, stripe %d of %d", c.Name, c.Stripe+1, len(c.Stripes))
	}
	if l := st.License; l != nil && l.SerialNumber == "" {
		add("licence", "%s, it does not verify here", l.State) // a warning says why
	} else if l != nil {
		add("licence", "%s, serial %s, for %s, expires %s", l.State, l.SerialNumber, l.Customer, l.Expires)
	}
	for i := range st.Members {
		add("member", "%s", memberText(&st.Members[i]))
	}
	add("durability", "%s", st.Durability)
	add("clients", "%d nodes, %d connections", st.Nodes, st.Connections)
	for _, o := range st.Offheap {
		add("off-heap", "%s: %s of %s used", o.Name, size(o.Used), size(o.Size))
	}
	for _, d := range st.Datasets {
		add("dataset", "%s: %d sessions, %s in %s", d.Name, d.Sessions, size(d.Bytes), d.Offheap)
	}
	for _, w := range st.Warnings {
		add("warning", "%s", w)
	}
	return lines
}

// size writes bytes for people, with one decimal where it is not a whole number.
func size(n uint64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if f == float64(uint64(f)) {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// stop answers before it stops, so that whoever asked knows: the connection
// ends by writing its answers.
func (c *conn) stop(args [][]byte) {
	whole := false
	switch {
	case c.srv.cfg.Stop == nil:
		c.refuse(wire.ErrGeneric, "this server cannot be stopped from here")
		return
	case len(args) == 1 && strings.EqualFold(string(args[0]), wire.StopCluster):
		whole = true
	case len(args) > 0:
		c.refuse(wire.ErrBadRequest, "usage: "+byName[wire.CmdStop].usage())
		return
	}
	c.srv.log.Info("stop was asked for", "peer", c.nc.RemoteAddr(), "whole-cluster", whole)
	c.ok()
	c.leaving = true
	c.srv.stopOnce.Do(func() { c.srv.cfg.Stop(whole) })
}
