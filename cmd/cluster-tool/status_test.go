package main

import (
	"encoding/json"
	"net"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestStatusOfAPairOneServerOfWhichIsDown(t *testing.T) {
	a := newFake(t, "tc1")
	down := serverAt("tc2", nowhere(t))
	a.status.Running = running(a.status.Server, down)
	a.status.Warnings = []string{"no partner\x1b[2J"}
	join("A", "", a)
	r := runTool(t, nil, "status", "-n", "A", "-s", a.addr)
	r.want(t, codePartial, "| tc1 ", "| ACTIVE ", "| tc2 ", "| UNREACHABLE |", "Error (PARTIAL_FAILURE): 1 of 2 servers do not answer: "+serverHost(down))
	r.want(t, codePartial, a.addr+" warns: no partner?[2J")

	r = runTool(t, nil, "status", "-n", "A", "-o", "json", a.addr)
	var doc struct {
		Configuration map[string]any                 `json:"cluster-configuration"`
		Stripes       []map[string]map[string]string `json:"stripes-information"`
	}
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil {
		t.Fatalf("%v in %s", err, r.out)
	}
	wantConfiguration := map[string]any{
		"cluster-name": "A", "number-of-stripes": 1.0, "total-number-of-servers": 2.0, "total-configured-offheap": "512M",
		"data-directories-configured": "PLATFORM", "backup-configured": false, "security-configured": false,
	}
	wantStripes := []map[string]map[string]string{{
		a.addr:           {"server-name": "tc1", "status": "ACTIVE"},
		serverHost(down): {"server-name": "tc2", "status": "UNREACHABLE"},
	}}
	if !reflect.DeepEqual(doc.Configuration, wantConfiguration) || !reflect.DeepEqual(doc.Stripes, wantStripes) || r.exit != 1 {
		t.Errorf("exit %d: %s", r.exit, r.out)
	}
}

// A server that was left behind must not be configured anew.
func TestStatusOfAServerThatIsSuspendedBeforeItKnowsItsCluster(t *testing.T) {
	a, b := pair(t)
	a.status.State, a.status.Cluster = wire.StateStartSuspended, nil
	a.status.Warnings = []string{"start the other one"}
	r := runTool(t, nil, "status", "-n", "A", "-s", a.addr)
	r.want(t, codeBadRequest, "server "+a.addr+" does not know yet which cluster it belongs to: it is START_SUSPENDED",
		"start the other servers of its stripe")
	if strings.Contains(r.out+r.errors, "configure") {
		t.Errorf("%s%s", r.out, r.errors)
	}
	runTool(t, nil, "status", "-s", a.addr).want(t, codeSuccess, "| START_SUSPENDED |", "| cluster not known yet  |", a.addr+" warns: start the other one")
	join("A", "", b)
	runTool(t, nil, "status", "-n", "A", "-s", a.addr, "-s", b.addr).want(t, codeSuccess, "| START_SUSPENDED |", "| PASSIVE ")
}

func TestStatusSaysAWarningOfSeveralServersOnce(t *testing.T) {
	a, b := pair(t)
	down := nowhere(t)
	a.status.Warnings = []string{"key dev-1 is trusted", "the disk is full"}
	b.status.Warnings = []string{"key dev-1 is trusted", "no password"}
	r := runTool(t, nil, "status", "-s", a.addr, "-s", b.addr)
	want := "all servers warn: key dev-1 is trusted\n" + a.addr + " warns: the disk is full\n" + b.addr + " warns: no password\n"
	if !strings.HasSuffix(r.out, want) {
		t.Errorf("want the end %q, got %q", want, r.out)
	}
	r = runTool(t, nil, "status", "-s", a.addr, "-s", b.addr, "-s", down)
	r.want(t, codePartial, a.addr+", "+b.addr+" warn: key dev-1 is trusted\n")
}

func TestStatusOfServersAsJSON(t *testing.T) {
	a, b := pair(t)
	join("A", "", a)
	a.status.License.State = "expiring"
	b.status.Warnings = []string{"split brain is possible"}
	down := nowhere(t)
	r := runTool(t, nil, "status", "-o", "JSON", "-s", b.addr, "-s", a.addr, "-s", down)
	var doc map[string]map[string]string
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil {
		t.Fatalf("%v in %s", err, r.out)
	}
	want := map[string]map[string]string{
		a.addr: {"status": "ACTIVE", "member-of-cluster": "A", "additional-information": "licence expiring, expires Unlimited"},
		b.addr: {"status": "PASSIVE", "member-of-cluster": "-", "additional-information": "not configured; split brain is possible"},
		down:   {"status": "UNREACHABLE", "member-of-cluster": "-", "additional-information": "connection refused"},
	}
	if !reflect.DeepEqual(doc, want) || r.exit != codePartial.Number {
		t.Errorf("exit %d: %s", r.exit, r.out)
	}
	if strings.Index(r.out, b.addr) > strings.Index(r.out, a.addr) {
		t.Errorf("the order of the command line is lost: %s", r.out)
	}
}

// A contacted server is used by the address it was contacted at, even if its
// configured host leads nowhere from here.
func TestStatusUsesTheContactedAddress(t *testing.T) {
	a := newFake(t, "tc1")
	a.status.Server.Host = "container.invalid"
	a.status.Running = running(a.status.Server)
	join("A", "", a)
	runTool(t, nil, "status", "-n", "A", "-s", a.addr).want(t, codeSuccess, "| ACTIVE |", serverHost(a.status.Server))
}

// A container that was made again on the same volume has another host name than
// the one that was configured.
func TestARenamedServerIsFoundWhereItWasContacted(t *testing.T) {
	a := newFake(t, "tc1")
	join("A", "", a)
	before := a.status.Running.Servers[0]
	a.status.Cluster.Stripes[0].Servers = []wire.ServerConfig{{Name: before.Name, Host: "old.invalid", Port: before.Port}}
	a.status.Server.Name = "tc1-again"
	runTool(t, nil, "status", "-n", "A", "-s", a.addr).want(t, codeSuccess, "| ACTIVE |", "old.invalid")
}

// Of two servers the contacted one is not taken for the other.
func TestARenamedServerOfAPairIsNotGuessed(t *testing.T) {
	a, b := pair(t)
	join("A", "", a, b)
	a.status.Server.Name = "tc1-again"
	b.status.State = wire.StatePassive
	runTool(t, nil, "status", "-n", "A", "-s", a.addr).want(t, codeSuccess, "| ACTIVE  |", "| PASSIVE |")
}

// At a member's address there is a server of another cluster.
func TestStatusOfAStrangerAtAMembersAddress(t *testing.T) {
	a, b := pair(t)
	join("A", "", a)
	join("B", "", b)
	runTool(t, nil, "status", "-n", "A", "-s", a.addr).want(t, codePartial, "| UNKNOWN |", "not a member")
	runTool(t, nil, "status", "-n", "A", "-s", a.addr, "-s", b.addr).want(t, codeConflict, `"B"`)
}

func TestStatusOfSomethingElseAtThePort(t *testing.T) {
	a := newFake(t, "tc1")
	a.refuse = "ERR unknown command 'TC.STATUS'"
	runTool(t, nil, "status", "-s", a.addr).want(t, codeInternal, "UNKNOWN", "unknown command")
}

// parseHost lets no such host through; should one come, it is told.
func TestContactOfAHostThatIsNone(t *testing.T) {
	_, _, err := new(tool).contactServer(t.Context(), "terracotta", "")
	checkFailure(t, err, codeFailure, `server terracotta: `, "is not host:port")
}

func TestShortSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0B", 1: "1B", 1 << 10: "1K", 1 << 30: "1G", 3 << 29: "1536M", 1 << 50: "1P", 1 << 60: "1024P", 1<<30 + 1: "1073741825B"} {
		if got := shortSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestParseHost(t *testing.T) {
	for in, want := range map[string]string{
		"terracotta": "terracotta:9410", "terracotta:9510": "terracotta:9510", "10.0.0.7": "10.0.0.7:9410",
		"fd00::7": "[fd00::7]:9410", "[fd00::7]": "[fd00::7]:9410", "[fd00::7]:9510": "[fd00::7]:9510",
		"": "", ":9410": "", "a:": "", "a:0": "", "a:65536": "", "a:x": "", "a:+1": "", "a:01": "", "a b": "", "a,b": "",
		"a:1:2": "", "[fd00::7": "", "terracotta://a": "", "a/b": "", "u@a": "", "[]": "",
	} {
		got, err := parseHost(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestLongSRD(t *testing.T) {
	for in, want := range map[string]string{
		"-srd d status":              "--security-root-directory d status",
		"-srd=d status":              "--security-root-directory=d status",
		"-v -t 5 -srd d status":      "-v -t 5 --security-root-directory d status",
		"-t -srd status":             "-t -srd status",
		"status -srd d":              "status -srd d",
		"-srd":                       "--security-root-directory",
		"configure -n A -s srd -srd": "configure -n A -s srd -srd",
	} {
		if got := strings.Join(longSRD(strings.Fields(in)), " "); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// A terminal sees one line that changes, a log one line per change.
func TestProgress(t *testing.T) {
	var b strings.Builder
	p := newProgress(&b)
	p.show("waiting for a")
	p.show("waiting for a")
	p.show("waiting for b")
	p.clear()
	if got := b.String(); got != "waiting for a\nwaiting for b\n" {
		t.Errorf("log: %q", got)
	}
	b.Reset()
	p = newProgress(&b)
	p.terminal = true
	p.show("waiting for a")
	p.clear()
	p.clear()
	if got := b.String(); got != "\r\x1b[Kwaiting for a (0 s)\r\x1b[K" {
		t.Errorf("terminal: %q", got)
	}
}

// A server that takes connections and says nothing must not hang the tool.
func TestStatusOfASilentServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	runTool(t, nil, "-t", "200", "status", "-s", ln.Addr().String()).want(t, codeBadGateway, "UNREACHABLE", "no answer in time")
}

// A web server at the port is told from a server of ours.
func TestStatusOfAWebServer(t *testing.T) {
	srv := httptest.NewServer(nil)
	defer srv.Close()
	runTool(t, nil, "-t", "60000", "status", "-s", srv.Listener.Addr().String()).want(t, codeBadGateway, "UNREACHABLE", "protocol")
}

// What a server says does not move the cursor.
func TestServerTextsArePrintable(t *testing.T) {
	a := newFake(t, "tc1")
	a.refuse = "BADREQUEST \x1b[31mred"
	r := runTool(t, nil, "status", "-n", "A", "-s", a.addr)
	r.want(t, codeBadRequest, "?[31mred")
	if strings.Contains(r.out+r.errors, "\x1b") {
		t.Errorf("escape sequence in %q", r.errors)
	}
}

// Law: what is taken is a host and a port, and reads the same again.
func FuzzParseHost(f *testing.F) {
	f.Add("terracotta:9410")
	f.Add("[fd00::7]:9510")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHost(s)
		if err != nil {
			return
		}
		if _, _, err := net.SplitHostPort(h); err != nil {
			t.Errorf("%q became %q: %v", s, h, err)
		}
		if again, err := parseHost(h); err != nil || again != h {
			t.Errorf("%q became %q and then %q, %v", s, h, again, err)
		}
	})
}
