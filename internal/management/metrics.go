package management

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// exposition writes the text format of Prometheus, version 0.0.4.
type exposition struct{ bytes.Buffer }

// family begins a metric: its lines follow. kind is gauge or counter.
func (e *exposition) family(name, kind, help string) {
	fmt.Fprintf(e, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

var escapeLabel = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// line writes one value of a metric; labels are names and values in turn.
func (e *exposition) line(name string, value float64, labels ...string) {
	e.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		// What is no UTF-8 would make the scraper refuse the whole page.
		fmt.Fprintf(e, `%s%s="%s"`, sep, labels[i], escapeLabel.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")))
	}
	if len(labels) > 0 {
		e.WriteByte('}')
	}
	e.WriteByte(' ')
	e.WriteString(strconv.FormatFloat(value, 'g', -1, 64))
	e.WriteByte('\n')
}

// gauge writes a metric of one value.
func (e *exposition) gauge(name, help string, value float64) {
	e.family(name, "gauge", help)
	e.line(name, value)
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	var e exposition
	r, alive, ready := s.look()
	e.family("terracotta_state", "gauge", "1 for the state that the server is in.")
	e.line("terracotta_state", 1, "state", r.State)
	e.gauge("terracotta_ready", "1 while the server serves sessions, or could take over at once.", oneIf(ready))
	e.gauge("terracotta_configured", "1 once the cluster is configured.", oneIf(r.Configured))
	if in := s.rooms.Load(); in != nil && alive {
		st, engine := in.status(), in.engine()
		e.family("terracotta_info", "gauge", "What runs here; always 1.")
		e.line("terracotta_info", 1, "version", st.Version, "server", st.Server.Name, "server_id", st.ServerID, "durability", st.Durability)
		e.gauge("terracotta_connections", "Open connections on the client port.", float64(st.Connections))
		e.gauge("terracotta_nodes", "Application nodes that have joined.", float64(st.Nodes))
		e.gauge("terracotta_log_last_index", "Last entry in the log.", float64(engine.LogIndex))
		e.gauge("terracotta_log_applied_index", "Last entry of the log that is applied.", float64(engine.Applied))
		e.gauge("terracotta_term", "Term of the log in which this server was last the active one.", float64(engine.Term))
		e.family("terracotta_activations_total", "counter", "How often this server became the active one since its start: elections that it won.")
		e.line("terracotta_activations_total", float64(st.Activations))
		e.members(st)
		e.gauge("terracotta_writes_refused", "1 while the disk cannot be written and changes are refused.", oneIf(engine.DiskError != ""))
		if engine.Incarnation > 0 {
			e.pair(engine)
		}
		e.accounted(st)
		e.real(in.memory())
		e.license(st.License, s.now())
	}
	e.process(s.started)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(e.Bytes())
}

// members writes what this server knows of the servers of its stripe; nothing
// where it is the only one. How far behind passives are is the active's to know.
func (e *exposition) members(st wire.Status) {
	if len(st.Members) == 0 {
		return
	}
	e.family("terracotta_member_state", "gauge", "1 for the state of a server of the stripe, as this one knows it.")
	for _, m := range st.Members {
		e.line("terracotta_member_state", 1, "member", m.Name, "state", m.State)
	}
	e.family("terracotta_member_lag_entries", "gauge", "Entries of the log that a server of the stripe lacks, as this one knows it.")
	for _, m := range st.Members {
		e.line("terracotta_member_lag_entries", float64(m.Lag), "member", m.Name)
	}
	e.family("terracotta_member_last_contact_seconds", "gauge", "Seconds since the last sign of a server of the stripe; +Inf where there never was one.")
	for _, m := range st.Members {
		seconds := float64(m.ContactMS) / 1000
		if m.ContactMS < 0 {
			seconds = math.Inf(1)
		}
		e.line("terracotta_member_last_contact_seconds", seconds, "member", m.Name)
	}
	e.family("terracotta_member_voter", "gauge", "1 where a server of the stripe counts for the majority.")
	for _, m := range st.Members {
		e.line("terracotta_member_voter", oneIf(m.Voter), "member", m.Name)
	}
}

// pair tells of two servers in availability mode.
func (e *exposition) pair(engine stripe.Status) {
	e.gauge("terracotta_incarnation", "How often one of the pair went on without the other, and one.", float64(engine.Incarnation))
	e.gauge("terracotta_alone", "1 while this server serves without the other one of the pair.", oneIf(engine.Alone))
	e.gauge("terracotta_split_brain_possible", "1 while the other one cannot be reached and may serve too.", oneIf(engine.SplitBrainPossible))
	lost := 0
	if engine.Lost != nil {
		lost = engine.Lost.Changes
	}
	e.gauge("terracotta_split_brain_lost_changes", "Changed sessions in the folder that the last split brain set aside here.", float64(lost))
}

// accounted writes what the off-heap resources and datasets count.
func (e *exposition) accounted(st wire.Status) {
	e.family("terracotta_offheap_size_bytes", "gauge", "Size of an off-heap resource.")
	for _, o := range st.Offheap {
		e.line("terracotta_offheap_size_bytes", float64(o.Size), "resource", o.Name)
	}
	e.family("terracotta_offheap_used_bytes", "gauge", "Bytes in use in an off-heap resource, by the formula that is the same on all servers.")
	for _, o := range st.Offheap {
		e.line("terracotta_offheap_used_bytes", float64(o.Used), "resource", o.Name)
	}
	e.family("terracotta_sessions", "gauge", "Sessions in a dataset.")
	for _, d := range st.Datasets {
		e.line("terracotta_sessions", float64(d.Sessions), "dataset", d.Name, "resource", d.Offheap)
	}
	e.family("terracotta_dataset_bytes", "gauge", "Bytes that a dataset takes of its off-heap resource.")
	for _, d := range st.Datasets {
		e.line("terracotta_dataset_bytes", float64(d.Bytes), "dataset", d.Name, "resource", d.Offheap)
	}
}

// real writes what sessions take of the machine, whatever is accounted for them.
func (e *exposition) real(m wire.MemoryStatus) {
	e.gauge("terracotta_arena_mapped_bytes", "Bytes taken from the operating system for sessions; pages never written are no real memory.", float64(m.Mapped))
	e.gauge("terracotta_arena_used_bytes", "Bytes of it that sessions, old keys and tombstones really take.", float64(m.Used))
	e.gauge("terracotta_arena_held_bytes", "Part of the used bytes that only snapshots under way read.", float64(m.Held))
	e.gauge("terracotta_arena_held_limit_bytes", "What the held bytes may be, and one session more: then changes wait for the snapshots.", float64(m.HeldMost))
	e.gauge("terracotta_arena_resident_bytes", "Bytes of the mapped ones that may be real memory: used, holes between them, and free pages kept for what comes.", float64(m.Resident))
	e.gauge("terracotta_arena_blocks", "Blocks that the used bytes consist of.", float64(m.Blocks))
	e.family("terracotta_snapshot_wait_seconds_total", "counter", "Time that changes waited for snapshots that held as much as they may.")
	e.line("terracotta_snapshot_wait_seconds_total", float64(m.Waited)/1000)
	e.family("terracotta_snapshots_given_up_total", "counter", "Snapshots and backups given up because they did not get on while changes waited.")
	e.line("terracotta_snapshots_given_up_total", float64(m.GivenUp))
	e.gauge("terracotta_outcome_bytes", "Bytes of outcomes kept because nodes have not acknowledged them.", float64(m.Outcomes))
}

// license writes how the installed licence stands; nothing where there is none.
func (e *exposition) license(l *wire.LicenseStatus, now time.Time) {
	if l == nil {
		return
	}
	e.family("terracotta_license_state", "gauge", "1 for the state of the licence: valid, expiring, grace or limited.")
	e.line("terracotta_license_state", 1, "state", l.State)
	seconds := math.Inf(1) // Unlimited
	if day, err := time.Parse("2006/01/02", l.Expires); err == nil {
		// The day that is named is the last valid one, in UTC.
		seconds = math.Floor(day.AddDate(0, 0, 1).Sub(now).Seconds())
	} else if l.Expires == "" {
		return // it does not verify here
	}
	e.gauge("terracotta_license_expiry_seconds", "Seconds until the licence expires; less than 0 afterwards, +Inf for an unlimited one.", seconds)
	e.gauge("terracotta_license_offheap_limit_bytes", "Off-heap memory that the licence allows.", float64(l.OffheapLimit))
}

// process writes what Prometheus calls process and Go metrics, under its usual
// names. Linux tells the first two.
func (e *exposition) process(started time.Time) {
	if doc, err := os.ReadFile("/proc/self/statm"); err == nil {
		var total, resident uint64 // pages
		if n, _ := fmt.Sscan(string(doc), &total, &resident); n == 2 {
			e.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", float64(resident)*float64(os.Getpagesize()))
		}
	}
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		e.gauge("process_open_fds", "Number of open file descriptors.", float64(len(list)))
	}
	e.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", float64(started.UnixMilli())/1000)
	e.gauge("go_goroutines", "Number of goroutines that currently exist.", float64(runtime.NumGoroutine()))
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(heap)
	e.gauge("go_memstats_heap_alloc_bytes", "Number of heap bytes allocated and currently in use.", float64(heap[0].Value.Uint64()))
	e.family("go_gc_cycles_total", "counter", "Completed garbage collections.")
	e.line("go_gc_cycles_total", float64(heap[1].Value.Uint64()))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
