package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/websessions"
)

// onCluster returns the configuration of a cart whose sessions are kept at uri.
func onCluster(name, uri string) config.Cart {
	return config.Cart{Name: name, Sessions: websessions.Config{URI: uri, Label: name, NonStopTimeout: time.Minute}}
}

// The tutorial: fill a cart on one node and see it on the other.
func TestTwoCartsShareTheirSessions(t *testing.T) {
	c := testcluster.Start(t)
	one := open(t, onCluster("box-1", c.URI("shop"))).URL + "/Cart/"
	two := open(t, onCluster("box-2", c.URI("shop"))).URL + "/Cart/"
	v := newVisitor(t)
	v.do(one, add("JSP Book"))
	v.do(two, add("NIN CD")) // cookies don't know ports: the same visitor
	a, b := v.cart(one), v.cart(two)
	want(t, a.Items, []string{"JSP Book", "NIN CD"})
	want(t, b.Items, a.Items)
	want(t, b.Viewed, []string{"NIN CD", "JSP Book"})
	want(t, b.Session.ID, a.Session.ID)
	if a.Server == b.Server {
		t.Error("both pages name the same server")
	}
	v.do(two, "invalidate=true")
	if doc := v.cart(one); doc.Session.ID != "" || len(doc.Items) > 0 {
		t.Errorf("the other server does not know that the session has ended: %+v", doc)
	}
}

func TestParallelAddsOnTwoServersAreAllKept(t *testing.T) {
	c := testcluster.Start(t)
	bases := []string{
		open(t, onCluster("box-1", c.URI("shop"))).URL + "/cart/",
		open(t, onCluster("box-2", c.URI("shop"))).URL + "/cart/",
	}
	v := newVisitor(t)
	v.do(bases[0], add("Love life"))
	var wg sync.WaitGroup
	const each = 10
	for i := range 2 * each {
		wg.Go(func() {
			resp, err := v.c.Get(bases[i%2] + "?" + add(products[i%len(products)]))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusSeeOther {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	want(t, len(v.cart(bases[0]).Items), 2*each+1)
}

func TestCartOutlivesTheServersDeath(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, testcluster.Dir(t.TempDir()))
	base := open(t, onCluster("box-1", c.URI("shop"))).URL + "/cart/"
	v := newVisitor(t)
	v.do(base, add("Twin peaks tapes"))
	c.Kill()
	c.Start()
	want(t, v.cart(base).Items, []string{"Twin peaks tapes"})
}

func TestClusterAway(t *testing.T) {
	t.Parallel()
	cart := onCluster("box-1", "terracotta://127.0.0.1:1/shop")
	cart.Sessions.NonStopTimeout = 50 * time.Millisecond
	server := open(t, cart).URL
	v := newVisitor(t)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(v.get(server+"/cart/").body, "127.0.0.1:1"); { // 50 ms are little on a busy machine
		if time.Now().After(deadline) {
			t.Fatal("the page does not say which server is away")
		}
	}
	for _, query := range []string{"", "?" + add("NIN CD")} {
		p := v.get(server + "/cart/" + query)
		if p.StatusCode != http.StatusServiceUnavailable || p.Header.Get("Retry-After") == "" {
			t.Fatalf("%q: status %d, Retry-After %q", query, p.StatusCode, p.Header.Get("Retry-After"))
		}
		for _, text := range []string{"What to do", "127.0.0.1:1", `content="5;url=/cart/"`} {
			if !strings.Contains(p.body, text) {
				t.Errorf("%q: the page lacks %q", query, text)
			}
		}
		if len(p.Header.Values("Set-Cookie")) > 0 {
			t.Errorf("%q: a cookie without a session", query)
		}
	}
	if p := v.get(server + "/cart/?format=json&" + add("NIN CD")); p.StatusCode != http.StatusServiceUnavailable ||
		!strings.HasPrefix(p.body, `{"details":`) {
		t.Errorf("as JSON: status %d: %s", p.StatusCode, p.body)
	}
	if p := v.get(server + "/health"); p.StatusCode != http.StatusOK {
		t.Errorf("/health: status %d: a cart without a cluster is alive", p.StatusCode)
	}
	if p := v.get(server + "/ready"); p.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/ready: status %d", p.StatusCode)
	}
}

func TestClusterUnconfigured(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t, testcluster.Unconfigured())
	server := open(t, onCluster("box-1", c.URI("shop"))).URL
	v := newVisitor(t)
	p := v.get(server + "/cart/")
	if p.StatusCode != http.StatusServiceUnavailable || !strings.Contains(p.body, "cluster-tool configure") {
		t.Fatalf("status %d: %s", p.StatusCode, p.body)
	}
	c.Configure()
	v.do(server+"/cart/", add("NIN CD")) // without a restart of the cart
	if p := v.get(server + "/ready"); p.StatusCode != http.StatusOK {
		t.Errorf("/ready: status %d: %s", p.StatusCode, p.body)
	}
}

// output is a writer that a test may read meanwhile.
type output struct{ testcluster.Output }

// await polls until the output matches.
func (o *output) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(time.Minute); ; <-time.After(2 * time.Millisecond) {
		if m := re.FindStringSubmatch(o.String()); m != nil {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in:\n%s", pattern, o)
		}
	}
}

func TestRunServesLogsAndStopsInOrder(t *testing.T) {
	t.Parallel()
	c := testcluster.Start(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out, errs output
	status := make(chan int, 1)
	environ := []string{"TERRACOTTA_CONTAINER=1", "ACCEPT_EULA=Y", "HOSTNAME=box",
		"JAVA_OPTS=-Xmx64m -Dterracotta.websessions.store.tcstore.uri=" + c.URI("shop") +
			" -Dterracotta.websessions.store.tcstore.offheapResource=offheap-1"}
	go func() {
		status <- run(ctx, []string{"--listen", "127.0.0.1:0", "--log-level", "debug"}, environ, &out, &errs)
	}()
	address := out.await(t, `url=(http://\S+)`)[1]
	out.await(t, `sessions are ready`)
	v := newVisitor(t)
	v.do(address, add("NIN CD"))
	id := v.cart(address).Session.ID
	v.do(address, "invalidate=true")
	for _, pattern := range []string{`licence agreement was accepted`, `ignored: -Xmx64m`,
		`INFO  session created  session=` + id, `INFO  session ended  session=` + id + ` reason=logout`,
		`DEBUG request  method=GET path=/cart/`} {
		out.await(t, pattern)
	}
	u, _ := url.Parse(address)
	var healthOut output
	if got := run(t.Context(), []string{"health", "--ready", "--listen", u.Host}, nil, &healthOut, &errs); got != 0 || healthOut.String() != "ok\n" {
		t.Errorf("health: status %d, %q, %q", got, healthOut.String(), errs.String())
	}
	stop()
	if got := <-status; got != 0 {
		t.Errorf("status %d: %s", got, errs.String())
	}
	if strings.Contains(out.String(), "in haste") {
		t.Errorf("nothing was under way, and the stop was none in order:\n%s", out.String())
	}
	if got := run(t.Context(), []string{"health", "--listen", u.Host}, nil, &healthOut, &errs); got != 1 {
		t.Errorf("health of a cart that has stopped: status %d", got)
	}
}

func TestStopDoesNotWaitForARequestThatHangs(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out, errs output
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, []string{"--listen", "127.0.0.1:0", "--log-level", "debug"}, []string{
			"TERRACOTTA_WEBSESSIONS_STORE_TCSTORE_URI=terracotta://127.0.0.1:1/shop",
			"TERRACOTTA_WEBSESSIONS_NON_STOP_TIMEOUT=1h"}, &out, &errs)
	}()
	address := out.await(t, `url=(http://\S+)`)[1]
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if resp, err := http.Get(address + "?" + add("NIN CD")); err == nil {
			resp.Body.Close()
		}
	}()
	out.await(t, `not ready yet`)
	stop()
	if got := <-status; got != 0 { // the request waits for an hour
		t.Errorf("status %d: %s", got, errs.String())
	}
	out.await(t, `the shop is closed`)
	<-gone
}

func TestRunRefuses(t *testing.T) {
	uri := "TERRACOTTA_WEBSESSIONS_STORE_TCSTORE_URI=terracotta://127.0.0.1:1/shop"
	for name, test := range map[string]struct {
		args, environ []string
		status        int
		says          string
	}{
		"no EULA":           {nil, []string{"TERRACOTTA_CONTAINER=1", uri}, 10, "the licence agreement is not accepted"},
		"EULA y":            {nil, []string{"TERRACOTTA_CONTAINER=1", "ACCEPT_EULA=y", uri}, 10, "ACCEPT_EULA=Y"},
		"EULA before fault": {nil, []string{"TERRACOTTA_CONTAINER=1"}, 10, "ACCEPT_EULA=Y"},
		"no cluster":        {nil, nil, 40, "is not set: which cluster keeps the sessions?"},
		"bad flag":          {[]string{"--colour", "red"}, []string{uri}, 40, "unknown flag: --colour"},
		"argument":          {[]string{"fly"}, []string{uri}, 40, "fly"},
		"port taken":        {[]string{"--listen", "192.0.2.1:80"}, []string{uri}, 2, "is another program using the port? choose one with CART_LISTEN=:8081"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs output
			got := run(t.Context(), append([]string{}, test.args...), test.environ, &out, &errs)
			if got != test.status || !strings.Contains(errs.String(), test.says) {
				t.Errorf("status %d, want %d and %q: %s", got, test.status, test.says, errs.String())
			}
		})
	}
}

func TestVersionAndHelpAreNeverGated(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--help"}, {"health", "--help"}} {
		var out, errs output
		if got := run(t.Context(), args, []string{"TERRACOTTA_CONTAINER=1"}, &out, &errs); got != 0 || out.String() == "" {
			t.Errorf("%v: status %d: %s", args, got, errs.String())
		}
	}
	var out output
	run(t.Context(), []string{"version"}, nil, &out, &out)
	want(t, out.String(), fmt.Sprintf("cart-example %s\n", config.Version))
}
