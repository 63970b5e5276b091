package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/websessions"
)

var quiet = slog.New(slog.DiscardHandler)

// open returns a shop with sessions of its own or those of a cluster.
func open(t testing.TB, cfg config.Cart) *httptest.Server {
	t.Helper()
	if cfg.Contexts == nil {
		cfg.Contexts = []string{"/cart", "/Cart"}
	}
	if cfg.Name == "" {
		cfg.Name = "box-1"
	}
	cfg.Color = config.Goldenrod
	sh := &shop{cfg: cfg, log: quiet}
	cfg.Sessions.Logger = quiet
	cfg.Sessions.ErrorPage = sh.sorry
	create := websessions.NewMemory
	if cfg.Sessions.URI != "" {
		create = websessions.New
	}
	sessions, err := create(cfg.Sessions)
	if err != nil {
		t.Fatal(err)
	}
	sh.sessions = sessions
	server := httptest.NewServer(sh.handler())
	t.Cleanup(func() {
		server.Close()
		_ = closeWithin(sessions, time.Second)
	})
	return server
}

// visitor is a browser: it keeps cookies and shows redirects.
type visitor struct {
	t *testing.T
	c *http.Client
}

func newVisitor(t *testing.T) visitor {
	jar, _ := cookiejar.New(nil)
	return visitor{t, &http.Client{Jar: jar, Timeout: 2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type page struct {
	*http.Response
	body string
}

func (v visitor) get(address string) page {
	v.t.Helper()
	resp, err := v.c.Get(address)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return page{resp, string(body)}
}

// do asks for a change and wants to be sent on to the clean address.
func (v visitor) do(base, query string) {
	v.t.Helper()
	p := v.get(base + "?" + query)
	clean, _ := url.Parse(base)
	if p.StatusCode != http.StatusSeeOther || p.Header.Get("Location") != clean.Path {
		v.t.Fatalf("%s: status %d to %q, want 303 to %q: %s", query, p.StatusCode, p.Header.Get("Location"), clean.Path, p.body)
	}
}

type document struct {
	Items, Viewed []string
	Server        string
	Attributes    map[string]string
	Session       struct {
		ID, Created, LastAccess string
		ExpiresIn               int
	}
}

func (v visitor) cart(base string) document {
	v.t.Helper()
	p := v.get(base + "?format=json")
	var doc document
	if err := json.Unmarshal([]byte(p.body), &doc); err != nil || p.StatusCode != http.StatusOK {
		v.t.Fatalf("status %d: %v: %s", p.StatusCode, err, p.body)
	}
	return doc
}

func want[T any](t *testing.T, got, want T) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

func add(item string) string    { return url.Values{"item": {item}, "submit": {"add"}}.Encode() }
func remove(item string) string { return url.Values{"item": {item}, "submit": {"remove"}}.Encode() }

func TestCartIsFilledAndEmptied(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	v.do(base, add("JSP Book"))
	v.do(base, add("NIN CD"))
	v.do(base, add("JSP Book"))
	want(t, v.cart(base).Items, []string{"JSP Book", "NIN CD", "JSP Book"})
	v.do(base, remove("JSP Book")) // the first equal one
	want(t, v.cart(base).Items, []string{"NIN CD", "JSP Book"})
	v.do(base, remove("X-files movie")) // not in it
	want(t, v.cart(base).Items, []string{"NIN CD", "JSP Book"})
}

func TestEveryProductIsForSale(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	for _, p := range products {
		v.do(base, add(p))
	}
	want(t, v.cart(base).Items, products)
	if len(products) != 9 {
		t.Errorf("%d products, want the original's nine", len(products))
	}
}

func TestBrowsingHistoryHasTheLatestFirst(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	v.do(base, "item=JSP+Book")
	v.do(base, add("NIN CD"))
	v.do(base, "item=JSP+Book")
	doc := v.cart(base)
	want(t, doc.Viewed, []string{"JSP Book", "NIN CD"})
	want(t, doc.Items, []string{"NIN CD"})
	if p := v.get(base); !strings.Contains(p.body, "<option selected>JSP Book</option>") {
		t.Error("the product looked at last is not selected in the drop-down")
	}
}

func TestBothContextPathsShareOneSession(t *testing.T) {
	v, server := newVisitor(t), open(t, config.Cart{}).URL
	v.do(server+"/cart/", add("Love life"))
	want(t, v.cart(server+"/Cart/").Items, []string{"Love life"})
	u, _ := url.Parse(server)
	cookies := v.c.Jar.Cookies(u)
	if len(cookies) != 1 {
		t.Errorf("%d cookies at /, want one", len(cookies))
	}
}

func TestDoorsLeadIntoTheShop(t *testing.T) {
	v, server := newVisitor(t), open(t, config.Cart{}).URL
	for from, to := range map[string]string{
		"/": "/cart/", "/cart": "/cart/", "/Cart": "/Cart/", "/?item=JSP+Book": "/cart/?item=JSP+Book",
	} {
		p := v.get(server + from)
		if p.StatusCode != http.StatusFound || p.Header.Get("Location") != to {
			t.Errorf("%s: status %d to %q, want 302 to %q", from, p.StatusCode, p.Header.Get("Location"), to)
		}
	}
	if p := v.get(server + "/nothing"); p.StatusCode != http.StatusNotFound {
		t.Errorf("/nothing: status %d", p.StatusCode)
	}
	root := open(t, config.Cart{Contexts: []string{""}}).URL // behind an ingress that rewrites every path to /
	v.do(root+"/", add("NIN CD"))
	want(t, v.cart(root+"/").Items, []string{"NIN CD"})
}

func TestLookingCostsNothing(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	p := v.get(base)
	if p.StatusCode != http.StatusOK || p.Header.Get("Set-Cookie") != "" {
		t.Errorf("status %d, cookie %t; want 200 and none", p.StatusCode, p.Header.Get("Set-Cookie") != "")
	}
	for _, text := range []string{"<title>Web sessions cart example</title>", "Items in Cart", "Current Server", "box-1"} {
		if !strings.Contains(p.body, text) {
			t.Errorf("the page lacks %q", text)
		}
	}
	want(t, v.cart(base).Session.ID, "")
}

func TestSessionDetails(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	v.do(base, add("NIN CD"))
	doc := v.cart(base)
	if doc.Session.ID == "" || doc.Server != "box-1" || doc.Session.ExpiresIn < 1700 || doc.Session.ExpiresIn > 1800 {
		t.Errorf("%+v", doc)
	}
	for _, at := range []string{doc.Session.Created, doc.Session.LastAccess} {
		if when, err := time.Parse(time.RFC3339, at); err != nil || time.Since(when).Abs() > time.Minute {
			t.Errorf("time %q: %v", at, err)
		}
	}
	u, _ := url.Parse(base)
	p := v.get(base)
	if !strings.Contains(p.body, doc.Session.ID) {
		t.Error("the page lacks the session's public id")
	}
	if secret := v.c.Jar.Cookies(u)[0].Value; strings.Contains(p.body, secret) {
		t.Error("the page shows the cookie's secret")
	}
}

func TestInvalidateEndsTheSession(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	v.do(base, add("NIN CD"))
	v.do(base, "invalidate=true")
	doc := v.cart(base)
	if doc.Session.ID != "" || len(doc.Items) > 0 {
		t.Errorf("after invalidate: %+v", doc)
	}
	v.do(base, "invalidate") // none there any more
}

func TestAnyAttribute(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	v.do(base, "key=colour&val=<b>blue</b>")
	want(t, v.cart(base).Attributes, map[string]string{"colour": "<b>blue</b>"})
	if p := v.get(base); strings.Contains(p.body, "<b>blue") || !strings.Contains(p.body, "&lt;b&gt;blue") {
		t.Error("a value is not escaped")
	}
	for _, query := range []string{
		"key=&val=x", "key=cart.items&val=x", "key=" + strings.Repeat("k", 65), "key=k&val=" + strings.Repeat("v", 1025),
	} {
		if p := v.get(base + "?" + query); p.StatusCode != http.StatusBadRequest {
			t.Errorf("%.40s: status %d, want 400", query, p.StatusCode)
		}
	}
	for i := range maxAttributes - 1 {
		v.do(base, fmt.Sprintf("key=k%d&val=x", i))
	}
	if p := v.get(base + "?key=another&val=x"); p.StatusCode != http.StatusBadRequest {
		t.Errorf("attribute %d: status %d, want 400", maxAttributes+1, p.StatusCode)
	}
	v.do(base, "key=colour&val=red")
}

func TestRefusals(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	for _, query := range []string{"item=Tank&submit=add", "item=NIN+CD&submit=steal", "item=" + strings.Repeat("x", 5000)} {
		p := v.get(base + "?" + query)
		if p.StatusCode != http.StatusBadRequest || !strings.Contains(p.body, "Back to the shop") || len(p.body) > 8<<10 {
			t.Errorf("%.40s: status %d, %d bytes", query, p.StatusCode, len(p.body))
		}
	}
	if doc := v.cart(base); doc.Session.ID != "" {
		t.Error("a refusal began a session")
	}
	resp, err := v.c.PostForm(base, url.Values{"item": {"NIN CD"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
		t.Errorf("POST: status %d", resp.StatusCode)
	}
}

func TestFullCart(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	for range maxItems {
		v.do(base, add("NIN CD"))
	}
	if p := v.get(base + "?" + add("NIN CD")); p.StatusCode != http.StatusBadRequest || !strings.Contains(p.body, "full") {
		t.Errorf("status %d", p.StatusCode)
	}
	want(t, len(v.cart(base).Items), maxItems)
}

func TestSwitchLinkKeepsTheBrowsersHost(t *testing.T) {
	sh := &shop{cfg: config.Cart{Contexts: []string{"/cart", "/Cart"}, PeerPort: 9082}}
	for host, link := range map[string]string{
		"localhost:9081": "//localhost:9082/Cart/", "192.0.2.7:9081": "//192.0.2.7:9082/Cart/",
		"[::1]:9081": "//[::1]:9082/Cart/", "shop.example.org": "//shop.example.org:9082/Cart/",
	} {
		r := httptest.NewRequest(http.MethodGet, "/Cart/", nil)
		r.Host = host
		want(t, sh.view(r, "/Cart").Peer, link)
	}
	v := newVisitor(t)
	if p := v.get(open(t, config.Cart{PeerPort: 9082}).URL + "/cart/"); !strings.Contains(p.body, `href="//127.0.0.1:9082/cart/"`) {
		t.Error("the page has no link to the other server")
	}
	if p := v.get(open(t, config.Cart{}).URL + "/cart/"); strings.Contains(p.body, "Go to:") {
		t.Error("a link to another server that is not there")
	}
}

// The style that the browser gets is the one whose hash the policy allows, and
// nothing else on the page would need another permission.
func TestPolicyAllowsThePageAndNothingElse(t *testing.T) {
	v, base := newVisitor(t), open(t, config.Cart{}).URL+"/cart/"
	v.do(base, add("NIN CD"))
	p := v.get(base)
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(p.body)
	if style == nil || !strings.Contains(p.Header.Get("Content-Security-Policy"), "'sha256-"+hash(style[1])+"'") {
		t.Error("the policy does not allow the page's style")
	}
	if found := regexp.MustCompile(`(?i)<script|\son\w+=|\sstyle=|javascript:`).FindString(p.body); found != "" {
		t.Errorf("the page needs %q", found)
	}
	for name, text := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
		if !slices.Contains(p.Header.Values(name), text) {
			t.Errorf("%s: %q", name, p.Header.Values(name))
		}
	}
}

func TestSpan(t *testing.T) {
	for d, text := range map[time.Duration]string{
		0: "0 s", 59 * time.Second: "59 s", 30 * time.Minute: "30 min 0 s", 90*time.Minute + time.Second: "1 h 30 min",
	} {
		want(t, span(d), text)
	}
}
