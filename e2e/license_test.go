//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/license"
)

func TestBadLicencesAreRefusedWithTheReason(t *testing.T) {
	needImages(t)
	nw := newNetwork(t)
	server := startServer(t, nw)
	for _, c := range []struct {
		name string
		doc  []byte
		want string
	}{
		{"forged", forge(t, mint(t, nil)), "signature does not fit"},
		{"expired", mint(t, func(l *license.License) { l.Expiration = time.Now().UTC().Truncate(24 * time.Hour) }), "expired: its last valid day was"},
		{"other version", mint(t, func(l *license.License) { l.ProductVersion = "11.0" }), `for version "11.0"`},
		{"no licence", []byte("<html><body>Log in</body></html>"), "HTML page"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out := configure(t, nw, c.doc)
			if code != 40 {
				t.Errorf("exit status %d", code)
			}
			mustContain(t, out, "Error (BAD_REQUEST): ", c.want, "Hint: ")
			mustBeUnconfigured(t, address(t, server, "9410"))
		})
	}
}

func TestATooSmallLicenceIsRefused(t *testing.T) {
	needImages(t)
	nw := newNetwork(t)
	doc := mint(t, func(l *license.License) { l.OffheapLimit = 1 << 30 })
	server := startServer(t, nw, env("OFFHEAP_RESOURCE1_SIZE", "513")) // and offheap-2 has 512: a megabyte above
	code, out := configure(t, nw, doc)
	if code != 40 {
		t.Errorf("exit status %d", code)
	}
	mustContain(t, out, "Error (BAD_REQUEST): ", "exceed the licence's limit of 1 GB")
	mustBeUnconfigured(t, address(t, server, "9410"))

	remove(t, server)
	startServer(t, nw) // 512 and 512 MB: exactly the limit
	if code, out := configure(t, nw, doc); code != 0 {
		t.Errorf("a licence of exactly the size that is needed: exit status %d:\n%s", code, out)
	}
}

func TestDataBeforeConfigureIsRefused(t *testing.T) {
	needImages(t)
	nw := newNetwork(t)
	server := startServer(t, nw)
	mustBeUnconfigured(t, address(t, server, "9410"))

	// The shop says so, and serves as soon as the cluster is configured.
	cart := startCart(t, nw, "cart-1")
	shop := address(t, cart, "8080")
	eventually(t, 2*time.Minute, status("http://"+shop+"/cart/?item=JSP+Book&submit=add", 503))
	mustConfigure(t, nw)
	eventually(t, 2*time.Minute, status("http://"+shop+"/ready", 200))
	c := newCustomer(t)
	c.add(shop, "JSP Book")
	c.sees(shop, "/cart/", "JSP Book")
}

// mustBeUnconfigured asks for a session, as redis-cli would.
func mustBeUnconfigured(t *testing.T, address string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "TC.LOAD sessions-example nobody\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(line, "-UNCONFIGURED ") || !strings.Contains(line, "cluster-tool configure") {
		t.Errorf("the answer is %q", line)
	}
}

// Clones tag their images alike: who built last must not decide whose licence counts.
func TestTheLicenceOfAnotherCloneIsAccepted(t *testing.T) {
	needImages(t)
	dev := filepath.Join(t.TempDir(), ".dev")
	if out, code := command(t, root, nil, "go", "run", "./cmd/license-issuer", "dev", "--dir", dev); code != 0 {
		t.Fatalf("license-issuer: %s", out)
	}
	doc, err := os.ReadFile(filepath.Join(dev, "licenses", "license.xml"))
	if err != nil {
		t.Fatal(err)
	}
	nw := newNetwork(t)
	startServer(t, nw)
	if code, out := configure(t, nw, doc); code != 0 {
		t.Errorf("exit status %d:\n%s", code, out)
	}
}
