package server

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// dump answers TC.DUMP [JSON | TEXT] [LOG].
func (c *conn) dump(args [][]byte) {
	text, log := c.proto == 2, false
	for i, a := range args {
		switch word := strings.ToUpper(string(a)); {
		case word == "LOG" && i == len(args)-1:
			log = true
		case word == "JSON" && i == 0:
			text = false
		case word == "TEXT" && i == 0:
			text = true
		default:
			c.refuse(wire.ErrBadRequest, "usage: "+byName[wire.CmdDump].usage())
			return
		}
	}
	d := c.srv.Dump()
	if log {
		c.srv.logDump(&d)
	}
	if !text {
		doc, err := json.Marshal(&d)
		if err != nil {
			c.fail(err)
			return
		}
		c.inline = resp.AppendBulk(c.inline, doc)
		return
	}
	lines := dumpLines(&d)
	c.inline = resp.AppendArrayHeader(c.inline, len(lines))
	for _, l := range lines {
		c.inline = resp.AppendSimple(c.inline, printable(l))
	}
}

// Dump gathers all that TC.DUMP tells.
func (s *Server) Dump() wire.Dump {
	st := s.stripe.Status()
	d := wire.Dump{
		At: s.cfg.Now().UTC(), Status: s.statusAt(st), Settings: s.cfg.Settings, Memory: s.Memory(), Process: process(),
		Engine: wire.EngineStatus{Role: st.State, Formed: st.Formed, Incarnation: st.Incarnation, Term: st.Term,
			LogIndex: st.LogIndex, Applied: st.Applied, DiskError: st.DiskError},
	}
	here := map[string]bool{}
	for _, c := range s.connections() {
		c.mu.Lock()
		if c.about.node != "" {
			here[c.about.node] = true
		}
		c.mu.Unlock()
	}
	for _, n := range s.store.Nodes() {
		id := n.ID.String()
		d.Nodes = append(d.Nodes, wire.NodeStatus{ID: id, Label: n.Label, Generation: n.Generation, Connected: here[id]})
	}
	return d
}

// Memory tells what sessions and outcomes really take. It looks into every
// segment of every dataset, each locked for reading.
func (s *Server) Memory() wire.MemoryStatus {
	m := s.store.Memory()
	waited, given := s.stripe.Held()
	return wire.MemoryStatus{Mapped: m.Mapped, Used: m.Used, Held: m.Held, Blocks: m.Blocks, Resident: m.Resident,
		HeldMost: s.store.MayHold(), Waited: waited.Milliseconds(), GivenUp: given, Outcomes: uint64(s.store.OutcomeBytes())}
}

// process tells what this process takes; the system's part is 0 where it does not tell.
func process() wire.ProcessStatus {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	p := wire.ProcessStatus{Heap: heap[0].Value.Uint64(), Goroutines: runtime.NumGoroutine(), GoVersion: runtime.Version(), PID: os.Getpid()}
	if limit := debug.SetMemoryLimit(-1); limit > 0 && limit < 1<<62 {
		p.Limit = uint64(limit)
	}
	if doc, err := os.ReadFile("/proc/self/statm"); err == nil {
		var total, resident uint64 // pages
		if n, _ := fmt.Sscan(string(doc), &total, &resident); n == 2 {
			p.Resident = resident * uint64(os.Getpagesize())
		}
	}
	return p
}

// maxDumpNodes bounds the nodes that the text lists; the document has them all.
const maxDumpNodes = 200

// dumpLines is the dump for people.
func dumpLines(d *wire.Dump) []string {
	lines := []string{fmt.Sprintf("%-12s %s", "dump of:", d.At.Format(time.RFC3339Nano))}
	add := func(name, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-12s ", name+":")+fmt.Sprintf(format, args...))
	}
	lines = append(lines, statusLines(&d.Status)...)
	add("identity", "%s", d.Status.ServerID)
	e := &d.Engine
	add("log", "%s, formed %t, term %d, last entry %d, applied %d", e.Role, e.Formed, e.Term, e.LogIndex, e.Applied)
	if e.DiskError != "" {
		add("disk", "%s", e.DiskError)
	}
	if d.Status.Active != "" {
		add("active", "%s", d.Status.Active)
	}
	for _, n := range d.Nodes[:min(len(d.Nodes), maxDumpNodes)] {
		where := "not connected here"
		if n.Connected {
			where = "connected"
		}
		add("node", "%s %q, generation %d, %s", n.ID, n.Label, n.Generation, where)
	}
	if more := len(d.Nodes) - maxDumpNodes; more > 0 {
		add("node", "and %d more", more)
	}
	m, p := &d.Memory, &d.Process
	add("memory", "%s in %d blocks of sessions (%s held by snapshots, of %s at most), %s resident, %s mapped, %s unacknowledged outcomes",
		size(m.Used), m.Blocks, size(m.Held), size(m.HeldMost), size(m.Resident), size(m.Mapped), size(m.Outcomes))
	add("process", "pid %d, %s resident, %s Go heap, %d goroutines, %s", p.PID, size(p.Resident), size(p.Heap), p.Goroutines, p.GoVersion)
	for _, s := range d.Settings {
		add("setting", "%s = %s (%s)", s.Key, s.Value, s.Origin)
	}
	return lines
}

// logDump writes the dump, a line of it in each line of the log, as people read
// it; programs ask for the document.
func (s *Server) logDump(d *wire.Dump) {
	for _, l := range dumpLines(d) {
		s.log.Info("dump", "line", l)
	}
}

// promote answers TC.PROMOTE: it may wait for the stripe.
func (c *conn) promote([][]byte) {
	c.srv.log.Warn("promotion was asked for", "peer", c.nc.RemoteAddr())
	c.beside(func(ctx context.Context) ([]byte, error) {
		if err := c.srv.stripe.Promote(ctx); err != nil {
			return nil, err
		}
		return resp.AppendSimple(nil, "OK"), nil
	})
}
