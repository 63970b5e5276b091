package server_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
	"github.com/terracotta-go/terracotta/license"
)

// request is what cluster-tool configure would send to c.
func request(c *testcluster.Cluster) *wire.ConfigureRequest {
	return &wire.ConfigureRequest{Cluster: wire.Cluster{Name: testcluster.Name, Stripes: []wire.StripeConfig{c.Running()}}, License: c.License()}
}

func (p *peer) configure(r *wire.ConfigureRequest) (a wire.ConfigureAnswer, refused *wire.Error) {
	p.t.Helper()
	doc, err := json.Marshal(r)
	if err != nil {
		p.t.Fatal(err)
	}
	answer := p.do(wire.CmdConfigure, string(doc))
	if answer.Type == '-' {
		return a, wire.ParseError(string(answer.Bytes))
	}
	if err := json.Unmarshal(answer.Bytes, &a); err != nil {
		p.t.Fatal(err)
	}
	return a, nil
}

func TestConfigure(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured(), testcluster.Dir(t.TempDir()))
	p := dial(t, c.Addr())
	if a, refused := p.configure(request(c)); refused != nil || !a.Configured || a.License != "installed" {
		t.Fatalf("configure: %+v, %v", a, refused)
	}
	st := p.status()
	if st.Cluster == nil || st.Cluster.Name != testcluster.Name || st.License.State != string(license.Valid) || st.State != wire.StateActive {
		t.Errorf("status after configure: %+v, %+v", st.Cluster, st.License)
	}
	for range 2 { // also after a restart
		if a, refused := p.configure(request(c)); refused != nil || a.Configured || a.License != "identical" {
			t.Errorf("the same again: %+v, %v", a, refused)
		}
		other := request(c)
		other.Cluster.Name = "Another"
		if _, refused := p.configure(other); refused == nil || refused.Word != wire.ErrConfigured || !strings.Contains(refused.Text, `"`+testcluster.Name+`"`) {
			t.Errorf("another name: %v", refused)
		}
		other = request(c)
		other.License = c.IssueLicense(func(l *license.License) { l.SerialNumber = "TEST-2" })
		if _, refused := p.configure(other); refused == nil || refused.Word != wire.ErrConfigured || !strings.Contains(refused.Text, "reconfigure") {
			t.Errorf("another licence: %v", refused)
		}
		c.Restart()
		p = dial(t, c.Addr())
	}
}

// Nothing is formed and nothing installed by a request that is refused.
func TestConfigureRefusals(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured())
	p := dial(t, c.Addr())
	for name, row := range map[string]struct {
		word   wire.Word
		text   string
		change func(r *wire.ConfigureRequest)
	}{
		"another size": {wire.ErrBadRequest, "Mismatched off-heap resources: the request says offheap-1=1 GB", func(r *wire.ConfigureRequest) {
			r.Cluster.Stripes[0].OffheapResources[0].Size = 1 << 30
		}},
		"a resource less": {wire.ErrBadRequest, "Mismatched off-heap resources", func(r *wire.ConfigureRequest) {
			r.Cluster.Stripes[0].OffheapResources = r.Cluster.Stripes[0].OffheapResources[:1]
		}},
		"another directory": {wire.ErrBadRequest, "Mismatched data directories", func(r *wire.ConfigureRequest) {
			r.Cluster.Stripes[0].DataDirectories[1].Name = "elsewhere"
		}},
		"another platform directory": {wire.ErrBadRequest, "Mismatched data directories", func(r *wire.ConfigureRequest) {
			r.Cluster.Stripes[0].DataDirectories[0].Platform = false
		}},
		"another failover priority": {wire.ErrBadRequest, "Mismatched failover priority", func(r *wire.ConfigureRequest) {
			r.Cluster.Stripes[0].FailoverPriority = "consistency"
		}},
		"security": {wire.ErrBadRequest, "Mismatched security configuration", func(r *wire.ConfigureRequest) {
			r.Cluster.Stripes[0].Security = true
		}},
		"another server": {wire.ErrBadRequest, "Mismatched servers", func(r *wire.ConfigureRequest) {
			r.Cluster.Stripes[0].Servers[0].Name = "tc9"
		}},
		"two servers": {wire.ErrBadRequest, "Mismatched servers", func(r *wire.ConfigureRequest) {
			r.Cluster.Stripes[0].Servers = append(r.Cluster.Stripes[0].Servers, wire.ServerConfig{Name: "tc2"})
		}},
		"two stripes": {wire.ErrBadRequest, "one stripe", func(r *wire.ConfigureRequest) {
			r.Cluster.Stripes = append(r.Cluster.Stripes, r.Cluster.Stripes[0])
		}},
		"no stripe":        {wire.ErrBadRequest, "does not exist", func(r *wire.ConfigureRequest) { r.Cluster.Stripes = nil }},
		"stripe below 0":   {wire.ErrBadRequest, "does not exist", func(r *wire.ConfigureRequest) { r.Cluster.Stripe = -1 }},
		"no name":          {wire.ErrBadRequest, "cluster name", func(r *wire.ConfigureRequest) { r.Cluster.Name = "" }},
		"name with a line": {wire.ErrBadRequest, "cluster name", func(r *wire.ConfigureRequest) { r.Cluster.Name = "a\nb" }},
		"no licence":       {wire.ErrBadRequest, "no licence", func(r *wire.ConfigureRequest) { r.License = nil }},
		"forged licence": {wire.ErrLicense, "signature", func(r *wire.ConfigureRequest) {
			r.License = []byte(strings.Replace(string(r.License), "The test", "The thief", 1))
		}},
		"expired licence": {wire.ErrLicense, "expired", func(r *wire.ConfigureRequest) {
			r.License = c.IssueLicense(func(l *license.License) { l.Expiration = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1) })
		}},
		"licence for another version": {wire.ErrLicense, "version", func(r *wire.ConfigureRequest) {
			r.License = c.IssueLicense(func(l *license.License) { l.ProductVersion = "9.9" })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(c)
			row.change(r)
			_, refused := p.configure(r)
			if refused == nil || refused.Word != row.word || !strings.Contains(refused.Text, row.text) {
				t.Errorf("got %v, want %s with %q", refused, row.word, row.text)
			}
		})
	}
	for _, doc := range []string{"", "{", `{"cluster":{"name":"x","surprise":1}}`, "[]"} {
		p.refused(wire.ErrBadRequest, wire.CmdConfigure, doc)
	}
	if st := p.status(); st.Cluster != nil {
		t.Errorf("a refused request left %+v", st.Cluster)
	}
	p.refused(wire.ErrUnconfigured, wire.CmdLoad, "carts", "k")
}

func TestConfigureWithALicenceThatIsTooSmall(t *testing.T) {
	c := testcluster.Start(t, testcluster.Unconfigured(), testcluster.Offheap(2<<30))
	r := request(c)
	r.License = c.IssueLicense(func(l *license.License) { l.OffheapLimit = 3 << 30 })
	if _, refused := dial(t, c.Addr()).configure(r); refused == nil || refused.Word != wire.ErrLicense || !strings.Contains(refused.Text, "3 GB") {
		t.Errorf("four GB under a licence of three: %v", refused)
	}
}

// A licence never stops what lives; expired for long, it refuses new datasets.
func TestLicenceStates(t *testing.T) {
	var shift atomic.Int64
	var log logBook
	_, n := carts(t, log.option(), testcluster.Clock(func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }))
	n.create("k", "")
	for _, row := range []struct {
		days  int
		state license.State
	}{{0, license.Valid}, {80, license.Expiring}, {92, license.Grace}, {120, license.Limited}} {
		shift.Store(int64(row.days) * 24 * int64(time.Hour))
		st := n.status()
		if st.License.State != string(row.state) {
			t.Errorf("after %d days: %s, want %s", row.days, st.License.State, row.state)
		}
		if loud := slices.ContainsFunc(st.Warnings, func(w string) bool {
			return strings.Contains(w, "the licence expires: its last valid day is ") || strings.Contains(w, "the licence has expired: its last valid day was ")
		}); loud != (row.state != license.Valid) {
			t.Errorf("after %d days the warnings are %q", row.days, st.Warnings)
		}
		n.open("carts") // exists
		n.load("k")
		w := wire.Commit{Write: n.write("k", wire.Token{}), Idle: wire.KeepIdle}
		n.outcome(n.doArgs(w.AppendArgs(nil)))
	}
	if why := n.refused(wire.ErrLicense, wire.CmdOpen, "new", "", "", "0", "", "none"); !strings.Contains(why, "expired") {
		t.Errorf("the refusal says %q", why)
	}
	n.refused(wire.ErrLicense, "SET", "k", "v") // it would make the dataset of Redis commands
	n.want("nil", "GET", "k")
	shift.Store(0)
	n.want("OK", "SET", "k", "v")
	shift.Store(120 * 24 * int64(time.Hour))
	n.want("OK", "SET", "other", "v")
}

// The installed licence is verified again at each start, and what no longer
// fits is told.
func TestDriftIsTold(t *testing.T) {
	var log logBook
	c, n := carts(t, testcluster.Dir(t.TempDir()), log.option())
	n.create("k", "")
	if log.contains("Mismatched") || !log.contains("development key") {
		t.Error("the first start says too much or too little")
	}
	c.DistrustLicense()
	c.Restart(testcluster.Offheap(1 << 30))
	n = join(t, c.Addr(), 2)
	st := n.status()
	if st.License.State != string(license.Limited) || !strings.Contains(st.License.Message, "does not verify") {
		t.Errorf("licence: %+v", st.License)
	}
	if !slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.HasPrefix(w, "Mismatched off-heap resources: the cluster has") }) {
		t.Errorf("warnings: %q", st.Warnings)
	}
	eventually(t, "a log line about the licence", func() bool { return log.contains("the installed licence does not verify on this server") })
	n.load("k")
	n.refused(wire.ErrLicense, wire.CmdOpen, "new", "", "", "0", "", "none")
}
