package management

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// serve starts a Server on a port of its own and returns its address.
func serve(t *testing.T) (*Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(slog.New(slog.DiscardHandler))
	s.now = func() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, "http://" + ln.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// full is the status of a server with everything that metrics show, and with
// things that they must not.
func full() wire.Status {
	return wire.Status{
		Server: wire.ServerConfig{Name: "tc1"}, State: wire.StateActive, Version: "10.4.0", ServerID: "ab", Durability: "every write",
		Cluster:     &wire.Cluster{Name: "MyCluster", License: "SECRET-DOCUMENT"},
		License:     &wire.LicenseStatus{State: "valid", Expires: "2026/03/02", OffheapLimit: 50 << 30, Customer: "SECRET-CUSTOMER", SerialNumber: "SECRET-SERIAL"},
		Offheap:     []wire.OffheapStatus{{Name: "offheap-1", Size: 512 << 20, Used: 1 << 20}, {Name: "offheap-2", Size: 1}},
		Datasets:    []wire.DatasetStatus{{Name: "a \"b\"\\\nc\xff", Offheap: "offheap-1", Sessions: 1_000_000, Bytes: 3}},
		Connections: 7, Nodes: 2, Activations: 3,
		Members: []wire.MemberStatus{{Name: "tc1", State: wire.StateActive, Voter: true, Self: true},
			{Name: "tc2", State: wire.StateSynchronizing, Lag: 12, ContactMS: 1500}, {Name: "tc3", State: wire.StateUnknown, ContactMS: -1}},
	}
}

func memory() wire.MemoryStatus {
	return wire.MemoryStatus{Mapped: 64 << 20, Used: 5 << 20, Held: 4096, Blocks: 321, Outcomes: 777,
		Resident: 6 << 20, HeldMost: 16 << 20, Waited: 1500, GivenUp: 2}
}

func TestHealthAndReadyThroughALife(t *testing.T) {
	s, url := serve(t)
	st, engine := full(), stripe.Status{}
	status := func() wire.Status { return st }
	for _, step := range []struct {
		name          string
		do            func()
		health, ready int
		state, reason string
	}{
		{"starting", func() {}, 503, 503, "STARTING", "reads its state"},
		{"not configured", func() { st.Cluster = nil; s.Attach(status, func() stripe.Status { return engine }, memory) }, 200, 503, "ACTIVE", "cluster-tool configure"},
		{"left behind", func() { st.State = wire.StateStartSuspended }, 200, 503, "START_SUSPENDED", "it is START_SUSPENDED"},
		{"not configured, one of several", func() { st.State = wire.StateUninitialized }, 200, 503, "UNINITIALIZED", "cluster-tool configure"},
		{"configured", func() { st = full() }, 200, 200, "ACTIVE", ""},
		{"applying the log", func() { st.State = wire.StateStarting }, 200, 503, "STARTING", "neither active nor a passive"},
		{"passive", func() { st.State = wire.StatePassive }, 200, 200, "PASSIVE", ""},
		{"no majority", func() { st.State, st.Waiting = wire.StatePassiveSuspended, "it waits for a majority" }, 200, 503, "PASSIVE_SUSPENDED", "it is PASSIVE_SUSPENDED: it waits for a majority"},
		{"nodes come back", func() { st.State = wire.StateActiveReconnecting }, 200, 200, "ACTIVE_RECONNECTING", ""},
		{"disk full", func() { st.State = wire.StateActive; engine.DiskError = "the disk is full" }, 200, 503, "ACTIVE", "the disk is full"},
		{"stopping", s.Detach, 503, 503, "STOPPING", "shutting down"},
	} {
		step.do()
		health, _ := get(t, url+"/health")
		ready, text := get(t, url+"/ready")
		var r report
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatalf("%s: %v in %q", step.name, err, text)
		}
		if health != step.health || ready != step.ready || r.State != step.state || !strings.Contains(r.Reason, step.reason) || (r.Reason == "") != (step.reason == "") {
			t.Errorf("%s: health %d, ready %d, %+v; want %d, %d, %s because %q", step.name, health, ready, r, step.health, step.ready, step.state, step.reason)
		}
		if code, page := get(t, url+"/metrics"); code != 200 || !strings.Contains(page, fmt.Sprintf("terracotta_state{state=%q} 1\n", step.state)) {
			t.Errorf("%s: metrics %d\n%s", step.name, code, page)
		}
	}
}

var (
	comment = regexp.MustCompile(`^# (HELP ([a-z_]+) \S.*|TYPE ([a-z_]+) (gauge|counter))$`)
	sample  = regexp.MustCompile(`^([a-z_]+)(\{[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\[\\"n])*")*\})? (\S+)$`)
)

// parse reads a page strictly: every sample belongs to the family before it,
// families come once, values are numbers.
func parse(t *testing.T, page string) map[string]float64 {
	t.Helper()
	values, seen, family := map[string]float64{}, map[string]bool{}, ""
	if !strings.HasSuffix(page, "\n") {
		t.Errorf("the last line does not end")
	}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if c := comment.FindStringSubmatch(line); c != nil {
			if c[2] != "" {
				if family = c[2]; seen[family] {
					t.Errorf("%s comes twice", family)
				}
				seen[family] = true
			} else if c[3] != family {
				t.Errorf("%q is not about %s", line, family)
			}
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil || m[1] != family {
			t.Errorf("after %s stands %q", family, line)
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		values[m[1]+m[2]] = v
	}
	return values
}

func TestMetricsAreWhatPrometheusReads(t *testing.T) {
	s, url := serve(t)
	s.Attach(full, func() stripe.Status { return stripe.Status{LogIndex: 12, Applied: 11, Term: 4} }, memory)
	_, page := get(t, url+"/metrics")
	values := parse(t, page)
	for name, want := range map[string]float64{
		`terracotta_ready`: 1, `terracotta_configured`: 1, `terracotta_connections`: 7, `terracotta_nodes`: 2, `terracotta_writes_refused`: 0,
		`terracotta_log_last_index`: 12, `terracotta_log_applied_index`: 11,
		`terracotta_info{version="10.4.0",server="tc1",server_id="ab",durability="every write"}`: 1,
		`terracotta_offheap_size_bytes{resource="offheap-1"}`:                                    512 << 20,
		`terracotta_offheap_used_bytes{resource="offheap-1"}`:                                    1 << 20,
		`terracotta_offheap_used_bytes{resource="offheap-2"}`:                                    0,
		`terracotta_sessions{dataset="a \"b\"\\\nc` + "\uFFFD" + `",resource="offheap-1"}`:       1_000_000,
		`terracotta_member_state{member="tc2",state="SYNCHRONIZING"}`:                            1, `terracotta_member_lag_entries{member="tc2"}`: 12,
		`terracotta_member_last_contact_seconds{member="tc2"}`: 1.5, `terracotta_member_last_contact_seconds{member="tc3"}`: math.Inf(1),
		`terracotta_member_voter{member="tc1"}`: 1, `terracotta_member_voter{member="tc2"}`: 0, `terracotta_term`: 4, `terracotta_activations_total`: 3,
		`terracotta_arena_mapped_bytes`: 64 << 20, `terracotta_arena_used_bytes`: 5 << 20, `terracotta_arena_held_bytes`: 4096,
		`terracotta_arena_resident_bytes`: 6 << 20, `terracotta_arena_held_limit_bytes`: 16 << 20,
		`terracotta_snapshot_wait_seconds_total`: 1.5, `terracotta_snapshots_given_up_total`: 2,
		`terracotta_arena_blocks`: 321, `terracotta_outcome_bytes`: 777,
		`terracotta_license_state{state="valid"}`: 1,
		`terracotta_license_expiry_seconds`:       2 * 24 * 3600,
		`terracotta_license_offheap_limit_bytes`:  50 << 30,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	if values["go_goroutines"] < 2 || values["process_start_time_seconds"] < 1e9 || values["go_memstats_heap_alloc_bytes"] < 1000 {
		t.Errorf("process metrics: %v", values)
	}
	if strings.Contains(page, "SECRET") {
		t.Errorf("a secret is shown:\n%s", page)
	}
}

func TestLicenceInMetrics(t *testing.T) {
	at := time.Date(2026, 3, 3, 0, 0, 1, 0, time.UTC)
	for _, row := range []struct {
		name, expires, want string
		license             bool
	}{
		{"none", "", "", false},
		{"expired a second ago", "2026/03/02", "terracotta_license_expiry_seconds -1\n", true},
		{"unlimited", "Unlimited", "terracotta_license_expiry_seconds +Inf\n", true},
		{"does not verify", "", "", true},
	} {
		var e exposition
		var l *wire.LicenseStatus
		if row.license {
			l = &wire.LicenseStatus{State: "limited", Expires: row.expires}
		}
		e.license(l, at)
		if strings.Contains(e.String(), "expiry") != (row.want != "") || !strings.Contains(e.String(), row.want) {
			t.Errorf("%s: %q", row.name, e.String())
		}
		if row.license != strings.Contains(e.String(), `state="limited"`) {
			t.Errorf("%s: %q", row.name, e.String())
		}
	}
}

func TestOnlyReading(t *testing.T) {
	_, url := serve(t)
	for _, row := range []struct {
		method, path string
		want         int
	}{
		{"POST", "/health", 405}, {"DELETE", "/metrics", 405}, {"HEAD", "/metrics", 200}, {"GET", "/", 200}, {"GET", "/other", 404}, {"GET", "/health/../x", 404},
	} {
		req, err := http.NewRequest(row.method, url+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != row.want || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %s", row.method, row.path, resp.Status)
		}
	}
}

// Strangers that hold all connections keep others waiting, and no more; when
// they go, the next one is served. Close does not wait for them.
func TestConnectionsAreBounded(t *testing.T) {
	_, url := serve(t)
	address := strings.TrimPrefix(url, "http://")
	var idle []net.Conn
	for range maxConnections {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// An answer shows that the connection was accepted.
		fmt.Fprintf(c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := c.Read(make([]byte, 12)); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	late, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	fmt.Fprintf(late, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = late.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := late.Read(make([]byte, 12)); err == nil {
		t.Fatalf("one above the limit was answered %d bytes", n)
	}
	idle[0].Close()
	_ = late.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := late.Read(make([]byte, 12)); err != nil {
		t.Fatalf("nobody made room: %v", err)
	}
}
